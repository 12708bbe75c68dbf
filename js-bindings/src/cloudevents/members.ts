/**
 * The members of a JSON object as they were written: the spelling of `data` is kept.
 */

import { CloudEventError } from './error.js';
import { LONE_SURROGATE } from './words.js';

/** Members that have a meaning; all others are attributes. */
const FIELDS = 24;

/** The raw text of each member's value, `null` left out except in `data`. */
export type Members = Map<string, string>;

/**
 * Reads one object. Each name and value is shown to `JSON.parse`; what is done here is to find
 * where they end.
 *
 * @throws CloudEventError
 */
export function readMembers(json: string, attributes: number): Members {
  const limit = attributes + FIELDS;
  const members: Members = new Map();
  let [count, twice] = [0, undefined as string | undefined];
  let at = skip(json, 0);
  if (json[at] !== '{') throw syntax('it begins with another character');
  at = skip(json, at + 1);
  while (json[at] !== '}' || count > 0) {
    const nameEnd = endOf(json, at);
    const name = text(json.slice(at, nameEnd));
    if (name === undefined) throw syntax('the name of a member is a string');
    at = skip(json, nameEnd);
    if (json[at] !== ':') throw syntax(`a colon is missing at ${at}`);
    const start = skip(json, at + 1);
    const end = endOf(json, start);
    const value = json.slice(start, end);
    parse(value);
    if (++count > limit) {
      throw new CloudEventError('too_many_members', `the event has more than ${limit} members`);
    }
    if (members.has(name)) twice ??= name;
    members.set(name, value);
    at = skip(json, end);
    if (json[at] === '}') break;
    if (json[at] !== ',') throw syntax(`a comma is missing at ${at}`);
    at = skip(json, at + 1);
  }
  if (skip(json, at + 1) !== json.length) throw syntax('something follows the object');
  if (twice !== undefined) {
    throw new CloudEventError('duplicate', `member ${JSON.stringify(twice)} is there twice`);
  }
  // In CloudEvents `null` is the same as absent; in `data` it is a value.
  for (const [name, value] of members) {
    if (value === 'null' && name !== 'data') members.delete(name);
  }
  return members;
}

/** The string that a JSON text stands for; undefined when it is none. */
export function text(raw: string): string | undefined {
  const value: unknown = raw.startsWith('"') ? parse(raw) : undefined;
  return typeof value === 'string' && !LONE_SURROGATE.test(value) ? value : undefined;
}

function parse(raw: string): unknown {
  try {
    return JSON.parse(raw) as unknown;
  } catch (cause) {
    throw new CloudEventError('syntax', 'not a JSON object', { cause });
  }
}

function syntax(what: string): CloudEventError {
  return new CloudEventError('syntax', `not a JSON object: ${what}`);
}

/** Behind spaces. */
function skip(json: string, at: number): number {
  while (at < json.length && ' \t\n\r'.includes(json[at]!)) at++;
  return at;
}

/** What ends a string, or makes the next character belong to it. */
const IN_STRING = /["\\]/g;
/** A number, or a word such as `true`. */
const WORD = /[^\s,\]}:]*/y;

/** Where the value that begins here ends, if it is one. */
function endOf(json: string, at: number): number {
  let depth = 0;
  do {
    const first = json[at];
    if (first === undefined) throw syntax('it is cut off');
    if (first === '"') {
      at = stringEnd(json, at + 1);
    } else if (first === '{' || first === '[') {
      depth++;
      at++;
    } else if (first === '}' || first === ']') {
      depth--;
      at++;
    } else if (depth > 0) {
      at++;
    } else {
      WORD.lastIndex = at;
      WORD.test(json);
      return WORD.lastIndex;
    }
  } while (depth > 0);
  return at;
}

function stringEnd(json: string, at: number): number {
  for (;;) {
    IN_STRING.lastIndex = at;
    if (!IN_STRING.test(json)) throw syntax('it is cut off');
    at = IN_STRING.lastIndex;
    if (json[at - 1] === '"') return at;
    at++;
  }
}
