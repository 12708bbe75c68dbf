/**
 * Values to MessagePack.
 *
 * | value | becomes | comes back as |
 * | --- | --- | --- |
 * | integer up to 2^53 | the shortest integer | number |
 * | other number, NaN, infinities, -0 | float 64 | the same number |
 * | bigint within 64 bits | the shortest integer | number up to 2^53, else bigint |
 * | string | str, a lone surrogate as U+FFFD | string |
 * | null; undefined in an array | nil | null |
 * | undefined in an object | nothing, as in JSON | |
 * | array, whatever methods it has; Set | array | array |
 * | object | map of its own enumerable properties with string keys | object |
 * | Map | map, keys of any kind | object, or Map if a key is no string |
 * | typed array, Buffer, DataView, ArrayBuffer | bin, its bytes | Uint8Array: see `typedArray` |
 * | Extension | ext | Extension |
 * | other object with `toJSON`, so Date | what that returns, nil for nothing | |
 * | Number, String, Boolean, BigInt objects | their value | |
 * | function, symbol | EncodeError `unsupported` | |
 */

import { EncodeError } from './error.js';
import { Extension } from './extension.js';
import { GROW, GUARD, write } from './memory.js';
import { DEFAULT_LIMITS } from './limits.js';
import { learn, tryMany } from './shape.js';
import { Site } from './site.js';
import { writeUtf8 } from './text.js';

/** Deepest nesting of what is being written. */
let maxDepth = DEFAULT_LIMITS.depth;
let depth = 0;

/** Thrown where nesting goes too deep; {@link tooDeep} finds out why. */
export const DEEP: unique symbol = Symbol('deep');

/** Before a value, with the limit for it. */
export function begin(limit: number): void {
  depth = 0;
  maxDepth = limit;
}

/** The error for {@link DEEP}. */
export function tooDeep(value: unknown, limit: number): EncodeError {
  return refersToItself(value, limit)
    ? new EncodeError('cyclic', 'the payload refers to itself')
    : new EncodeError('too_deep', `the payload nests deeper than ${limit} levels`);
}

/** Whether a value that was too deep, or at least `limit` deep, is so because of a cycle. */
export function refersToItself(value: unknown, limit: number): boolean {
  try {
    return isCyclic(value, limit, []) === true;
  } catch {
    // A getter that threw only this time.
    return false;
  }
}

/** Takes the same way as the writer took, to the first value that lies too deep. */
function isCyclic(value: unknown, limit: number, path: object[]): boolean | undefined {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return undefined;
  if (path.includes(value)) return true;
  if (path.length > limit) return false;
  path.push(value);
  const inner: unknown[] | IterableIterator<unknown> =
    value instanceof Map
      ? [...value].flat()
      : value instanceof Set
        ? [...value]
        : Object.values(value);
  for (const child of inner) {
    const found = isCyclic(child, limit, path);
    if (found !== undefined) return found;
  }
  path.pop();
  return undefined;
}

/** A value as MessagePack by itself. */
export function writeMessagePack(value: unknown): Uint8Array {
  const limit = DEFAULT_LIMITS.recordLen;
  try {
    return write(writeRoot, value, limit, () => {
      throw new EncodeError('record_too_long', `the value takes more than ${limit} bytes`);
    });
  } catch (error) {
    throw encodeError(error, value, DEFAULT_LIMITS.depth);
  }
}

const root = new Site();

function writeRoot(b: Uint8Array, dv: DataView, p: number, value: unknown): number {
  begin(DEFAULT_LIMITS.depth);
  if (p > b.length - GUARD) throw GROW;
  return writeAny(b, dv, p, value, root);
}

/** What a caller gets to see of whatever was thrown. */
export function encodeError(error: unknown, value: unknown, limit: number): EncodeError {
  if (error instanceof EncodeError) return error;
  if (error === DEEP) return tooDeep(value, limit);
  return new EncodeError('payload', 'the payload could not be read', { cause: error });
}

/** The longest string that is written by its characters: a call costs more than those. */
const SHORT = 31;

/**
 * A string. The function is too long for V8 to copy it into the writers of shapes, which are then
 * compiled in half the time.
 */
