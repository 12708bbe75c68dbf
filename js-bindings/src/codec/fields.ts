/**
 * The fields of an event's header as bytes.
 */

import type { Micros } from '../event.js';
import { EncodeError, type Field } from './error.js';
import { isTooLate } from './layout.js';
import { GROW, GUARD } from './memory.js';
import { Names } from './names.js';
import { writeUtf8 } from './text.js';
import { writeUuid } from './uuid.js';

/** The longest string that is written character by character. */
const SHORT = 40;

/** A string as UTF-8; returns its end. */
export function put(b: Uint8Array, at: number, text: string, field: Field, limit: number): number {
  if (typeof text !== 'string') throw new EncodeError('field', `${field} is a string`);
  const n = text.length;
  if (at + 3 * n > b.length - GUARD) throw GROW;
  let end = at;
  if (n <= SHORT) {
    for (let i = 0; i < n; i++) {
      const unit = text.charCodeAt(i);
      if (unit > 127) {
        end = at + writeUtf8(b, at, text);
        break;
      }
      b[end++] = unit;
    }
  } else {
    end += writeUtf8(b, at, text);
  }
  if (end - at > limit) {
    throw new EncodeError(
      'field_too_long',
      `${field} has ${end - at} bytes, the limit is ${limit}`,
    );
  }
  return end;
}

export const sources = new Names();
export const targets = new Names();

/** As {@link put}, for a name that probably was written before; its first `skip` characters are not written. */
export function putName(
  names: Names,
  b: Uint8Array,
  dv: DataView,
  at: number,
  name: string,
  skip: number,
  field: Field,
  limit: number,
): number {
  const words = names.find(name);
  if (words === undefined || words.length === 0 || words[0]! > limit) {
    const end = put(b, at, skip === 0 ? name : name.slice(skip), field, limit);
    if (words !== undefined) names.learn(words, dv, at, end);
    return end;
  }
  const end = at + words[0]!;
  if (end > b.length - GUARD) throw GROW;
  for (let i = 1; i < words.length; i++, at += 4) dv.setInt32(at, words[i]!, true);
  return end;
}

/** Writes a time, 0 for none. */
export function putTime(dv: DataView, at: number, time: Micros | undefined, field: string): void {
  if (time === undefined) {
    dv.setInt32(at, 0);
    dv.setInt32(at + 4, 0);
    return;
  }
  if (typeof time === 'number' && Number.isSafeInteger(time) && time > 0) {
    dv.setUint32(at, time >>> 0, true);
    dv.setUint32(at + 4, Math.floor(time / 4_294_967_296), true);
    return;
  }
  if (typeof time === 'bigint' && time > 0n && time < 1n << 64n) {
    const [low, high] = [Number(time & 0xffff_ffffn), Number(time >> 32n)];
    if (!isTooLate(low, high)) {
      dv.setUint32(at, low, true);
      dv.setUint32(at + 4, high, true);
      return;
    }
  }
  throw new EncodeError(
    'field',
    `${field} is microseconds since 1970, until the year 9999, not ${String(time)}`,
  );
}

/** The id's end; whether it is a UUID is told by {@link wasUuid}. */
export function putId(
  b: Uint8Array,
  dv: DataView,
  at: number,
  id: string,
  field: Field,
  limit: number,
): number {
  if (at + 16 > b.length - GUARD) throw GROW;
  wasUuid = typeof id === 'string' && writeUuid(dv, at, id);
  return wasUuid ? at + 16 : put(b, at, id, field, limit);
}
export let wasUuid = false;
