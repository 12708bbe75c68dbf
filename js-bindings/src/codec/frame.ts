/**
 * Frames: finding the events in one, and finding frames in a stream of bytes.
 */

import { DecodeError } from './error.js';
import { FRAME_HEADER, MAGIC, RECORD_HEADER, VERSION, frame, record } from './layout.js';
import { DEFAULT_LIMITS, limitsOf, type Limits } from './limits.js';
import { EventView, u16, u32 } from './view.js';

/**
 * The first event of a frame, at the least possible cost: for routing and
 * forwarding by header. The payload is not looked at.
 *
 * @throws DecodeError when the header of the frame or of that event is
 * malformed, or the frame's length is not that of the bytes.
 */
export function peek(bytes: Uint8Array): EventView {
  whole(bytes, DEFAULT_LIMITS);
  return new EventView(
    bytes,
    FRAME_HEADER,
    recordEnd(bytes, FRAME_HEADER, bytes.length, DEFAULT_LIMITS),
    DEFAULT_LIMITS,
  );
}

/**
 * Views of all events of a frame.
 *
 * @throws DecodeError when one of them is malformed: then none is returned.
 */
export function peekBatch(
  bytes: Uint8Array,
  options?: { readonly limits?: Partial<Limits> | undefined },
): EventView[] {
  const limits = limitsOf(options?.limits);
  const count = whole(bytes, limits);
  const views: EventView[] = [];
  let at = FRAME_HEADER;
  for (let i = 0; i < count; i++) {
    const end = recordEnd(bytes, at, bytes.length, limits);
    views.push(new EventView(bytes, at, end, limits));
    at = end;
  }
  trailing(bytes, at);
  return views;
}

/** @throws DecodeError when the last record ends before the frame. */
export function trailing(bytes: Uint8Array, end: number): void {
  if (end !== bytes.length) {
    throw new DecodeError('trailing_bytes', `${bytes.length - end} bytes follow the last event`);
  }
}

/** Where the record that begins at `at` ends. */
export function recordEnd(bytes: Uint8Array, at: number, end: number, limits: Limits): number {
  const have = end - at;
  const len = have < 4 ? 0 : u32(bytes, at + record.LEN);
  if (len > limits.recordLen) {
    throw new DecodeError(
      'record_too_long',
      `the event takes ${len} bytes, the limit is ${limits.recordLen}`,
    );
  }
  if (len < RECORD_HEADER || len > have) {
    throw new DecodeError(
      'record_length',
      `a record states ${len} bytes, ${have} are left in the frame`,
    );
  }
  return at + len;
}

/** Checks the header, and that the bytes are exactly the frame it announces; returns the number of events. */
export function whole(bytes: Uint8Array, limits: Limits): number {
  const len = frameLength(bytes, limits);
  if (len === undefined || bytes.length < len) {
    throw new DecodeError(
      'truncated',
      `the frame needs ${len ?? FRAME_HEADER} bytes, there are ${bytes.length}`,
    );
  }
  if (bytes.length > len) {
    throw new DecodeError('trailing_bytes', `${bytes.length - len} bytes follow the frame`);
  }
  return u32(bytes, frame.COUNT);
}

/** Other things than bytes are a mistake in the program, and no news of a stranger's. */
function checkBytes(bytes: unknown): void {
  if (ArrayBuffer.isView(bytes) && (bytes as Uint8Array).BYTES_PER_ELEMENT === 1) return;
  const kind = Object.prototype.toString.call(bytes).slice(8, -1);
  throw new TypeError(`frames are read from a Uint8Array, not from ${kind}`);
}

/**
 * How long the frame is that these bytes begin with; `undefined` when there are
 * too few to tell. The frame itself need not be complete.
 *
 * @throws DecodeError as soon as the bytes cannot be the beginning of a frame.
 */
