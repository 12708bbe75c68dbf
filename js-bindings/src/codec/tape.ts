/**
 * MessagePack payloads to values.
 */

import { DEFAULT_LIMITS } from './limits.js';
import { readMessagePack } from './read.js';

/** The value that these bytes stand for. */
export function readTape(bytes: Uint8Array, start: number, end: number): unknown {
  return readMessagePack(bytes, start, end, DEFAULT_LIMITS.depth);
}
