/**
 * MessagePack payloads to values: WebAssembly checks the bytes and cuts them into
 * tokens (`wasm/src/tape.rs` has the layout), here they become objects.
 */

import { checkBuilders, firstOf } from './builder.js';
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

/** Slots before the first token, counted in halves: two and the ends of 8 strings. */
const FIRST = 10;

/** Begins with what the tokeniser has read; returns the first piece of its text. */
export function rewind(c: Engine): string {
  checkBuilders(c);
  c.piece = 0;
  c.s = 0;
  c.p = FIRST;
  return piece(c, 0);
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
  return take(engine, rewind(engine));
}

/**
 * What the tokeniser refuses: the other reader names what is wrong, or can do it
 * where only the tape was too short.
 */
export function readPlain(bytes: Uint8Array, start: number, end: number): unknown {
  return readMessagePack(bytes, start, end, DEFAULT_LIMITS.depth);
}

/** All of the tape as a value. `S` is the first piece of text. */
export function take(c: Engine, S: string): unknown {
  const result = value(c, S);
  // No text is kept.
  if (c.piece !== 0) c.S = '';
  return result;
}

/**
 * The next value on the tape. The first piece of text is mostly the only one: it is handed on as
 * `S`, as storing it anew for each event costs the garbage collector something.
 */
export function value(c: Engine, S: string): unknown {
  const { I, p } = c;
  const low = I[p]!;
  c.p = p + 2;
  switch (I[p + 1]!) {
    case tag.INT:
      return low;
    case tag.STR: {
      const from = c.s;
      c.s = low;
      return (c.piece === 0 ? S : c.S).substring(from, low);
    }
    case tag.BOOL:
      return low === 1;
    case tag.NIL:
      return null;
    case tag.WIDE:
      c.p = p + 4;
      return readChecked(c.input, low, low + I[p + 2]!);
    case tag.NEXT: {
      c.S = piece(c, ++c.piece);
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
      return build(c, S, low);
    case tag.PART:
      return part(c, S, low);
    case tag.INTS:
      return ints(c, low);
    case tag.FLOATS:
      return floats(c, low);
    case tag.STRS:
      return strings(c, S, low);
    case tag.MAPS:
      return maps(c, S, low);
    case tag.LIST:
      return list(c, S, low);
    default:
      return c.F[p >> 1]!;
  }
}

/** Bytes of their own: the input is written over by the next payload. */
function bytesAt(c: Engine, at: number, length: number): Uint8Array {
  return new Uint8Array(c.input.subarray(at, at + length));
}

function build(c: Engine, S: string, shape: number): Record<string, unknown> {
  const builder = c.builders[shape];
  return builder === undefined ? firstOf(c, S, shape) : builder(c, S);
}

function part(c: Engine, S: string, shape: number): unknown {
  const object = build(c, S, shape);
  const left = value(c, S) as number;
  for (let i = 0; i < left; i++) {
    const key = value(c, S);
    if (typeof key !== 'string') return rest(c, S, object, key, left - i);
    put(object, key, value(c, S));
  }
  return object;
}

/** A map with a key that no property can have. */
function rest(
  c: Engine,
  S: string,
  object: object,
  first: unknown,
  left: number,
): Map<unknown, unknown> {
  const map = new Map<unknown, unknown>(Object.entries(object));
  map.set(first, value(c, S));
  for (let i = 1; i < left; i++) {
    const key = value(c, S);
    map.set(key, value(c, S));
  }
  return map;
}

/** An array of this length. Long ones grow, so that they are no dictionaries. */
function room(length: number): unknown[] {
  return length > 0 && length <= 1 << 16 ? new Array<unknown>(length) : [];
}

function ints(c: Engine, length: number): unknown[] {
  const array = room(length);
  const { I } = c;
  let p = c.p;
  for (let i = 0; i < length; i++, p += 2) array[i] = I[p];
  c.p = p;
  return array;
}

function floats(c: Engine, length: number): unknown[] {
  const array = room(length);
  const { F } = c;
  let p = c.p >> 1;
  for (let i = 0; i < length; i++, p++) array[i] = F[p];
  c.p = p << 1;
  return array;
}

function strings(c: Engine, S: string, length: number): unknown[] {
  const array = room(length);
  const { I } = c;
  const text = c.piece === 0 ? S : c.S;
  let { p, s } = c;
  for (let i = 0; i < length; i++, p += 2) {
    const end = I[p]!;
    array[i] = text.substring(s, end);
    s = end;
  }
  c.p = p;
  c.s = s;
  return array;
}

function maps(c: Engine, S: string, length: number): unknown[] {
  const array = room(length);
  const { I } = c;
  for (let i = 0; i < length; i++) {
    const shape = I[c.p]!;
    c.p += 2;
    array[i] = build(c, S, shape);
  }
  return array;
}

function list(c: Engine, S: string, length: number): unknown[] {
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
      array[i] = value(c, S);
    }
  }
  return array;
}
