/**
 * One event of a frame, read where it lies. Its numbers and lengths are checked
 * when the view is made, strings when they are asked for.
 */

import type { Micros, Target } from '../event.js';
import { attributeFault } from './attributes.js';
import { DecodeError, type Field } from './error.js';
import { plainOf } from './header.js';
import { RECORD_HEADER, flag, isTooLate, record } from './layout.js';
import type { Limits } from './limits.js';
import { CONTENTS, type Content } from './payload.js';
import { readUtf8 } from './text.js';
import { typeEntry, typeFault } from './types.js';
import { isUuid, readUuid, uuidV7 } from './uuid.js';

export const u16 = (b: Uint8Array, at: number): number => b[at]! | (b[at + 1]! << 8);
export const u32 = (b: Uint8Array, at: number): number =>
  (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0;

/** The strings before the payload that have a length of their own in the header, in their order. */
const LENGTHS = [
  record.SOURCE_LEN,
  record.ID_LEN,
  record.TARGET_LEN,
  record.SESSION_LEN,
  record.CORRELATION_LEN,
  record.CAUSATION_LEN,
  record.TRACEPARENT_LEN,
  record.HOPS_LEN,
] as const;

/** Their places in that order. */
const section = {
  SOURCE: 0,
  ID: 1,
  TARGET: 2,
  SESSION: 3,
  CORRELATION: 4,
  CAUSATION: 5,
  TRACEPARENT: 6,
  HOPS: 7,
  ATTRIBUTES: 8,
} as const;

/** A look at an event's header. The bytes must not change while it is in use. */
export class EventView {
  /** @internal Making the package small takes the name away. */
  static readonly name = 'EventView';

  /** @internal `peek` and `frames` make views. */
  constructor(
    /** The bytes that the event lies in. */
    readonly bytes: Uint8Array,
    /** Where its record begins. */
    readonly start: number,
    /** Where its record ends. */
    readonly end: number,
    /** @internal */
    readonly limits: Limits,
  ) {
    checkNumbers(bytes, start, end);
  }

  /** The lower half of XXH64 of the type, as the header states it: nothing is proved by it. */
  get typeHashLow(): number {
    return u32(this.bytes, this.start + record.TYPE_HASH);
  }

  /** The upper half. */
  get typeHashHigh(): number {
    return u32(this.bytes, this.start + record.TYPE_HASH + 4);
  }

  /** The bytes of the type, unchecked. */
  get typeBytes(): Uint8Array {
    const at = this.start + RECORD_HEADER;
    return this.bytes.subarray(at, at + this.bytes[this.start + record.TYPE_LEN]!);
  }

  /** @throws DecodeError when it is no event type, or the hash is another's. */
  get type(): string {
    const at = this.start + RECORD_HEADER;
    const text = readUtf8(this.bytes, at, at + this.bytes[this.start + record.TYPE_LEN]!);
    if (text === undefined) throw notUtf8('type');
    const entry = typeEntry(text);
    if (entry === undefined) throw new DecodeError('type', typeFault(text)!);
    if (entry.hashLow !== this.typeHashLow || entry.hashHigh !== this.typeHashHigh) {
      throw new DecodeError('type_hash', `the header states the hash of another type than ${text}`);
    }
    return entry.text;
  }

  /** 0 lowest to 9 highest. */
  get priority(): number {
    return this.bytes[this.start + record.PRIORITY]!;
  }

  /** What the payload is said to be. */
  get content(): Content {
    return CONTENTS[this.bytes[this.start + record.CONTENT]!]!;
  }

  /** When it happened. */
  get timestamp(): Micros | undefined {
    return time(this.bytes, this.start + record.TIMESTAMP);
  }

  /** When it is worth nothing any more. */
  get deadline(): Micros | undefined {
    return time(this.bytes, this.start + record.DEADLINE);
  }

  /** The lower 32 bits of the nonce. */
  get nonceLow32(): number {
    return u32(this.bytes, this.start + record.NONCE);
  }

  /** The upper 32 bits of the nonce. */
  get nonceHigh32(): number {
    return u32(this.bytes, this.start + record.NONCE + 4);
  }

  /** Who published it; empty when nobody said. @throws DecodeError */
  get source(): string {
    const at = this.sectionStart(section.SOURCE);
    return this.string(
      at,
      at + u16(this.bytes, this.start + record.SOURCE_LEN),
      'source',
      this.limits.stringLen,
    );
  }

  /** The id of its own, without the one made from the stamp. @throws DecodeError */
  get ownId(): string | undefined {
    return this.id_(section.ID, flag.ID, flag.ID_UUID, 'id');
  }

  /** The id. @throws DecodeError */
  get id(): string | undefined {
    const own = this.ownId;
    const at = this.timestamp;
    if (own !== undefined || at === undefined || (this.nonceLow32 === 0 && this.nonceHigh32 === 0))
      return own;
    return uuidV7(BigInt(at), (BigInt(this.nonceHigh32) << 32n) | BigInt(this.nonceLow32));
  }

  /** Whom it is for; undefined for everybody. @throws DecodeError */
  get target(): Target | undefined {
    const name = this.optional(section.TARGET, flag.TARGET, 'target');
    const swarm = this.has(flag.TARGET_SWARM);
    if (name !== undefined) return swarm ? `swarm:${name}` : `agent:${name}`;
    if (swarm) throw absent('target');
    return undefined;
  }

  /** The session that it belongs to. @throws DecodeError */
  get session(): string | undefined {
    return this.optional(section.SESSION, flag.SESSION, 'session');
  }

  /** What all events of one conversation share. @throws DecodeError */
  get correlationId(): string | undefined {
    return this.id_(section.CORRELATION, flag.CORRELATION, flag.CORRELATION_UUID, 'correlationId');
  }

  /** The id of the event that caused it. @throws DecodeError */
  get causationId(): string | undefined {
    return this.id_(section.CAUSATION, flag.CAUSATION, flag.CAUSATION_UUID, 'causationId');
  }

  /** The `traceparent` header of W3C Trace Context. @throws DecodeError */
  get traceparent(): string | undefined {
    return this.optional(section.TRACEPARENT, flag.TRACEPARENT, 'traceparent');
  }

  /** All fields, as `JSON.stringify` asks for them; of the payload kind and length. @throws DecodeError */
  toJSON(): Record<string, unknown> {
    const { content, end, payloadStart } = this;
    return plainOf(this, { content, length: end - payloadStart });
  }

  /** For logs: the same, as far as it can be read. */
  [Symbol.for('nodejs.util.inspect.custom')](): unknown {
    try {
      return this.toJSON();
    } catch (error) {
      return error;
    }
  }

  /** How many places forwarded it. */
  get hopCount(): number {
    return this.bytes[this.start + record.HOP_COUNT]!;
  }

  /** The places that forwarded it, first to last. @throws DecodeError */
  get hops(): string[] {
    const { bytes, hopCount: count } = this;
    if (count > this.limits.hops) {
      throw new DecodeError(
        'too_many_hops',
        `the event has ${count} hops, the limit is ${this.limits.hops}`,
      );
    }
    const wrong = (): DecodeError =>
      new DecodeError('hops', 'number and length of the hops disagree');
    let at = this.sectionStart(section.HOPS);
    const end = at + u16(bytes, this.start + record.HOPS_LEN);
    const hops: string[] = [];
    for (let i = 0; i < count; i++) {
      const next = at + 1 + bytes[at]!;
      if (at >= end || next > end) throw wrong();
      hops.push(this.string(at + 1, next, 'hop', 255));
      at = next;
    }
    if (at !== end) throw wrong();
    return hops;
  }

  /** Extension attributes, sorted by name. @throws DecodeError */
  get attributes(): Record<string, string> {
    const { bytes, limits } = this;
    const count = u16(bytes, this.start + record.ATTRIBUTE_COUNT);
    if (count > limits.attributes) {
      throw new DecodeError(
        'too_many_attributes',
        `the event has ${count} attributes, the limit is ${limits.attributes}`,
      );
    }
    const wrong = (): DecodeError =>
      new DecodeError('attributes', 'number and length of the attributes disagree');
    let at = this.sectionStart(section.ATTRIBUTES);
    const end = at + u32(bytes, this.start + record.ATTRIBUTES_LEN);
    const attributes = Object.create(null) as Record<string, string>;
    let last = '';
    for (let i = 0; i < count; i++) {
      const value = at + 1 + bytes[at]!;
      if (at >= end || value + 2 > end) throw wrong();
      const next = value + 2 + u16(bytes, value);
      if (next > end) throw wrong();
      const name = this.string(at + 1, value, 'attributeName', 255);
      const fault = attributeFault(name);
      if (fault !== undefined) throw new DecodeError('attribute_name', fault);
      if (name <= last)
        throw new DecodeError(
          'attribute_order',
          'the attributes are not sorted or one is there twice',
        );
      attributes[name] = this.string(value + 2, next, 'attributeValue', limits.attributeLen);
      last = name;
      at = next;
    }
    if (at !== end) throw wrong();
    return attributes;
  }

  /** Whether the event has no attributes, and nothing where they would be. */
  get noAttributes(): boolean {
    return (
      u16(this.bytes, this.start + record.ATTRIBUTE_COUNT) === 0 &&
      u32(this.bytes, this.start + record.ATTRIBUTES_LEN) === 0
    );
  }

  /** Whether the event has no hops, and nothing where they would be. */
  get noHops(): boolean {
    return this.hopCount === 0 && u16(this.bytes, this.start + record.HOPS_LEN) === 0;
  }

  /** Where the payload begins; it ends where the record does. */
  get payloadStart(): number {
    return payloadStart(this.bytes, this.start);
  }

  /** The payload where it lies: it shares the frame's memory. */
  get payloadBytes(): Uint8Array {
    return this.bytes.subarray(this.payloadStart, this.end);
  }

  /** The whole record: it shares the frame's memory. */
  get recordBytes(): Uint8Array {
    return this.bytes.subarray(this.start, this.end);
  }

  private sectionStart(wanted: number): number {
    let at = this.start + RECORD_HEADER + this.bytes[this.start + record.TYPE_LEN]!;
    for (let i = 0; i < wanted; i++) at += u16(this.bytes, this.start + LENGTHS[i]!);
    return at;
  }

  private has(bit: number): boolean {
    return (u16(this.bytes, this.start + record.FLAGS) & bit) !== 0;
  }

  private string(at: number, end: number, field: Field, limit: number): string {
    if (end - at > limit) {
      throw new DecodeError(
        'field_too_long',
        `${field} has ${end - at} bytes, the limit is ${limit}`,
      );
    }
    const text = readUtf8(this.bytes, at, end);
    if (text === undefined) throw notUtf8(field);
    return text;
  }

  /** A string that is there when its flag is set. */
  private optional(which: number, bit: number, field: Field): string | undefined {
    const at = this.sectionStart(which);
    const len = u16(this.bytes, this.start + LENGTHS[which]!);
    if (this.has(bit)) return this.string(at, at + len, field, this.limits.stringLen);
    if (len > 0) throw absent(field);
    return undefined;
  }

  /** An id that is there when its flag is set: 16 bytes or text. */
  private id_(which: number, bit: number, uuid: number, field: Field): string | undefined {
    if (!this.has(uuid)) {
      const text = this.optional(which, bit, field);
      // A canonical UUID belongs into 16 bytes.
      if (text !== undefined && isUuid(text)) throw wrongUuid(field);
      return text;
    }
    if (!this.has(bit)) throw absent(field);
    if (u16(this.bytes, this.start + LENGTHS[which]!) !== 16) throw wrongUuid(field);
    return readUuid(this.bytes, this.sectionStart(which));
  }
}

/** Where the payload of the record at `at` begins, by the lengths that its header states. */
export function payloadStart(b: Uint8Array, at: number): number {
  let start = at + RECORD_HEADER + b[at + record.TYPE_LEN]! + u32(b, at + record.ATTRIBUTES_LEN);
  for (let i = 0; i < LENGTHS.length; i++) start += u16(b, at + LENGTHS[i]!);
  return start;
}

function notUtf8(field: Field): DecodeError {
  return new DecodeError('utf8', `${field} is not UTF-8`);
}

function absent(field: Field): DecodeError {
  return new DecodeError('absent', `${field} is absent and yet has a length or a kind`);
}

function wrongUuid(field: Field): DecodeError {
  return new DecodeError('uuid', `${field} is a UUID in the wrong form`);
}

function time(bytes: Uint8Array, at: number): Micros | undefined {
  return micros(u32(bytes, at), u32(bytes, at + 4));
}

/** A time of its halves, undefined for 0; a bigint where a number would be rounded. */
export function micros(low: number, high: number): Micros | undefined {
  if (low === 0 && high === 0) return undefined;
  return high < 1 << 21 ? high * 4_294_967_296 + low : (BigInt(high) << 32n) | BigInt(low);
}

/** What can be checked by the header alone; the record has at least a header's length. */
export function checkNumbers(b: Uint8Array, at: number, end: number): void {
  const flags = u16(b, at + record.FLAGS);
  if ((flags & ~flag.ALL) !== 0) {
    throw new DecodeError('record_flags', `the event has unknown flags ${flags}`);
  }
  const priority = b[at + record.PRIORITY]!;
  if (priority > 9) throw new DecodeError('priority', `priority ${priority} is above 9`);
  const content = b[at + record.CONTENT]!;
  if (content > 3) throw new DecodeError('content', `unknown content kind ${content}`);
  if (isTooLate(u32(b, at + record.TIMESTAMP), u32(b, at + record.TIMESTAMP + 4))) {
    throw new DecodeError('timestamp', 'the timestamp lies after the year 9999');
  }
  if (isTooLate(u32(b, at + record.DEADLINE), u32(b, at + record.DEADLINE + 4))) {
    throw new DecodeError('deadline', 'the deadline lies after the year 9999');
  }
  let strings = b[at + record.TYPE_LEN]! + u32(b, at + record.ATTRIBUTES_LEN);
  for (let i = 0; i < LENGTHS.length; i++) strings += u16(b, at + LENGTHS[i]!);
  if (strings > end - at - RECORD_HEADER) {
    throw new DecodeError('sections', 'the strings of the event reach beyond its end');
  }
}
