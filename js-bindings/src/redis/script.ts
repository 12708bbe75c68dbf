/**
 * {@link Script}: Lua that runs on the server, and what it answers.
 *
 * A script is sent by its hash. A server that does not know it, because it was restarted for
 * example, gets it as a whole and is asked again.
 */

import { createHash } from 'node:crypto';

import { sleep } from '../messenger/async.js';
import { ConnectionError } from './connection-error.js';
import type { Arg, Connection, Reply } from './driver.js';
import type { Link } from './link.js';
import { UNKNOWN, runOf, type Run } from './run.js';
import { asBuffer, wordAt } from './words.js';

/** A file of `crates/redis/src/lua`, with `shared.lua` before it where it needs that. */
export class Script {
  readonly #hash: string;

  constructor(private readonly source: string) {
    this.#hash = createHash('sha1').update(source).digest('hex');
  }

  /** A call with its keys and arguments. */
  call(keys: readonly string[], args: readonly Arg[]): readonly Arg[] {
    return ['EVALSHA', this.#hash, keys.length, ...keys, ...args];
  }

  /** Runs one call and gives its answer. @throws {@link ConnectionError} */
  async run(
    link: Link,
    connection: Connection,
    call: readonly Arg[],
    patience?: number,
  ): Promise<Reply> {
    try {
      return await link.ask(connection, call, patience);
    } catch (error) {
      const unknown = error instanceof ConnectionError && error.detail.startsWith('NOSCRIPT');
      if (!unknown) throw error;
      await this.load(link, connection);
      return link.ask(connection, call, patience);
    }
  }

  /** Sends the script without running it. @throws {@link ConnectionError} */
  async load(link: Link, connection: Connection): Promise<void> {
    await link.ask(connection, ['SCRIPT', 'LOAD', this.source]);
  }
}

/** What is asked: a command, or a call of a script. */
export interface Question {
  /** As a function, of one that names who answers. */
  readonly command: readonly Arg[] | ((run: Run) => readonly Arg[]);
  readonly script?: Script;
}

/** Between tries. */
const AGAIN = 50;

/** Somebody to ask, once or until there is an answer. */
export class Server {
  /** The number of a connection, and who answers there. */
  #known: { readonly number: number; readonly run: Run } = { number: 0, run: UNKNOWN };

  constructor(readonly link: Link) {}

  /** Waits for a connection, at most as long as for an answer, and asks once. @throws {@link ConnectionError} */
  once(question: Question): Promise<Reply> {
    return this.#within(this.link.settings.responseTimeout, question);
  }

  /**
   * Asks over as many connections as it takes, within the time for one answer: only for what may be
   * done twice. @throws {@link ConnectionError}
   */
  async insist(question: Question): Promise<Reply> {
    const deadline = performance.now() + this.link.settings.responseTimeout;
    for (;;) {
      try {
        return await this.#within(Math.max(1, deadline - performance.now()), question);
      } catch (error) {
        const why = ConnectionError.from(error);
        const passing = (why.breaksConnection && why.code !== 'closed') || why.code === 'loading';
        if (!passing || performance.now() + AGAIN >= deadline) throw why;
      }
      await sleep(AGAIN);
    }
  }

  async #within(patience: number, { command, script }: Question): Promise<Reply> {
    const { number, connection } = await this.link.ready(patience);
    try {
      const call =
        typeof command === 'function' ? command(await this.#run(number, connection)) : command;
      return await (script === undefined
        ? this.link.ask(connection, call)
        : script.run(this.link, connection, call));
    } catch (error) {
      // It may be the connection's fault.
      const why = ConnectionError.from(error);
      if (why.breaksConnection) this.link.doubt();
      throw why;
    }
  }

  async #run(number: number, connection: Connection): Promise<Run> {
    if (this.#known.number !== number) {
      this.#known = { number, run: await runOf(this.link, connection) };
    }
    return this.#known.run;
  }
}

/** Takes a script's answer apart, item by item. Each method throws when something else is there. */
export class Answer {
  #next = 0;
  readonly #items: readonly Reply[];

  constructor(reply: Reply | undefined) {
    if (!Array.isArray(reply)) throw unexpected(reply);
    this.#items = reply;
  }

  get isEmpty(): boolean {
    return this.#next >= this.#items.length;
  }

  value(): Reply {
    if (this.isEmpty) throw unexpected(undefined);
    const item = this.#items[this.#next] as Reply;
    this.#next += 1;
    return item;
  }

  int(): number {
    const value = this.value();
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw unexpected(value);
    return value;
  }

  /** A number that cannot be negative. */
  count(): number {
    const value = this.int();
    if (value < 0) throw unexpected(value);
    return value;
  }

  bytes(): Buffer {
    const value = this.value();
    if (typeof value === 'string') return Buffer.from(value);
    if (!(value instanceof Uint8Array)) throw unexpected(value);
    return asBuffer(value);
  }

  text(): string {
    return this.bytes().toString();
  }

  /** The id of a stream's entry. */
  id(): string {
    const text = this.text();
    if (!/^\d{1,16}-\d{1,20}$/.test(text)) throw unexpected(text);
    return text;
  }

  array(): Answer {
    return new Answer(this.value());
  }

  /** 8 bytes as a word; `undefined` for no bytes. */
  word(): string | undefined {
    const bytes = this.bytes();
    if (bytes.length === 0) return undefined;
    if (bytes.length !== 8) throw unexpected(bytes);
    return wordAt(bytes, 0);
  }
}

/** Says what kind of answer came, not what is in it: that may be long and somebody's own. */
export function unexpected(value: unknown): ConnectionError {
  const kind = value === null ? 'nothing' : Array.isArray(value) ? 'a list' : typeof value;
  return ConnectionError.protocol(`a script answered ${kind} where it should not`);
}

/** The number of an entry, which is the first part of its id. */
export function numberOf(id: string): number {
  return Number(id.slice(0, id.indexOf('-')));
}
