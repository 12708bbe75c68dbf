/** The scripts of durable channels, with their arguments and answers as types. */

import { randomBytes } from 'node:crypto';

import { type Channel, Position } from '../../index.js';
import { ConnectionError } from '../connection-error.js';
import type { Arg, Reply } from '../driver.js';
import { key } from '../keys.js';
import { lua } from '../../../generated/lua.js';
import type { Confirmed } from '../reached.js';
import type { Run } from '../run.js';
import { Answer, Script, numberOf, type Question } from '../script.js';
import type { Settings } from '../settings.js';
import { countAt, wordToBytes } from '../words.js';
import { headerPrefix, type Entry } from './header.js';
import type { Lost } from './reader.js';

export const APPEND = new Script(lua.log_append);
const READ = new Script(lua.log_read);

/** What a channel is called on the server: the stream, which is the pub/sub channel too, and its epoch and offset. */
export interface Keys {
  readonly log: string;
  readonly meta: string;
}

export function keysOf(prefix: string, channel: Channel): Keys {
  return { log: key(prefix, channel, 'log'), meta: key(prefix, channel, 'meta') };
}

/** One frame on its way to the log. */
export interface Append {
  readonly frame: Buffer;
  readonly count: number;
  readonly publisher: string;
  /** The publisher's record, or the key with which it is published. */
  readonly record: string;
  /** Of the frame, counted by its publisher; 0 with a key. */
  readonly number: number;
  /** What was confirmed to the publisher last. */
  readonly reached: Confirmed<Position> | undefined;
  /** The server that gets it. */
  readonly server: Run;
}

const NOTHING = Buffer.alloc(0);
const PREFIX = headerPrefix();

export function append(call: Append, keys: Keys, settings: Settings): readonly Arg[] {
  return APPEND.call(
    [keys.log, keys.meta, call.record, keys.log],
    [
      call.frame,
      call.count,
      wordToBytes(call.publisher),
      call.number,
      call.reached === undefined ? NOTHING : wordToBytes(call.reached.place.epoch),
      call.reached?.place.offset ?? 0,
      randomBytes(8),
      settings.retention,
      settings.retentionTime,
      settings.metaTtl,
      settings.remember,
      PREFIX,
      'PUBLISH',
      call.reached?.number ?? 0,
      call.server,
      call.reached?.place.term ?? 0,
    ],
  );
}

/** What became of a frame: it is in the log, where the log ended; or somebody else published with its key. */
export interface Appended {
  readonly publisher: string;
  /** Of its last event that the server has. */
  readonly number: number;
  readonly position: Position | undefined;
}

export function readAppended(reply: Reply): Appended {
  const answer = new Answer(reply);
  const status = answer.int();
  const publisher = answer.word() ?? '';
  const epoch = answer.word() ?? '0'.repeat(16);
  const offset = answer.count();
  if (status === 2) return { publisher, position: undefined, number: 0 };
  if (status === 0 || status === 1) {
    const number = answer.count();
    return { publisher, position: new Position(epoch, offset, answer.count()), number };
  }
  throw ConnectionError.protocol(`log_append.lua answered ${status}`);
}

/**
 * Reads so many frames at most, for a reader that is in a term: those that end at an offset or later,
 * or the newest, newest first.
 */
export function read(
  keys: Keys,
  from: number | 'newest',
  frames: number,
  term: number | undefined,
  settings: Settings,
): Question {
  const args = [from === 'newest' ? '+' : from, frames, randomBytes(8), settings.metaTtl];
  const command = (server: Run): readonly Arg[] =>
    READ.call([keys.log, keys.meta], [...args, server, term ?? '']);
  return { command, script: READ };
}

/** Where a log ended, and the entries that were asked for. */
export interface LogPage {
  readonly end: Position;
  /** Each with the offset of its last event, which is its id. */
  readonly entries: readonly { readonly id: number; readonly entry: Entry }[];
  /** Up to here the log is what the reader's term had, if that is another one. */
  readonly common: number | undefined;
}

export function readPage(reply: Reply): LogPage {
  const answer = new Answer(reply);
  const epoch = answer.word() ?? '0'.repeat(16);
  const offset = answer.count();
  const entries: { id: number; entry: Entry }[] = [];
  for (const list = answer.array(); !list.isEmpty;) {
    const item = list.array();
    const id = numberOf(item.id());
    let header: Buffer = NOTHING;
    let frame: Buffer = NOTHING;
    let lost: Lost | undefined;
    for (const fields = item.array(); !fields.isEmpty;) {
      const name = fields.text();
      const value = fields.bytes();
      if (name === 'h') header = value;
      if (name === 'f') frame = value;
      if (name === 'l') lost = readLost(value);
    }
    entries.push({ id, entry: { header, frame, lost } });
  }
  const end = new Position(epoch, offset, answer.count());
  const common = answer.int();
  return { end, entries, common: common < 0 ? undefined : common };
}

/** As `log_append.lua` writes it; `undefined` if that makes no sense. */
function readLost(bytes: Buffer): Lost | undefined {
  if (bytes.length < 24) return undefined;
  const [term, from, to] = [countAt(bytes, 0), countAt(bytes, 8), countAt(bytes, 16)];
  if (term === undefined || from === undefined || to === undefined) return undefined;
  return from < to ? { term, from, to } : undefined;
}
