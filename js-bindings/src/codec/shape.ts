/**
 * Writers made for one shape of object: the same keys in the same order. They
 * write all keys as constants, which is most of what makes writing fast. A small
 * one comes first, and a large one where that is worth its price.
 *
 * Bounds: a shape is compiled when it was seen a few times; there are at most
 * SHAPES writers, then all are dropped and it takes twice as many sightings to
 * get one again, so that a program with ever new shapes soon stops compiling.
 */

import { CODE_GENERATION } from './generate.js';
import type { Shape, ShapeWriter, Site } from './site.js';
import { utf8Length } from './text.js';
import { Field, largeWriter, smallWriter } from './writer.js';

const SHAPES = 512;
/** Shapes that were seen but have no writer. */
const SIGHTINGS = 1024;
/** Objects with more keys, and keys of more bytes, are written one by one. */
const MAX_KEYS = 96;
const MAX_KEY_BYTES = 200;
/** Writers of one site behind one first key. */
const MAX_ALIKE = 8;

const writers = new Map<string, Writer>();
const sightings = new Map<string, number>();
const protoNumbers = new WeakMap<object, number>();
let protos = 0;
/** Sightings before a shape is compiled. */
let threshold = 3;
let generation = 0;

let compiles = CODE_GENERATION;

/** Objects that a small writer has written before a large one is thought of. */
const USES = 512;
/**
 * Objects written by small writers, of all shapes, that pay for a large one: that is about the
 * time in which V8 compiles it. Where many shapes come, the most frequent get theirs first, and
 * V8 is not kept compiling.
 */
const PRICE = 65_536;
const MOST_SAVED = 4 * PRICE;
let saved = MOST_SAVED;

/** A shape, and what writes it. */
class Writer implements Shape {
  write: ShapeWriter;
  left = USES;
  private readonly fields: readonly Field[];

  constructor(
    keys: readonly string[],
    private readonly proto: unknown,
  ) {
    this.fields = keys.map((key) => new Field(key));
    this.write = smallWriter(this.fields, proto, this);
  }

  used(object: object): void {
    this.left = USES;
    saved = Math.min(saved + USES, MOST_SAVED);
    if (saved < PRICE) return;
    saved -= PRICE;
    this.write = largeWriter(this.fields, this.proto, object);
  }
}

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
export function learn(site: Site, object: object, proto: unknown, keys: string[]): Shape | null {
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
    writer = new Writer(keys, proto);
    writers.set(name, writer);
  }
  site.misses = 0;
  adopt(site, writer, keys[0]!);
  return writer;
}

function adopt(site: Site, writer: Shape, firstKey: string): void {
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
  many: ReadonlyMap<string, Shape[]>,
  b: Uint8Array,
  dv: DataView,
  p: number,
  o: object,
): number {
  for (const key in o) {
    const alike = many.get(key);
    if (alike === undefined) return -1;
    for (let i = 0; i < alike.length; i++) {
      const end = alike[i]!.write(b, dv, p, o);
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
