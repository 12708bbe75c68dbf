/**
 * The memory that is written into. Small results are cut from a slab, as Node
 * does with small Buffers; large ones are written into a scratch buffer that is
 * kept, and copied out.
 */

import { allocate } from './text.js';

/** Bytes at the end that a writer may use before it must look for room again. */
export const GUARD = 512;

/** A kept result keeps at most this much memory alive. */
const SLAB = 32 << 10;
/** Results up to this size are cut from the slab. */
const SMALL = 4 << 10;
/** The scratch buffer begins with this, and is let go when it is longer than the second. */
const SCRATCH = 256 << 10;
const SCRATCH_KEPT = 4 << 20;

/** Thrown by a writer that needs more room; it is then called again with more. */
export const GROW: unique symbol = Symbol('grow');

/** Writes at `at`, returns the end. Throws {@link GROW} rather than come near the end. */
export type Write<A> = (bytes: Uint8Array, view: DataView, at: number, what: A) => number;

/** Memory that is a buffer of its own. */
class Region {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly buffer: ArrayBuffer;
  readonly view: DataView;

  constructor(length: number) {
    this.bytes = allocate(length);
    this.buffer = this.bytes.buffer;
    this.view = new DataView(this.buffer);
  }

  /** A part of it. Making one anew takes half as long as `subarray` of a Buffer. */
  part(start: number, end: number): Uint8Array {
    return new Uint8Array(this.buffer, start, end - start);
  }
}

let slab = new Region(SLAB);
let used = 0;
let scratch: Region | undefined;
/** Whether the last result was large: then the next one probably is. */
let large = false;
/** A payload's `toJSON` may write another event while one is being written. */
let busy = false;

/**
 * Runs a writer until it had room enough.
 *
 * @param limit the most bytes that can come of it. In 3 times as many, which a string may ask for
 * before it is written, it is tried for the last time; then `tooLong` is called, which throws.
 */
export function write<A>(
  writer: Write<A>,
  what: A,
  limit: number,
  tooLong: (limit: number) => never,
): Uint8Array {
  if (busy) return writeAside(writer, what, limit, tooLong);
  busy = true;
  try {
    if (!large) {
      if (used > SLAB - 2 * GUARD) renew();
      const start = used;
      try {
        const end = writer(slab.bytes, slab.view, start, what);
        if (end - start <= SMALL) {
          used = (end + 7) & ~7;
          return slab.part(start, end);
        }
        large = true;
        return copy(slab, start, end);
      } catch (error) {
        if (error !== GROW) throw error;
        // Most of what is left would not do for the next one either.
        if (start > SLAB / 2) used = SLAB;
      }
    }
    scratch ??= new Region(SCRATCH);
    const end = grow(writer, what, limit, tooLong);
    large = end > SMALL;
    const result = copy(scratch, 0, end);
    if (scratch.bytes.length > SCRATCH_KEPT) scratch = undefined;
    return result;
  } finally {
    busy = false;
  }
}

function grow<A>(
  writer: Write<A>,
  what: A,
  limit: number,
  tooLong: (limit: number) => never,
): number {
  const most = 3 * limit + SCRATCH;
  for (;;) {
    try {
      return writer(scratch!.bytes, scratch!.view, 0, what);
    } catch (error) {
      if (error !== GROW) throw error;
      const len = scratch!.bytes.length;
      if (len >= most) {
        scratch = undefined;
        tooLong(limit);
      }
      scratch = new Region(Math.min(2 * len, most));
    }
  }
}

/** With memory of its own, while the rest is in use. */
function writeAside<A>(
  writer: Write<A>,
  what: A,
  limit: number,
  tooLong: (limit: number) => never,
): Uint8Array {
  const outer = { slab, used, scratch, large };
  scratch = new Region(SCRATCH);
  try {
    const end = grow(writer, what, limit, tooLong);
    return copy(scratch, 0, end);
  } finally {
    ({ slab, used, scratch, large } = outer);
  }
}

function copy(from: Region, start: number, end: number): Uint8Array {
  const result = allocate(end - start);
  result.set(from.part(start, end));
  return result;
}

/** What {@link stage} copied to, until something else is written. */
export let staged: Uint8Array = slab.bytes;
export let stagedView: DataView = slab.view;

/**
 * Copies bytes to where a small result would be made, with room for so many more; returns where
 * they begin there, -1 when they are not small.
 */
export function stage(bytes: Uint8Array, more: number): number {
  const len = bytes.length + more;
  if (len > SMALL || busy) return -1;
  if (used + len > SLAB) renew();
  staged = slab.bytes;
  stagedView = slab.view;
  staged.set(bytes, used);
  return used;
}

/** The first bytes of what was staged are the result. */
export function unstage(len: number): Uint8Array {
  const start = used;
  used = (start + len + 7) & ~7;
  return slab.part(start, start + len);
}

/** Room for exactly `len` bytes, with unspecified contents. */
export function reserve(len: number): Uint8Array {
  if (len > SMALL || busy) return allocate(len);
  if (used + len > SLAB) renew();
  return unstage(len);
}

function renew(): void {
  slab = new Region(SLAB);
  used = 0;
}
