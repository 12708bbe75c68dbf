/**
 * Frames of the codec, put together from records that were encoded one by one, and taken apart
 * again, so that one record that cannot be read costs no other.
 */

import { decode, decodeBatch, TransportError, type Event } from '../index.js';
import { asBuffer } from './words.js';

/** Bytes of a frame's header. */
export const FRAME_HEADER = 16;

/** Longest frame in bytes: the codec's limit. */
export const MAX_FRAME_LEN = 16 << 20;

const MAGIC = 0x425753c1;

/** Writes the header of a frame of so many records and so many bytes, itself included. */
export function writeFrameHeader(into: Buffer, at: number, count: number, length: number): void {
  into.writeUInt32LE(MAGIC, at);
  into.writeUInt32LE(1, at + 4);
  into.writeUInt32LE(count, at + 8);
  into.writeUInt32LE(length, at + 12);
}

/** What `encode` makes. @throws {@link TransportError} `unfit` */
export function fit<T>(encode: () => T): T {
  try {
    return encode();
  } catch (error) {
    throw TransportError.unfit(error as Error);
  }
}

/** The frame of one record. */
function frameOf(record: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER + record.length);
  writeFrameHeader(frame, 0, 1, frame.length);
  frame.set(record, FRAME_HEADER);
  return frame;
}

/** How many events a frame says it holds; `undefined` if it is none. */
export function frameCount(frame: Uint8Array): number | undefined {
  const bytes = asBuffer(frame);
  const whole =
    bytes.length >= FRAME_HEADER &&
    bytes.readUInt32LE(0) === MAGIC &&
    bytes.readUInt32LE(4) === 1 &&
    bytes.readUInt32LE(12) === bytes.length;
  return whole ? bytes.readUInt32LE(8) : undefined;
}

/**
 * Calls `each` for the first `count` events of a frame, with nothing for one that cannot be read;
 * ends where nothing can be found any more.
 */
export function readRecords(
  frame: Uint8Array,
  count: number,
  each: (event: Event | undefined) => void,
): void {
  const stated = frameCount(frame);
  if (stated === undefined) return;
  let events: Event[] | undefined;
  try {
    events = decodeBatch(frame);
  } catch {
    // One of them is bad: which?
  }
  if (events !== undefined) {
    for (let n = 0; n < Math.min(count, events.length); n += 1) each(events[n]);
    return;
  }
  const bytes = asBuffer(frame);
  let at = FRAME_HEADER;
  for (let n = 0; n < Math.min(count, stated); n += 1) {
    const length = at + 4 <= bytes.length ? bytes.readUInt32LE(at) : 0;
    if (length < 64 || at + length > bytes.length) return;
    each(readRecord(bytes.subarray(at, at + length)));
    at += length;
  }
}

function readRecord(record: Uint8Array): Event | undefined {
  return readFrame(frameOf(record));
}

/** The one event of a frame; `undefined` if it cannot be read. */
export function readFrame(frame: Uint8Array): Event | undefined {
  try {
    return decode(frame);
  } catch {
    return undefined;
  }
}
