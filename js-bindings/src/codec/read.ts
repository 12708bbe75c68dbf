/**
 * Payloads to values, by plain JavaScript: for what the tokeniser leaves, and
 * where there is no WebAssembly. The rules are those of `codec::msgpack` in Rust:
 * every length is checked against what is left, every string is UTF-8.
 */

import { PayloadError } from './error.js';
import { Extension } from './extension.js';
import { DEFAULT_LIMITS } from './limits.js';
import type { Content } from './payload.js';
import { readUtf8, viewOf } from './text.js';
import { readTape } from './tape.js';

/** The value that a payload stands for; `undefined` for no bytes of no stated form. */
export function readPayload(
  content: Content,
  bytes: Uint8Array,
  start: number,
  end: number,
  depth: number = DEFAULT_LIMITS.depth,
): unknown {
  switch (content) {
    case 'msgpack':
      return depth === DEFAULT_LIMITS.depth
        ? readTape(bytes, start, end)
        : readMessagePack(bytes, start, end, depth);
    case 'binary':
      return start === end ? undefined : copyOf(bytes, start, end);
    case 'text':
      return text(bytes, start, end);
    case 'json':
      try {
        return JSON.parse(text(bytes, start, end));
      } catch (cause) {
        if (cause instanceof PayloadError) throw cause;
        throw new PayloadError('json', 'the payload is not JSON', { cause });
      }
  }
}

function text(bytes: Uint8Array, start: number, end: number): string {
  const text = readUtf8(bytes, start, end);
  if (text === undefined) throw new PayloadError('utf8', 'a string of the payload is not UTF-8');
  return text;
}

/** Bytes of their own, so that a kept payload keeps nothing else, and is aligned. */
function copyOf(bytes: Uint8Array, start: number, end: number): Uint8Array {
  return new Uint8Array(bytes.subarray(start, end));
}

/** What is read, one payload at a time; nothing of the program's runs meanwhile. */
let b: Uint8Array = new Uint8Array(0);
let dv: DataView = new DataView(b.buffer);
let p = 0;
let end = 0;
let depth = 0;
let maxDepth = 0;

/**
 * One MessagePack value that takes up all of the bytes.
 *
 * @throws PayloadError when they are anything else.
 */
export function readMessagePack(
  bytes: Uint8Array,
  from: number,
  to: number,
  limit: number,
): unknown {
  b = viewOf(bytes);
  dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  p = from;
  end = to;
  depth = 0;
  maxDepth = limit;
  try {
    const value = read();
    if (p !== end) throw new PayloadError('trailing_bytes', `${end - p} bytes follow the value`);
    return value;
  } finally {
    b = EMPTY;
    dv = EMPTY_VIEW;
  }
}

const EMPTY = new Uint8Array(0);
const EMPTY_VIEW = new DataView(EMPTY.buffer);

function truncated(): never {
  throw new PayloadError('truncated', 'the MessagePack value is cut off');
}

/** Steps over this many bytes; returns where they begin. */
function take(len: number): number {
  const at = p;
  if (len > end - at) truncated();
  p = at + len;
  return at;
}

function read(): unknown {
  const first = b[take(1)]!;
  if (first < 0x80) return first;
  if (first < 0x90) return readMap(first & 15);
  if (first < 0xa0) return readArray(first & 15);
  if (first < 0xc0) return readText(first & 31);
  if (first >= 0xe0) return first - 256;
  switch (first) {
    case 0xc0:
      return null;
    case 0xc2:
      return false;
    case 0xc3:
      return true;
    case 0xc4:
      return readBin(b[take(1)]!);
    case 0xc5:
      return readBin(dv.getUint16(take(2)));
    case 0xc6:
      return readBin(dv.getUint32(take(4)));
    case 0xc7:
      return readExtension(b[take(1)]!);
    case 0xc8:
      return readExtension(dv.getUint16(take(2)));
    case 0xc9:
      return readExtension(dv.getUint32(take(4)));
    case 0xca:
      return dv.getFloat32(take(4));
    case 0xcb:
      return dv.getFloat64(take(8));
    case 0xcc:
      return b[take(1)]!;
    case 0xcd:
      return dv.getUint16(take(2));
    case 0xce:
      return dv.getUint32(take(4));
    case 0xcf:
      return integer(dv.getBigUint64(take(8)));
    case 0xd0:
      return dv.getInt8(take(1));
    case 0xd1:
      return dv.getInt16(take(2));
    case 0xd2:
      return dv.getInt32(take(4));
    case 0xd3:
      return integer(dv.getBigInt64(take(8)));
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
      return readExtension(1 << (first - 0xd4));
    case 0xd9:
      return readText(b[take(1)]!);
    case 0xda:
      return readText(dv.getUint16(take(2)));
    case 0xdb:
      return readText(dv.getUint32(take(4)));
    case 0xdc:
      return readArray(dv.getUint16(take(2)));
    case 0xdd:
      return readArray(dv.getUint32(take(4)));
    case 0xde:
      return readMap(dv.getUint16(take(2)));
    case 0xdf:
      return readMap(dv.getUint32(take(4)));
    default:
      throw new PayloadError('reserved', '0xC1 begins no MessagePack value');
  }
}

/** A number while that is exact. */
function integer(value: bigint): number | bigint {
  return value <= Number.MAX_SAFE_INTEGER && value >= Number.MIN_SAFE_INTEGER
    ? Number(value)
    : value;
}

function readText(len: number): string {
  const at = take(len);
  return text(b, at, at + len);
}

function readBin(len: number): Uint8Array {
  const at = take(len);
  return copyOf(b, at, at + len);
}

function readExtension(len: number): Extension {
  const type = dv.getInt8(take(1));
  return new Extension(type, readBin(len));
}

/** `values` more values come before the array or map is complete. */
function open(values: number): void {
  if (depth === maxDepth)
    throw new PayloadError('too_deep', `the value nests deeper than ${maxDepth} levels`);
  // Each takes a byte at least: a made-up count does not get any memory.
  if (values > end - p) truncated();
  depth++;
}

function readArray(n: number): unknown[] {
  open(n);
  const array: unknown[] = [];
  for (let i = 0; i < n; i++) array.push(read());
  depth--;
  return array;
}

function readMap(n: number): unknown {
  open(2 * n);
  const object: Record<string, unknown> = {};
  for (let i = 0; i < n; i++) {
    const key = read();
    if (typeof key !== 'string') return readRest(object, key, n - i);
    put(object, key, read());
  }
  depth--;
  return object;
}

/** A map with a key that no property can have. */
function readRest(
  object: Record<string, unknown>,
  key: unknown,
  left: number,
): Map<unknown, unknown> {
  const map = new Map<unknown, unknown>(Object.entries(object));
  map.set(key, read());
  for (let i = 1; i < left; i++) {
    const key = read();
    map.set(key, read());
  }
  depth--;
  return map;
}

/** An own property, whatever its name. */
export function put(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__') {
    Object.defineProperty(object, key, {
      value,
      configurable: true,
      enumerable: true,
      writable: true,
    });
  } else {
    object[key] = value;
  }
}
