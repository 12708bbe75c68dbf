/**
 * The code of writers for one shape of object, with its keys as constants.
 *
 * The small one is compiled in 3 ms and mostly calls functions that all shapes share, so that it
 * is quick from the beginning. The large one does more by itself: it takes V8 10 ms, on a thread
 * that all code waits for.
 */

import { literal } from './generate.js';
import { GROW, GUARD } from './memory.js';
import { Site, type ShapeWriter } from './site.js';
import { allocate, writeUtf8 } from './text.js';
import { recount, writeAny, writeNumber, writeString } from './write.js';

/** A key of a shape, and the place of its values. */
export class Field {
  readonly bytes: readonly number[];
  /** The same, eight at a time: the first sixteen, and the others. */
  readonly first: number;
  readonly second: number;
  readonly words: Float64Array;
  readonly length: number;
  readonly site = new Site();

  constructor(readonly key: string) {
    this.bytes = keyBytes(key);
    this.length = this.bytes.length;
    const padded = new Uint8Array(Math.max(16, (this.length + 7) & ~7));
    padded.set(this.bytes);
    const [first, second, ...words] = new Float64Array(padded.buffer);
    this.first = first!;
    this.second = second!;
    this.words = Float64Array.from(words);
  }
}

/** The bytes of a key as a MessagePack string. */
function keyBytes(key: string): number[] {
  const bytes = allocate(3 * key.length + 5);
  const n = writeUtf8(bytes, 0, key);
  return [...(n < 32 ? [0xa0 | n] : [0xd9, n]), ...bytes.subarray(0, n)];
}

/** Writes a key and its value; nothing if that is undefined. */
function writeField(b: Uint8Array, dv: DataView, p: number, v: unknown, field: Field): number {
  if (p > b.length - GUARD) throw GROW;
  if (v === undefined) return p;
  // What is behind the key is written over by the value.
  dv.setFloat64(p, field.first, true);
  dv.setFloat64(p + 8, field.second, true);
  const { words, length } = field;
  if (length > 16) {
    for (let i = 0; i < words.length; i++) dv.setFloat64(p + 16 + 8 * i, words[i]!, true);
  }
  p += length;
  if (typeof v === 'string') return writeString(b, dv, p, v);
  if (typeof v === 'number') return writeNumber(b, dv, p, v);
  return writeAny(b, dv, p, v, field.site);
}

/** Whether an object has these keys in this order; behind them is one that no object has there. */
function hasKeys(o: object, keys: readonly string[]): boolean {
  let i = 0;
  for (const key in o) if (key !== keys[i++]) return false;
  return i === keys.length - 1;
}

/** Told of an object when a small writer was used so often. */
export interface Uses {
  left: number;
  used(object: object): void;
}

/** Before the fields: `in` tells the optimiser the object's class, which then knows the prototype. */
function check(fields: readonly Field[]): string {
  return `'use strict';return function write(b,dv,p,o){
if(!(${literal(fields[0]!.key)} in o)||getPrototypeOf(o)!==proto||!hasKeys(o,K))return -1;
const start=p;let count=${fields.length},v;`;
}

/** A writer that is made and compiled quickly. */
export function smallWriter(fields: readonly Field[], proto: unknown, uses: Uses): ShapeWriter {
  const n = fields.length;
  let code = `${check(fields)}if(--uses.left===0)uses.used(o);`;
  code += n < 16 ? 'p++;' : 'b[p]=0xde;p+=3;';
  fields.forEach(({ key }, at) => {
    code += `v=writeField(b,dv,p,o[${literal(key)}],f${at});if(v===p)count--;else p=v;`;
  });
  return make(code, fields, proto, { uses, writeField });
}

/** A writer that is quicker once V8 has compiled it. `object` shows what kinds of values come. */
export function largeWriter(fields: readonly Field[], proto: unknown, object: object): ShapeWriter {
  const n = fields.length;
  let code = `${check(fields)}const room=b.length-${GUARD};`;
  let bytes = n < 16 ? [0x80 | n] : [0xde, n >> 8, n & 255];
  fields.forEach(({ key, bytes: name }, at) => {
    bytes.push(...name);
    code += `if(p>room)throw GROW;v=o[${literal(key)}];${stores(bytes)}p+=${bytes.length};
${writes(typeof Object.getOwnPropertyDescriptor(object, key)?.value)}if(v===undefined){p-=${name.length};count--;}else p=writeAny(b,dv,p,v,f${at}.site);`;
    bytes = [];
  });
  return make(code, fields, proto, { GROW, writeString, writeNumber, writeAny });
}

/**
 * Stores these bytes at p, eight at a time, and perhaps some behind them, which the value writes
 * over.
 */
function stores(bytes: readonly number[]): string {
  const view = new DataView(new ArrayBuffer(8));
  let code = '';
  for (let at = 0; at < bytes.length; at += 8) {
    for (let i = 0; i < 8; i++) view.setUint8(i, bytes[at + i] ?? 0);
    const float = view.getFloat64(0, true);
    if (bytes.length - at > 4 && Number.isFinite(float)) {
      code += `dv.setFloat64(p+${at},${float},true);`;
      continue;
    }
    for (let i = 0; i < 8 && at + i < bytes.length; i += 4) {
      code += `dv.setInt32(p+${at + i},${view.getInt32(i, true)},true);`;
    }
  }
  return code;
}

/** Code that writes `v` if it is of this kind, to be followed by what writes any other. */
function writes(kind: string): string {
  if (kind === 'string') return "if(typeof v==='string')p=writeString(b,dv,p,v);else ";
  if (kind === 'number') return "if(typeof v==='number')p=writeNumber(b,dv,p,v);else ";
  if (kind === 'boolean') return 'if(v===true)b[p++]=0xc3;else if(v===false)b[p++]=0xc2;else ';
  return '';
}

/** Keys are only ever written as bytes and as JSON strings: no text of the program's becomes code. */
function make(
  code: string,
  fields: readonly Field[],
  proto: unknown,
  names: Readonly<Record<string, unknown>>,
): ShapeWriter {
  const all: Record<string, unknown> = {
    K: [...fields.map(({ key }) => key), ''],
    proto,
    getPrototypeOf: Object.getPrototypeOf,
    hasKeys,
    recount,
    ...names,
  };
  fields.forEach((field, at) => (all[`f${at}`] = field));
  const end = `recount(b,dv,start,${fields.length},count);return p;};`;
  const made = new Function(...Object.keys(all), code + end) as (...args: unknown[]) => ShapeWriter;
  return made(...Object.values(all));
}
