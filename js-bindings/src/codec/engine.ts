/**
 * The tokeniser in WebAssembly, with the views of its memory.
 */

import { Tape } from '../../generated/glue.js';
import { how, memory } from '../wasm/instance.js';
import type { Builder } from './builder.js';
import { readAscii, readUtf8, viewOf } from './text.js';
import type { TypeEntry } from './types.js';

/** Records of up to so many bytes; longer ones are read by JavaScript alone. */
const SIZES = [64 << 10, 512 << 10, 4 << 20];

/** One tokeniser. Its memory does not move; the views are made anew when memory has grown. */
export class Engine {
  /** Where a record is put, and where its text comes out. */
  input!: Uint8Array;
  view!: DataView;
  text!: Uint8Array;
  /** The ends of the pieces of text. */
  pieces!: Uint32Array;
  /** The slots of the tape, as pairs of integers and as floats. */
  I = new Int32Array(0);
  F!: Float64Array;
  /** What makes objects of shapes, by the shapes' numbers, and for which life of those. */
  builders: (Builder | undefined)[] = [];
  generation = -1;
  /** Where the reading of the tape is: the next slot, counted in halves, */
  p = 0;
  /** how much of the piece of text is taken, which piece that is, and the piece, if not the first. */
  s = 0;
  piece = 0;
  S = '';
  /** Event types by the numbers that the tokeniser gave them. */
  readonly types: (TypeEntry | undefined)[] = [];

  private constructor(
    readonly raw: Tape,
    /** Bytes that a record may have. */
    readonly capacity: number,
  ) {
    this.refresh();
  }

  static create(capacity: number): Engine | undefined {
    const raw = Tape.create(capacity);
    return raw === undefined ? undefined : new Engine(raw, capacity);
  }

  /** Before the views are used, and after each call into the module that may have taken memory. */
  refresh(): void {
    // A view of memory that has grown since has no length any more.
    if (this.I.length !== 0) return;
    const { raw, capacity } = this;
    const buffer = memory();
    this.view = new DataView(buffer, raw.input() >>> 0, capacity);
    this.input = viewOf(new Uint8Array(buffer, raw.input() >>> 0, capacity));
    this.text = viewOf(new Uint8Array(buffer, raw.text() >>> 0, capacity));
    this.pieces = new Uint32Array(buffer, raw.pieces() >>> 0, PIECES);
    this.I = new Int32Array(buffer, raw.slots() >>> 0, capacity);
    this.F = new Float64Array(buffer, raw.slots() >>> 0, capacity >> 1);
  }

  /** The keys of a shape. Memory does not grow meanwhile, as a builder uses views of it. */
  keysOf(shape: number): string[] {
    const length = this.raw.shape(shape);
    const text = new Uint8Array(memory(), this.raw.names() >>> 0, length);
    const keys: string[] = [];
    for (let at = 0; at < length;) {
      const end = at + 2 + (text[at]! | (text[at + 1]! << 8));
      keys.push(readUtf8(text, at + 2, end) ?? '');
      at = end;
    }
    return keys;
  }
}

/** Must be the same as in `tape.rs`. */
const PIECES = 4096;

let engine: Engine | undefined;
/** Floats and integers in linear memory are little-endian, as views see them on all but a few machines. */
const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
let enabled = LITTLE_ENDIAN && how().engine === 'wasm';

/** Turns the tokeniser off or back on, for tests and for measuring. Returns whether it is on. */
export function tokenise(on: boolean): boolean {
  enabled = on && LITTLE_ENDIAN && how().engine === 'wasm';
  return enabled;
}

/** Whether the tokeniser is in use. */
export function tokenises(): boolean {
  return enabled;
}

/** How often somebody was given a tokeniser to write to: then it holds what was written last. */
export let loads = 0;

/** A tokeniser for so many bytes, ready to be written to; none if there is none. */
export function engineFor(length: number): Engine | undefined {
  if (!enabled) return undefined;
  loads++;
  if (engine === undefined || length > engine.capacity) {
    const capacity = SIZES.find((size) => size >= length);
    if (capacity === undefined) return undefined;
    const larger = Engine.create(capacity);
    if (larger === undefined) return undefined;
    engine?.raw.free();
    engine = larger;
  }
  engine.refresh();
  return engine;
}

/** The piece of text with this number. */
export function piece(engine: Engine, number: number): string {
  const { text, pieces } = engine;
  return readAscii(text, number === 0 ? 0 : pieces[number - 1]!, pieces[number]!);
}
