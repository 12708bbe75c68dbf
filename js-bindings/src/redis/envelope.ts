/**
 * {@link Envelope}: the 32 bytes in front of a frame, on pub/sub channels. Their layout is in
 * `crates/redis/src/envelope.rs`.
 */

import { asBuffer, countAt, wordAt, wordToBytes, writeCount } from './words.js';

/** Bytes in front of a frame. */
export const ENVELOPE_LEN = 32;

/** Events of one frame: the codec's limit. */
const MAX_EVENTS = 65_536;

const MAGIC = 0x525753c1;
const VERSION = 1;

export type Kind = 'live' | 'position' | 'durable';

const KINDS: readonly (Kind | undefined)[] = [undefined, 'live', 'position', 'durable'];

/** What is said in front of a frame. */
export interface Envelope {
  readonly kind: Kind;
  /** Of live messages the number of the publisher, of durable ones the epoch. */
  readonly origin: string;
  /** The number of the first event, from 1; of a position, of the next event. */
  readonly first: number;
  /** Events in the frame; 0 of a position. */
  readonly count: number;
  /**
   * Of live messages: milliseconds since the publisher began to number this channel. Of durable
   * ones the term.
   */
  readonly age: number;
}

export function writeEnvelope(envelope: Envelope, into: Buffer): void {
  into.writeUInt32LE(MAGIC, 0);
  into[4] = VERSION;
  into[5] = KINDS.indexOf(envelope.kind);
  into[6] = 0;
  into[7] = 0;
  into.set(wordToBytes(envelope.origin), 8);
  writeCount(into, 16, envelope.first);
  into.writeUInt32LE(envelope.count, 24);
  into.writeUInt32LE(Math.min(envelope.age, 0xffff_ffff), 28);
}

/** Reads what a stranger may have sent; `undefined` if that is no message of ours, or not whole. */
export function readEnvelope(message: Uint8Array): Envelope | undefined {
  const bytes = asBuffer(message);
  if (bytes.length < ENVELOPE_LEN || bytes.readUInt32LE(0) !== MAGIC || bytes[4] !== VERSION)
    return undefined;
  const kind = KINDS[bytes[5] as number];
  const first = countAt(bytes, 16);
  const count = bytes.readUInt32LE(24);
  if (kind === undefined || first === undefined || first === 0 || bytes.readUInt16LE(6) !== 0)
    return undefined;
  const fits =
    kind === 'position'
      ? count === 0 && bytes.length === ENVELOPE_LEN
      : count >= 1 && count <= MAX_EVENTS;
  if (!fits || !Number.isSafeInteger(first + count)) return undefined;
  return { kind, origin: wordAt(bytes, 8), first, count, age: bytes.readUInt32LE(28) };
}