export function writeString(b: Uint8Array, dv: DataView, p: number, text: string): number {
  const n = text.length;
  if (n > SHORT) return writeLong(b, dv, p, text);
  let q = p + 1;
  let i = 0;
  for (; i + 4 <= n; i += 4, q += 4) {
    const first = text.charCodeAt(i);
    const second = text.charCodeAt(i + 1);
    const third = text.charCodeAt(i + 2);
    const fourth = text.charCodeAt(i + 3);
    if ((first | second | third | fourth) > 127) break;
    dv.setInt32(q, first | (second << 8) | (third << 16) | (fourth << 24), true);
  }
  for (; i < n; i++) {
    let unit = text.charCodeAt(i);
    if (unit < 0x80) {
      b[q++] = unit;
      continue;
    }
    if (unit < 0x800) {
      b[q] = 0xc0 | (unit >> 6);
      b[q + 1] = 0x80 | (unit & 0x3f);
      q += 2;
      continue;
    }
    if ((unit & 0xf800) === 0xd800) {
      const next = unit < 0xdc00 && i + 1 < n ? text.charCodeAt(i + 1) : 0;
      if ((next & 0xfc00) === 0xdc00) {
        const point = 0x10000 + ((unit & 0x3ff) << 10) + (next & 0x3ff);
        b[q] = 0xf0 | (point >> 18);
        b[q + 1] = 0x80 | ((point >> 12) & 0x3f);
        b[q + 2] = 0x80 | ((point >> 6) & 0x3f);
        b[q + 3] = 0x80 | (point & 0x3f);
        q += 4;
        i++;
        continue;
      }
      unit = 0xfffd;
    }
    b[q] = 0xe0 | (unit >> 12);
    b[q + 1] = 0x80 | ((unit >> 6) & 0x3f);
    b[q + 2] = 0x80 | (unit & 0x3f);
    q += 3;
  }
  const len = q - p - 1;
  if (len < 32) {
    b[p] = 0xa0 | len;
    return q;
  }
  b.copyWithin(p + 2, p + 1, q);
  b[p] = 0xd9;
  b[p + 1] = len;
  return q + 1;
}

function writeLong(b: Uint8Array, dv: DataView, p: number, text: string): number {
  const n = text.length;
  if (p + 5 + 3 * n > b.length) throw GROW;
  const head = n < 256 ? 2 : n < 65536 ? 3 : 5;
  const len = writeUtf8(b, p + head, text);
  const real = len < 256 ? 2 : len < 65536 ? 3 : 5;
  if (real !== head) b.copyWithin(p + real, p + head, p + head + len);
  if (real === 2) dv.setUint16(p, 0xd900 | len);
  else if (real === 3) {
    b[p] = 0xda;
    dv.setUint16(p + 1, len);
  } else {
    b[p] = 0xdb;
    dv.setUint32(p + 1, len);
  }
  return p + real + len;
}

export function writeNumber(b: Uint8Array, dv: DataView, p: number, v: number): number {
  if ((v | 0) === v && (v !== 0 || 1 / v > 0)) {
    if (v >= 0) {
      if (v < 128) {
        b[p] = v;
        return p + 1;
      }
      if (v < 256) {
        b[p] = 0xcc;
        b[p + 1] = v;
        return p + 2;
      }
      if (v < 65536) {
        b[p] = 0xcd;
        b[p + 1] = v >> 8;
        b[p + 2] = v;
        return p + 3;
      }
      b[p] = 0xce;
      dv.setInt32(p + 1, v);
      return p + 5;
    }
    if (v >= -32) {
      b[p] = v;
      return p + 1;
    }
    if (v >= -128) {
      b[p] = 0xd0;
      b[p + 1] = v;
      return p + 2;
    }
    if (v >= -32768) {
      b[p] = 0xd1;
      dv.setInt16(p + 1, v);
      return p + 3;
    }
    b[p] = 0xd2;
    dv.setInt32(p + 1, v);
    return p + 5;
  }
  return writeWide(b, dv, p, v);
}

/** No integer of 32 bits. */
function writeWide(b: Uint8Array, dv: DataView, p: number, v: number): number {
  if (!Number.isSafeInteger(v) || v === 0) {
    b[p] = 0xcb;
    dv.setFloat64(p + 1, v);
    return p + 9;
  }
  if (v >= 0 && v <= 0xffff_ffff) {
    b[p] = 0xce;
    dv.setUint32(p + 1, v);
    return p + 5;
  }
  b[p] = v > 0 ? 0xcf : 0xd3;
  dv.setInt32(p + 1, Math.floor(v / 4_294_967_296));
  dv.setUint32(p + 5, v >>> 0);
  return p + 9;
}

