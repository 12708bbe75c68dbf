/** The scripts of group channels, with their arguments and answers as types. */

import { randomInt } from 'node:crypto';

import type { Channel } from '../../index.js';
import { ConnectionError } from '../connection-error.js';
import type { Arg, Reply } from '../driver.js';
import { key } from '../keys.js';
import { lua } from '../../../generated/lua.js';
import type { Confirmed } from '../reached.js';
import type { Run } from '../run.js';
import { Answer, Script, numberOf, type Question } from '../script.js';
import type { Settings } from '../settings.js';
import { wordToBytes } from '../words.js';

export const APPEND = new Script(lua.task_append);
export const MEET = new Script(lua.task_meet);
const JOIN = new Script(lua.task_join);
const CLAIM = new Script(lua.task_claim);
const ACK = new Script(lua.task_ack);
const RETURN = new Script(lua.task_return);
const TIDY = new Script(lua.task_tidy);

/** Events on their way to a channel. */
export interface Append {
  readonly frame: Buffer;
  readonly count: number;
  readonly publisher: string;
  /** The publisher's record, or the key with which they are published. */
  readonly record: string;
  /** Of the frame, counted by its publisher; 0 with a key. */
  readonly number: number;
  /** The last task that was confirmed to the publisher. */
  readonly reached: Confirmed<TaskPlace> | undefined;
  /** They were sent before, and nobody knows what became of that. */
  readonly again: boolean;
  /** The server that gets them. */
  readonly server: Run;
}

/** Where a task is: its id, and in which term of the channel it was appended. */
export interface TaskPlace {
  readonly id: string;
  readonly term: number;
}

/** What a channel is called on the server, as far as publishers need it. */
export interface Keys {
  readonly tasks: string;
  readonly groups: string;
}

export function keysOf(prefix: string, channel: Channel): Keys {
  return { tasks: key(prefix, channel, 'tasks'), groups: key(prefix, channel, 'groups') };
}

export function append(call: Append, keys: Keys, settings: Settings): readonly Arg[] {
  return APPEND.call(
    [keys.tasks, call.record, keys.groups],
    [
      call.frame,
      call.count,
      wordToBytes(call.publisher),
      call.number,
      settings.maxTasks,
      settings.remember,
      randomLife(),
      call.reached === undefined ? '' : lifeOf(call.reached.place.id),
      call.reached === undefined ? 0 : numberOf(call.reached.place.id),
      call.again ? 1 : 0,
      call.reached?.number ?? 0,
      call.server,
      call.reached?.place.term ?? 0,
    ],
  );
}

/** 53 random bits that are no small number: a life that is not 0, and a call. */
function randomLife(): number {
  return randomInt(1, 2 ** 21) * 2 ** 32 + randomInt(2 ** 32);
}

/** Which stream an id is of, when several have had one name. */
export function lifeOf(id: string): number {
  return Math.floor(Number(id.slice(id.indexOf('-') + 1)) / 2 ** 32);
}

/** What became of events: they are there, and where the last is if that is known; or why not. */
export type Appended = { readonly place: TaskPlace | undefined } | 'key_used' | 'full';

/** The answer, the publisher that it is for, and the number of its last event that the server has. */
export function readAppended(reply: Reply): {
  publisher: string;
  number: number;
  appended: Appended;
} {
  const answer = new Answer(reply);
  const status = answer.int();
  const publisher = answer.word() ?? '';
  switch (status) {
    case 1: {
      const [id, number] = [answer.id(), answer.count()];
      return { publisher, appended: { place: { id, term: answer.count() } }, number };
    }
    case 0:
      return { publisher, appended: { place: undefined }, number: 0 };
    case 2:
      return { publisher, appended: 'key_used', number: 0 };
    case 3:
      return { publisher, appended: 'full', number: 0 };
    default:
      throw ConnectionError.protocol(`task_append.lua answered ${status}`);
  }
}

/** A task that was given to a consumer, as it came. */
export interface Given {
  readonly id: string;
  /** Tasks that had been confirmed and were lost before this one. */
  readonly lost: number;
  deliveries: number;
  readonly frame: Buffer;
}

/** Tasks that were delivered before. */
export interface Claimed {
  /** Where to go on; `-` at the end. */
  readonly cursor: string;
  /** Milliseconds until the next delay is over. */
  readonly wait: number | undefined;
  /** Trimmed while they waited. */
  readonly lost: number;
  readonly tasks: readonly Given[];
}

/** One consumer of one group of one channel. */
export class Place {
  readonly tasks: string;
  readonly #dead: string;
  readonly #groups: string;
  readonly #delayed: string;

