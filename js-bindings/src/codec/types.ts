/**
 * Event types that were seen: their bytes and hash, and the shape of the
 * payloads that travel under them.
 */

import { MAX_TYPE_LEN } from './limits.js';
import { Site } from './site.js';
import { xxh64 } from './xxh64.js';

export class TypeEntry {
  readonly bytes: Uint8Array;
  /** The bytes again, as little-endian words, filled up with zeros. */
  readonly words: Int32Array;
  /** The halves of XXH64 of the bytes. */
  readonly hashLow: number;
  readonly hashHigh: number;
  /** The same as signed integers. */
  readonly low: number;
  readonly high: number;
  /** Where payloads of this type are written. */
  readonly site = new Site();
  /** Bytes of the last payload whose form was chosen. */
  size = 0;

  constructor(readonly text: string) {
    this.bytes = encoder.encode(text);
    const padded = new Uint8Array((this.bytes.length + 3) & ~3);
    padded.set(this.bytes);
    const view = new DataView(padded.buffer);
    this.words = Int32Array.from({ length: padded.length / 4 }, (_, i) =>
      view.getInt32(4 * i, true),
    );
    const hash = xxh64(this.bytes);
    this.hashLow = Number(hash & 0xffff_ffffn);
    this.hashHigh = Number(hash >> 32n);
    this.low = this.hashLow | 0;
    this.high = this.hashHigh | 0;
  }
}

const encoder = new TextEncoder();
const MAX_ENTRIES = 1024;
const entries = new Map<string, TypeEntry>();
/** The last one asked for: events of one type come in a row. */
let last: TypeEntry | undefined;

/** What is known of a type; `undefined` when the text is no event type. */
export function typeEntry(text: string): TypeEntry | undefined {
  if (last !== undefined && last.text === text) return last;
  let entry = entries.get(text);
  if (entry === undefined) {
    if (typeFault(text) !== undefined) return undefined;
    if (entries.size >= MAX_ENTRIES) entries.clear();
    entry = new TypeEntry(text);
    entries.set(text, entry);
  }
  last = entry;
  return entry;
}

/** By the lower half of their hash, for texts that were just read: those cost to look up. */
const read = new Map<number, TypeEntry>();

/** What is known of a type that was read with the halves of its hash; undefined when either is wrong. */
export function typeOf(text: string, hashLow: number, hashHigh: number): TypeEntry | undefined {
  let entry = read.get(hashLow);
  if (entry === undefined || entry.text !== text) {
    entry = typeEntry(text);
    if (entry === undefined || entry.low !== hashLow) return undefined;
    if (read.size >= MAX_ENTRIES) read.clear();
    read.set(hashLow, entry);
  }
  return entry.high === hashHigh ? entry : undefined;
}

/** White space and control characters as Rust knows them, wildcards, lone surrogates. */
const FORBIDDEN = /[\p{White_Space}\p{Cc}\p{Cs}*>]/u;

/** Why a text is no event type. */
export function typeFault(text: unknown): string | undefined {
  if (typeof text !== 'string') return 'an event type is a string';
  if (text === '' || text.startsWith('.') || text.endsWith('.') || text.includes('..')) {
    return 'an event type needs at least one character in each token between dots';
  }
  if (FORBIDDEN.test(text))
    return 'an event type has no white space, control characters, `*` or `>`';
  if (encoder.encode(text).length > MAX_TYPE_LEN)
    return `an event type has at most ${MAX_TYPE_LEN} bytes`;
  return undefined;
}