function writeBigInt(b: Uint8Array, dv: DataView, p: number, v: bigint): number {
  if (v >= Number.MIN_SAFE_INTEGER && v <= Number.MAX_SAFE_INTEGER)
    return writeNumber(b, dv, p, Number(v));
  if (v > 0xffff_ffff_ffff_ffffn || v < -0x8000_0000_0000_0000n) {
    throw new EncodeError('unsupported', 'a bigint beyond 64 bits has no form on the wire');
  }
  b[p] = v > 0n ? 0xcf : 0xd3;
  dv.setBigUint64(p + 1, BigInt.asUintN(64, v));
  return p + 9;
}

/** Any value. There must be GUARD bytes of room. */
export function writeAny(
  b: Uint8Array,
  dv: DataView,
  p: number,
  v: unknown,
  site: Site | null,
): number {
  if (typeof v === 'string') return writeString(b, dv, p, v);
  if (typeof v === 'number') return writeNumber(b, dv, p, v);
  if (typeof v === 'object' && v !== null) {
    if (++depth > maxDepth) throw DEEP;
    const end = Array.isArray(v) ? writeArray(b, dv, p, v, site) : writeShaped(b, dv, p, v, site);
    depth--;
    return end;
  }
  if (v === true) b[p] = 0xc3;
  else if (v === false) b[p] = 0xc2;
  else if (v === null || v === undefined) b[p] = 0xc0;
  else if (typeof v === 'bigint') return writeBigInt(b, dv, p, v);
  else throw new EncodeError('unsupported', `a ${typeof v} has no form on the wire`);
  return p + 1;
}

function writeArray(
  b: Uint8Array,
  dv: DataView,
  p: number,
  a: readonly unknown[],
  site: Site | null,
): number {
  const n = a.length;
  p = writeHead(b, dv, p, n, 0x90, 0xdc);
  const room = b.length - GUARD;
  const inner = site === null ? null : (site.element ??= new Site());
  let i = 0;
  if (n > 0 && typeof a[0] === 'number') {
    p = writeNumbers(b, dv, p, a);
    i = numbers;
  }
  for (; i < n; i++) {
    if (p > room) throw GROW;
    const v = a[i];
    if (typeof v === 'string') p = writeString(b, dv, p, v);
    else p = writeAny(b, dv, p, v, inner);
  }
  return p;
}

/** How many {@link writeNumbers} has written. */
let numbers = 0;

/**
 * The numbers that an array begins with. In a loop that sees nothing else, V8 makes no object of
 * each float.
 */
function writeNumbers(b: Uint8Array, dv: DataView, p: number, a: readonly unknown[]): number {
  const n = a.length;
  const room = b.length - GUARD;
  let i = 0;
  for (; i < n; i++) {
    if (p > room) throw GROW;
    const v = a[i];
    if (typeof v !== 'number') break;
    p = writeNumber(b, dv, p, v);
  }
  numbers = i;
  return p;
}

/** The head of an array (0x90, 0xdc) or a map (0x80, 0xde) of n entries. */
function writeHead(
  b: Uint8Array,
  dv: DataView,
  p: number,
  n: number,
  fix: number,
  wide: number,
): number {
  if (n < 16) {
    b[p] = fix | n;
    return p + 1;
  }
  if (n < 65536) {
    b[p] = wide;
    dv.setUint16(p + 1, n);
    return p + 3;
  }
  b[p] = wide + 1;
  dv.setUint32(p + 1, n);
  return p + 5;
}

/** An object by the writer of its shape, if there is one. */
function writeShaped(b: Uint8Array, dv: DataView, p: number, o: object, site: Site | null): number {
  if (site !== null && site.first !== null) {
    let end = site.first.write(b, dv, p, o);
    if (end >= 0) return end;
    if (site.second !== null) {
      end = site.second.write(b, dv, p, o);
      if (end >= 0) {
        const other = site.first;
        site.first = site.second;
        site.second = other;
        return end;
      }
      if (site.many !== null) {
        end = tryMany(site.many, b, dv, p, o);
        if (end >= 0) return end;
      }
    }
  }
  return writeObject(b, dv, p, o, site);
}