export function frameLength(
  bytes: Uint8Array,
  limits: Limits = DEFAULT_LIMITS,
): number | undefined {
  if (!(bytes?.length >= FRAME_HEADER)) {
    checkBytes(bytes);
    for (let i = 0; i < 4 && i < bytes.length; i++) {
      if (bytes[i] !== ((MAGIC >>> (8 * i)) & 0xff))
        throw new DecodeError('magic', 'not a swarmbus frame');
    }
    return undefined;
  }
  if (u32(bytes, 0) !== MAGIC) {
    checkBytes(bytes);
    throw new DecodeError('magic', 'not a swarmbus frame');
  }
  const version = u16(bytes, frame.VERSION);
  if (version !== VERSION) {
    throw new DecodeError(
      'version',
      `the frame has version ${version}, this reader knows version ${VERSION}`,
    );
  }
  const flags = u16(bytes, frame.FLAGS);
  if (flags !== 0) throw new DecodeError('frame_flags', `the frame has unknown flags ${flags}`);
  const count = u32(bytes, frame.COUNT);
  const len = u32(bytes, frame.LEN);
  if (count === 0) throw new DecodeError('empty_frame', 'a frame holds at least one event');
  if (len > limits.frameLen) {
    throw new DecodeError(
      'frame_too_long',
      `the frame has ${len} bytes, the limit is ${limits.frameLen}`,
    );
  }
  if (count > limits.events) {
    throw new DecodeError(
      'too_many_events',
      `the frame has ${count} events, the limit is ${limits.events}`,
    );
  }
  if (count * RECORD_HEADER > len - FRAME_HEADER) {
    throw new DecodeError('count', `a frame of ${len} bytes cannot hold ${count} events`);
  }
  return len;
}

/**
 * Collects what a connection delivers and hands out whole frames.
 *
 * Room is taken for bytes that have arrived, never for bytes that a header
 * announces. Take all frames after each {@link push}, and the reader holds less
 * than one frame and one delivery.
 */
export class FrameReader {
  private readonly limits: Limits;
  /** What arrived, in pieces, so that a long frame is copied once. */
  private pieces: Uint8Array[] = [];
  private have = 0;
  private wanted = FRAME_HEADER;

  constructor(limits?: Partial<Limits>) {
    this.limits = limitsOf(limits);
  }

  /** Adds what arrived. The bytes are kept, not copied: the caller must not change them. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.pieces.push(bytes);
    this.have += bytes.length;
  }

  /**
   * The next whole frame; `undefined` until more bytes arrive.
   *
   * @throws DecodeError when the stream does not continue with a frame. Where
   * the next one begins cannot be known, so the error repeats until {@link clear}.
   */
  next(): Uint8Array | undefined {
    // A made-up first byte is seen at once, and waits for no header.
    if (this.have < this.wanted && this.have >= FRAME_HEADER) return undefined;
    if (this.have === 0) return undefined;
    if (this.have < FRAME_HEADER) {
      frameLength(this.joined(), this.limits);
      return undefined;
    }
    if (this.pieces[0]!.length < FRAME_HEADER) this.joined();
    const len = frameLength(this.pieces[0]!, this.limits)!;
    this.wanted = len;
    if (this.have < len) return undefined;
    const bytes = this.pieces[0]!.length < len ? this.joined() : this.pieces[0]!;
    if (bytes.length === len) this.pieces.shift();
    else this.pieces[0] = bytes.subarray(len);
    this.have -= len;
    this.wanted = FRAME_HEADER;
    return bytes.subarray(0, len);
  }

  /** Bytes that arrived and were not handed out. */
  get pending(): number {
    return this.have;
  }

  /** Forgets what is pending, to begin anew on another connection. */
  clear(): void {
    this.pieces = [];
    this.have = 0;
    this.wanted = FRAME_HEADER;
  }

  private joined(): Uint8Array {
    if (this.pieces.length > 1) {
      const all = new Uint8Array(this.have);
      let at = 0;
      for (const piece of this.pieces) {
        all.set(piece, at);
        at += piece.length;
      }
      this.pieces = [all];
    }
    return this.pieces[0]!;
  }
}
