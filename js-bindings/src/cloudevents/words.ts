/**
 * What the members of CloudEvents JSON say in words of their own: ADR 0012.
 */

import type { Content } from '../codec/payload.js';

/** Stands for the empty source: CloudEvents wants one. */
export const ANONYMOUS = 'swarmbus:anonymous';

/** Stands for the id of an event that has none yet. */
export const UNSTAMPED = 'swarmbus:unstamped';

/** A surrogate without its other half: no text, and no UTF-8. */
export const LONE_SURROGATE = /\p{Cs}/u;

const MEDIA_TYPES: readonly (readonly [Content, string])[] = [
  ['binary', 'application/octet-stream'],
  ['msgpack', 'application/msgpack'],
  ['json', 'application/json'],
  ['text', 'text/plain'],
];

export function mediaType(content: Content): string {
  return MEDIA_TYPES.find(([known]) => known === content)![1];
}

/** The kind of payload that a media type stands for; undefined for one of another. */
export function contentOf(mediaType: string): Content | undefined {
  const end = mediaType.indexOf(';');
  const name = end < 0 ? mediaType : mediaType.slice(0, end).trim();
  const content = MEDIA_TYPES.find(([, known]) => known === lower(name))?.[0];
  if (end < 0) return content;
  const utf8 = lower(mediaType.slice(end + 1).trim()) === 'charset=utf-8';
  return utf8 && (content === 'json' || content === 'text') ? content : undefined;
}

/** Letters of other scripts stay: two of them have a lower case in ASCII. */
function lower(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** A path of hops as one string: CloudEvents has no lists. */
export function joinHops(hops: readonly string[]): string {
  return hops.map((hop) => hop.replaceAll('%', '%25').replaceAll(',', '%2C')).join(',');
}

/** The path again; undefined when there is another `%` than those that {@link joinHops} writes. */
export function splitHops(text: string): string[] | undefined {
  if (/%(?!25|2C)/.test(text)) return undefined;
  return text
    .split(',')
    .map((hop) => hop.replace(/%../g, (escape) => (escape === '%25' ? '%' : ',')));
}

/** RFC 3339. Seconds, and the minutes of a zone, may be missing, as Rust's reader allows. */
const TIME =
  /^(\d{4}-\d\d-\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)$/;

/** Microseconds since 1970 of a time; undefined when it is none. */
export function parseTime(text: string): bigint | undefined {
  const [, day, hour, minute, second = '00', fraction = '', sign, hours, minutes = '0'] =
    TIME.exec(text) ?? [];
  if (day === undefined) return undefined;
  // A leap second is the one before it.
  const millis = Date.parse(`${day}T${hour}:${minute}:${second === '60' ? '59' : second}Z`);
  const date = new Date(millis);
  // `Date` takes the 30th of February for a day in March, and 24:00 for the next day.
  if (!(millis >= -86_400_000) || date.getUTCDate() !== Number(day.slice(8))) return undefined;
  if (date.getUTCHours() !== Number(hour) || Number(hours) > 25 || Number(minutes) > 59)
    return undefined;
  const zone = sign === undefined ? 0 : Number(hours) * 60 + Number(minutes);
  const seconds = millis / 1000 - (sign === '-' ? -zone : zone) * 60;
  return BigInt(seconds) * 1_000_000n + BigInt(fraction.padEnd(6, '0').slice(0, 6));
}

/** A time in UTC, with no more digits than it needs. */
export function formatTime(micros: number | bigint): string {
  const [whole, fraction] = [BigInt(micros) / 1_000_000n, BigInt(micros) % 1_000_000n];
  const seconds = new Date(Number(whole) * 1000).toISOString().slice(0, 19);
  if (fraction === 0n) return `${seconds}Z`;
  return `${seconds}.${String(fraction).padStart(6, '0').replace(/0+$/, '')}Z`;
}

/** Bytes as base64 with padding. */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  // In pieces: arguments of a call are few.
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(text);
}

/** The bytes of base64 as {@link toBase64} writes it; undefined for anything else. */
export function fromBase64(text: string): Uint8Array | undefined {
  try {
    const bytes = Uint8Array.from(atob(text), (unit) => unit.charCodeAt(0));
    // `atob` overlooks spaces, missing padding and bits that belong to no byte.
    return toBase64(bytes) === text ? bytes : undefined;
  } catch {
    return undefined;
  }
}