function writeObject(b: Uint8Array, dv: DataView, p: number, o: object, site: Site | null): number {
  const proto: unknown = Object.getPrototypeOf(o);
  const toJSON = (o as { toJSON?: unknown }).toJSON;
  if (typeof toJSON === 'function' && !ArrayBuffer.isView(o)) {
    // It may write another payload meanwhile.
    const [outer, limit] = [depth, maxDepth];
    const v: unknown = toJSON.call(o, '');
    [depth, maxDepth] = [outer, limit];
    if (v !== o) return writeAny(b, dv, p, v, null);
  } else if (proto !== Object.prototype && proto !== null) {
    const end = writeKnown(b, dv, p, o, site);
    if (end >= 0) return end;
  }
  const keys = Object.keys(o);
  const shape = site === null || typeof toJSON === 'function' ? null : learn(site, o, proto, keys);
  if (shape !== null) {
    const end = shape.write(b, dv, p, o);
    if (end >= 0) return end;
  }
  const n = keys.length;
  const start = p;
  p = writeHead(b, dv, p, n, 0x80, 0xde);
  const room = b.length - GUARD;
  let absent = 0;
  for (const key of keys) {
    if (p > room) throw GROW;
    const v = (o as Record<string, unknown>)[key];
    if (v === undefined) {
      absent++;
      continue;
    }
    p = writeString(b, dv, p, key);
    if (p > room) throw GROW;
    p = writeAny(b, dv, p, v, null);
  }
  if (absent > 0) recount(b, dv, start, n, n - absent);
  return p;
}

/** Sets the number of entries of a map whose head has room for `n`. */
export function recount(b: Uint8Array, dv: DataView, p: number, n: number, count: number): void {
  if (n < 16) b[p] = 0x80 | count;
  else if (n < 65536) dv.setUint16(p + 1, count);
  else dv.setUint32(p + 1, count);
}

/** Objects with a rule of their own; -1 for all others. */
function writeKnown(b: Uint8Array, dv: DataView, p: number, o: object, site: Site | null): number {
  if (ArrayBuffer.isView(o))
    return writeBin(b, dv, p, new Uint8Array(o.buffer, o.byteOffset, o.byteLength));
  if (o instanceof Map) return writeMap(b, dv, p, o);
  if (o instanceof Set) return writeArray(b, dv, p, [...o], site);
  if (o instanceof ArrayBuffer) return writeBin(b, dv, p, new Uint8Array(o));
  if (o instanceof Extension) return writeExtension(b, dv, p, o);
  if (o instanceof Number || o instanceof String || o instanceof Boolean || o instanceof BigInt) {
    return writeAny(b, dv, p, o.valueOf(), null);
  }
  if (typeof SharedArrayBuffer !== 'undefined' && o instanceof SharedArrayBuffer) {
    return writeBin(b, dv, p, new Uint8Array(o));
  }
  return -1;
}

function writeMap(
  b: Uint8Array,
  dv: DataView,
  p: number,
  map: ReadonlyMap<unknown, unknown>,
): number {
  p = writeHead(b, dv, p, map.size, 0x80, 0xde);
  const room = b.length - GUARD;
  let left = map.size;
  for (const [key, v] of map) {
    if (--left < 0) break;
    if (p > room) throw GROW;
    p = writeAny(b, dv, p, key, null);
    if (p > room) throw GROW;
    p = writeAny(b, dv, p, v, null);
  }
  if (left !== 0) throw new EncodeError('payload', 'a Map changed while it was written');
  return p;
}

function writeBin(b: Uint8Array, dv: DataView, p: number, bytes: Uint8Array): number {
  const n = bytes.length;
  if (p + n > b.length - GUARD) throw GROW;
  if (n < 256) {
    b[p] = 0xc4;
    b[p + 1] = n;
    p += 2;
  } else if (n < 65536) {
    b[p] = 0xc5;
    dv.setUint16(p + 1, n);
    p += 3;
  } else {
    b[p] = 0xc6;
    dv.setUint32(p + 1, n);
    p += 5;
  }
  b.set(bytes, p);
  return p + n;
}

function writeExtension(b: Uint8Array, dv: DataView, p: number, { type, data }: Extension): number {
  const n = data.length;
  if (p + n > b.length - GUARD) throw GROW;
  const fixed = [1, 2, 4, 8, 16].indexOf(n);
  if (fixed >= 0) {
    b[p] = 0xd4 + fixed;
    p += 1;
  } else if (n < 256) {
    b[p] = 0xc7;
    b[p + 1] = n;
    p += 2;
  } else if (n < 65536) {
    b[p] = 0xc8;
    dv.setUint16(p + 1, n);
    p += 3;
  } else {
    b[p] = 0xc9;
    dv.setUint32(p + 1, n);
    p += 5;
  }
  b[p] = type;
  b.set(data, p + 1);
  return p + 1 + n;
}
