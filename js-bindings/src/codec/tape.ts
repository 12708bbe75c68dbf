/**
 * MessagePack payloads to values: WebAssembly checks the bytes and cuts them into
 * tokens (`wasm/src/tape.rs` has the layout), here they become objects.
 */

import { buildersOf, firstOf, type Builder } from './builder.js';
import { engineFor, piece, type Engine } from './engine.js';
import { Extension } from './extension.js';
import { DEFAULT_LIMITS } from './limits.js';
import { counts } from './metrics.js';
import { put, readMessagePack } from './read.js';
import { readChecked } from './text.js';

/** The upper halves of slots that are no float. */
export const tag = {
  INT: -65535,
  STR: -65534,
  BOOL: -65533,
  NIL: -65532,
  WIDE: -65531,
  NEXT: -65530,
  U64: -65529,
  I64: -65528,
  BIN: -65527,
  EXT: -65526,
  MAP: -65525,
  PART: -65524,
  INTS: -65523,
  FLOATS: -65522,
  STRS: -65521,
  MAPS: -65520,
  LIST: -65519,
} as const;

/** Where the reading of a tape is. Builders keep parts of it in variables. */
export class Cursor {
  engine: Engine;
  /** The slots as pairs of integers, and as floats. */
  I: Int32Array;
  F: Float64Array;
  builders: (Builder | undefined)[];
  /** The text of this piece, how much of it is taken, and which piece it is. */
  S = '';
  s = 0;
  piece = 0;
  /** The next slot, counted in halves. */
  p = FIRST;

  constructor(engine: Engine) {
    this.engine = engine;
    this.I = engine.I;
    this.F = engine.F;
    this.builders = engine.builders;
  }
}

/** Slots before the first token, counted in halves: two and the ends of 8 strings. */
const FIRST = 10;

let cursor: Cursor | undefined;

/** The cursor at the beginning of what the tokeniser has read. */
export function rewind(engine: Engine): Cursor {
  const c = (cursor ??= new Cursor(engine));
  c.engine = engine;
  c.I = engine.I;
  c.F = engine.F;
  c.builders = buildersOf(engine);
  c.S = piece(engine, 0);
  c.s = 0;
  c.piece = 0;
  c.p = FIRST;
  return c;
}

/** The value that these bytes stand for. @throws PayloadError */
export function readTape(bytes: Uint8Array, start: number, end: number): unknown {
  const length = end - start;
  const engine = engineFor(length);
  if (engine === undefined) return readPlain(bytes, start, end);
  engine.input.set(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end));
  if (engine.raw.payload(0, length) !== 0) return readPlain(bytes, start, end);
  engine.refresh();
  counts.decodedWasm++;
  return take(rewind(engine));
}

/**
 * What the tokeniser refuses: the other reader names what is wrong, or can do it
 * where only the tape was too short.
 */
export function readPlain(bytes: Uint8Array, start: number, end: number): unknown {
  return readMessagePack(bytes, start, end, DEFAULT_LIMITS.depth);
}

/** The value at the cursor, which then holds no text any more. */
export function take(c: Cursor): unknown {
  const result = value(c);
  c.S = '';
  return result;
}

/** The value at the cursor. */
export function value(c: Cursor): unknown {
  const { I, p } = c;
  const low = I[p]!;
  c.p = p + 2;
  switch (I[p + 1]!) {
    case tag.INT:
      return low;
    case tag.STR: {
      const from = c.s;
      c.s = low;
      return c.S.substring(from, low);
    }
    case tag.BOOL:
      return low === 1;
    case tag.NIL:
      return null;
    case tag.WIDE:
      c.p = p + 4;
      return readChecked(c.engine.input, low, low + I[p + 2]!);
    case tag.NEXT: {
      c.S = piece(c.engine, ++c.piece);
      c.s = low;
      return c.S.substring(0, low);
    }
    case tag.U64:
      c.p = p + 4;
      return (BigInt(I[p + 3]! >>> 0) << 32n) | BigInt(I[p + 2]! >>> 0);
    case tag.I64:
      c.p = p + 4;
      return (BigInt(I[p + 3]!) << 32n) | BigInt(I[p + 2]! >>> 0);
    case tag.BIN:
      c.p = p + 4;
      return bytesAt(c, low, I[p + 2]!);
    case tag.EXT:
      c.p = p + 4;
      return new Extension((I[p + 3]! << 24) >> 24, bytesAt(c, low, I[p + 2]!));
    case tag.MAP:
      return build(c, low);
    case tag.PART:
      return part(c, low);
    case tag.INTS:
      return ints(c, low);
    case tag.FLOATS:
      return floats(c, low);
    case tag.STRS:
      return strings(c, low);
    case tag.MAPS:
      return maps(c, low);
    case tag.LIST:
      return list(c, low);
    default:
      return c.F[p >> 1]!;
  }
}

/** Bytes of their own: the input is written over by the next payload. */
function bytesAt(c: Cursor, at: number, length: number): Uint8Array {
  return new Uint8Array(c.engine.input.subarray(at, at + length));
}

function build(c: Cursor, shape: number): Record<string, unknown> {
  const builder = c.builders[shape];
  return builder === undefined ? firstOf(c, shape) : builder(c);
}

function part(c: Cursor, shape: number): unknown {
  const object = build(c, shape);
  const left = value(c) as number;
  for (let i = 0; i < left; i++) {
    const key = value(c);
    if (typeof key !== 'string') return rest(c, object, key, left - i);
    put(object, key, value(c));
  }
  return object;
}

/** A map with a key that no property can have. */
function rest(c: Cursor, object: object, first: unknown, left: number): Map<unknown, unknown> {
  const map = new Map<unknown, unknown>(Object.entries(object));
  map.set(first, value(c));
  for (let i = 1; i < left; i++) {
    const key = value(c);
    map.set(key, value(c));
  }
  return map;
}

/** An array of this length. Long ones grow, so that they are no dictionaries. */
function room(length: number): unknown[] {
  return length > 0 && length <= 1 << 16 ? new Array<unknown>(length) : [];
}

function ints(c: Cursor, length: number): unknown[] {
  const array = room(length);
  const { I } = c;
  let p = c.p;
  for (let i = 0; i < length; i++, p += 2) array[i] = I[p];
  c.p = p;
  return array;
}

function floats(c: Cursor, length: number): unknown[] {
  const array = room(length);
  const { F } = c;
  let p = c.p >> 1;
  for (let i = 0; i < length; i++, p++) array[i] = F[p];
  c.p = p << 1;
  return array;
}

function strings(c: Cursor, length: number): unknown[] {
  const array = room(length);
  const { I, S } = c;
  let { p, s } = c;
  for (let i = 0; i < length; i++, p += 2) {
    const end = I[p]!;
    array[i] = S.substring(s, end);
    s = end;
  }
  c.p = p;
  c.s = s;
  return array;
}

function maps(c: Cursor, length: number): unknown[] {
  const array = room(length);
  const { I } = c;
  for (let i = 0; i < length; i++) {
    const shape = I[c.p]!;
    c.p += 2;
    array[i] = build(c, shape);
  }
  return array;
}

function list(c: Cursor, length: number): unknown[] {
  const array = room(length);
  const { I, F } = c;
  for (let i = 0; i < length; i++) {
    const { p } = c;
    const kind = I[p + 1]!;
    if (kind === tag.INT) {
      array[i] = I[p];
      c.p = p + 2;
    } else if (kind > tag.LIST || kind < tag.INT) {
      array[i] = F[p >> 1];
      c.p = p + 2;
    } else {
      array[i] = value(c);
    }
  }
  return array;
}
