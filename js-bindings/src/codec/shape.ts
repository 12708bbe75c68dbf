/**
 * Writers made for one shape of object: the same keys in the same order. They
 * write all keys as constants, which is most of what makes writing fast.
 *
 * Bounds: a shape is compiled when it was seen a few times; there are at most
 * SHAPES writers, then all are dropped and it takes twice as many sightings to
 * get one again, so that a program with ever new shapes soon stops compiling.
 */

import { CODE_GENERATION, literal } from './generate.js';
import { GROW, GUARD } from './memory.js';
import { Site, type ShapeWriter } from './site.js';
import { allocate, utf8Length, writeUtf8 } from './text.js';
import { recount, writeAny, writeNumber, writeString } from './write.js';

const SHAPES = 512;
/** Shapes that were seen but have no writer. */
const SIGHTINGS = 1024;
/** Objects with more keys, and keys of more bytes, are written one by one. */
const MAX_KEYS = 96;
const MAX_KEY_BYTES = 200;
/** Writers of one site behind one first key. */
const MAX_ALIKE = 8;

const writers = new Map<string, ShapeWriter>();
const sightings = new Map<string, number>();
const protoNumbers = new WeakMap<object, number>();
let protos = 0;
/** Sightings before a shape is compiled. */
let threshold = 3;
let generation = 0;

let compiles = CODE_GENERATION;

/** Turns compiling off or back on, for tests and for measuring. Returns whether it is on. */
export function compileShapes(on: boolean): boolean {
  compiles = on && CODE_GENERATION;
  if (!compiles) forget();
  return compiles;
}

/** Whether code is made for shapes. */
export function compilesShapes(): boolean {
  return compiles;
}

/** For `metrics()`. */
export function shapeCounts(): { writers: number; evictions: number; compiles: boolean } {
  return { writers: writers.size, evictions: generation, compiles };
}

function forget(): void {
  writers.clear();
  sightings.clear();
  generation++;
}

/** A writer for this object from now on, if its shape has come often enough. */
export function learn(
  site: Site,
  object: object,
  proto: unknown,
  keys: string[],
): ShapeWriter | null {
  if (!compiles) return null;
  if (site.generation !== generation) {
    site.generation = generation;
    site.first = site.second = site.many = null;
    site.misses = 0;
  }
  // A place where nothing comes twice: look only now and then.
  if (++site.misses > 256 && (site.misses & 15) !== 0) return null;
  if (keys.length === 0 || keys.length > MAX_KEYS) return null;
  const name = `${protoNumber(proto)}\0${keys.join('\0')}`;
  let writer = writers.get(name);
  if (writer === undefined) {
    const seen = (sightings.get(name) ?? 0) + 1;
    if (seen < threshold) {
      if (sightings.size >= SIGHTINGS) sightings.clear();
      sightings.set(name, seen);
      return null;
    }
    sightings.delete(name);
    if (!isPlain(object, keys)) return null;
    if (writers.size >= SHAPES) {
      forget();
      threshold = Math.min(2 * threshold, 1 << 20);
      site.generation = generation;
      site.first = site.second = site.many = null;
    }
    writer = compile(keys, proto);
    writers.set(name, writer);
  }
  site.misses = 0;
  adopt(site, writer, keys[0]!);
  return writer;
}

function adopt(site: Site, writer: ShapeWriter, firstKey: string): void {
  if (site.first === null) {
    site.first = writer;
  } else if (site.second === null) {
    site.second = writer;
  } else {
    site.many ??= new Map();
    let alike = site.many.get(firstKey);
    if (alike === undefined) {
      if (site.many.size >= SHAPES) site.many.clear();
      site.many.set(firstKey, (alike = []));
    }
    if (alike.includes(writer)) return;
    alike.unshift(writer);
    if (alike.length > MAX_ALIKE) alike.pop();
  }
}

/** The writer that fits, among many. */
export function tryMany(
  many: ReadonlyMap<string, ShapeWriter[]>,
  b: Uint8Array,
  dv: DataView,
  p: number,
  o: object,
): number {
  for (const key in o) {
    const alike = many.get(key);
    if (alike === undefined) return -1;
    for (let i = 0; i < alike.length; i++) {
      const end = alike[i]!(b, dv, p, o);
      if (end >= 0) return end;
    }
    return -1;
  }
  return -1;
}

/** Whether `for in`, by which a writer knows its shape, sees exactly these keys. */
function isPlain(object: object, keys: readonly string[]): boolean {
  let at = 0;
  for (const key in object) if (key !== keys[at++]) return false;
  return at === keys.length && keys.every((key) => utf8Length(key) <= MAX_KEY_BYTES);
}

function protoNumber(proto: unknown): number {
  if (typeof proto !== 'object' || proto === null) return 0;
  let number = protoNumbers.get(proto);
  if (number === undefined) protoNumbers.set(proto, (number = ++protos));
  return number;
}

/** The bytes of a key as a MessagePack string. */
function keyBytes(key: string): number[] {
  const bytes = allocate(3 * key.length + 5);
  const n = writeUtf8(bytes, 0, key);
  return [...(n < 32 ? [0xa0 | n] : [0xd9, n]), ...bytes.subarray(0, n)];
}

/** Stores these bytes at p, four at a time. */
function stores(bytes: readonly number[]): string {
  let code = '';
  let at = 0;
  for (; at + 4 <= bytes.length; at += 4) {
    const word =
      bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    code += `dv.setInt32(p+${at},${word},true);`;
  }
  for (; at < bytes.length; at++) code += `b[p+${at}]=${bytes[at]!};`;
  return code;
}

function compile(keys: readonly string[], proto: unknown): ShapeWriter {
  const n = keys.length;
  let code = `'use strict';return function write(b,dv,p,o){
if(getPrototypeOf(o)!==proto)return -1;
let i=0;for(const k in o){if(k!==K[i++])return -1;}if(i!==${n})return -1;
const start=p,room=b.length-${GUARD};let count=${n},v;`;
  // Keys are only ever written as bytes and as JSON strings: no text of the program's becomes code.
  let bytes = n < 16 ? [0x80 | n] : [0xde, n >> 8, n & 255];
  keys.forEach((key, at) => {
    const name = keyBytes(key);
    bytes.push(...name);
    code += `if(p>room)throw GROW;v=o[${literal(key)}];${stores(bytes)}p+=${bytes.length};
if(typeof v==='string')p=writeString(b,dv,p,v);
else if(typeof v==='number'){if((v|0)===v&&v>0&&v<128)b[p++]=v;else p=writeNumber(b,dv,p,v);}
else if(v===true)b[p++]=0xc3;else if(v===false)b[p++]=0xc2;
else if(v===undefined){p-=${name.length};count--;}else p=writeAny(b,dv,p,v,s${at});`;
    bytes = [];
  });
  code += `if(count!==${n})recount(b,dv,start,${n},count);return p;};`;
  const sites = keys.map((_, at) => `s${at}`);
  const make = new Function(
    'K',
    'proto',
    'getPrototypeOf',
    'GROW',
    'writeString',
    'writeNumber',
    'writeAny',
    'recount',
    ...sites,
    code,
  ) as (...args: unknown[]) => ShapeWriter;
  return make(
    [...keys, ''],
    proto,
    Object.getPrototypeOf,
    GROW,
    writeString,
    writeNumber,
    writeAny,
    recount,
    ...sites.map(() => new Site()),
  );
}