  constructor(
    private readonly settings: Settings,
    channel: Channel,
    private readonly group: string,
    private readonly consumer: string,
    /** Deliveries after which a task is dead. */
    private readonly tries: number,
    /** Without an answer for so many milliseconds, a task is given to another. */
    readonly idle: number,
  ) {
    const { prefix } = settings;
    this.tasks = key(prefix, channel, 'tasks');
    this.#dead = key(prefix, channel, 'dead');
    this.#groups = key(prefix, channel, 'groups');
    this.#delayed = key(prefix, channel, `delayed:${group}`);
  }

  /** Makes the group if it is not there. */
  join(fromBeginning: boolean): Question {
    return question(JOIN, [this.tasks, this.#groups], [this.group, fromBeginning ? '0' : '$']);
  }

  /** Says which server this is. */
  meet(server: Run): readonly Arg[] {
    return MEET.call([this.tasks, this.#groups], [server]);
  }

  /** Waits for new tasks. */
  read(most: number, wait: number): readonly Arg[] {
    const who = ['GROUP', this.group, this.consumer];
    return ['XREADGROUP', ...who, 'COUNT', most, 'BLOCK', wait, 'STREAMS', this.tasks, '>'];
  }

  /** What the consumer has by the server's word: a page of ids after one. */
  pending(after: string | undefined, most: number): Question {
    const from = after === undefined ? '-' : `(${after}`;
    return { command: ['XPENDING', this.tasks, this.group, from, '+', most, this.consumer] };
  }

  /** Takes what others left, from a cursor on; or, by their ids, what the consumer was given and does not know of. */
  claim(most: number, cursor: string, ids: readonly string[] = []): Question {
    const limits = [this.idle, most, this.tries, this.settings.deadLetters];
    return question(CLAIM, this.#all, [this.group, this.consumer, ...limits, cursor, ...ids]);
  }

  ack(ids: readonly string[]): Question {
    return question(ACK, [this.tasks, this.#delayed], [this.group, ...ids]);
  }

  /** Gives a task back, for after so many milliseconds; `undefined`: it is dead. */
  giveBack(id: string, delay: number | undefined): Question {
    const after = delay === undefined ? -1 : Math.min(Math.ceil(delay), 2 ** 42);
    return question(RETURN, this.#all, [
      this.group,
      this.consumer,
      id,
      after,
      this.tries,
      this.settings.deadLetters,
    ]);
  }

  tidy(): Question {
    const { groupTtl, consumerTtl } = this.settings;
    return question(TIDY, [this.tasks, this.#groups], [this.group, groupTtl, consumerTtl]);
  }

  get #all(): string[] {
    return [this.tasks, this.#delayed, this.#dead];
  }
}

function question(script: Script, keys: readonly string[], args: readonly Arg[]): Question {
  return { command: script.call(keys, args), script };
}

/** What a join found: whether the group is new, and what it missed. */
export function readJoined(reply: Reply): { created: boolean; missed: number } {
  const answer = new Answer(reply);
  return { created: answer.int() === 1, missed: answer.count() };
}

/** What a meeting found: the last task that another server may have given to somebody. */
export function readMet(reply: Reply): string | undefined {
  const answer = new Answer([reply]);
  return String(reply) === '' ? undefined : answer.id();
}

export function readClaimed(reply: Reply): Claimed {
  const answer = new Answer(reply);
  const cursor = answer.text();
  const wait = answer.int();
  const lost = answer.count();
  answer.count();
  const tasks: Given[] = [];
  for (const list = answer.array(); !list.isEmpty;) {
    tasks.push({ id: list.id(), lost: 0, deliveries: list.count(), frame: list.bytes() });
  }
  return { cursor, wait: wait < 0 ? undefined : wait, lost, tasks };
}

/** What XREADGROUP answered: one stream, or nothing. */
export function readNew(reply: Reply): Given[] {
  if (reply === null) return [];
  const streams = new Answer(reply);
  if (streams.isEmpty) return [];
  const stream = streams.array();
  stream.value();
  const tasks: Given[] = [];
  for (const entries = stream.array(); !entries.isEmpty;) {
    const entry = entries.array();
    const id = entry.id();
    let frame: Buffer = Buffer.alloc(0);
    let [lost, deliveries] = [0, 1];
    for (const fields = entry.array(); !fields.isEmpty;) {
      const name = fields.text();
      const value = fields.bytes();
      if (name === 'e') frame = value;
      if (name === 'lost') lost = Number(value.toString()) || 0;
      if (name === 'again') deliveries = 2;
    }
    tasks.push({ id, lost, deliveries, frame });
  }
  return tasks;
}

/** The ids of an answer of XPENDING. */
export function readPending(reply: Reply): string[] {
  const ids: string[] = [];
  for (const list = new Answer(reply); !list.isEmpty;) ids.push(list.array().id());
  return ids;
}
