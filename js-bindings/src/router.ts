/**
 * Which values want this type: core's router, with a cache in front.
 */
import { Router as RawRouter } from '../generated/glue.js';
import { own, release } from './handles.js';
import './wasm/instance.js';

/** Why a text is not a pattern. */
export type PatternErrorCode =
  | 'empty_token'
  | 'too_long'
  | 'character'
  | 'part_of_token'
  | 'rest_not_last'
  | 'too_many'
  | 'pattern';

/** A text that is not a pattern. */
export class PatternError extends Error {
  override readonly name = 'PatternError';

  constructor(
    /** Which rule it breaks. */
    readonly code: PatternErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** One subscription of a {@link Router}. */
export interface Route {
  /** Takes it out. The second time it does nothing. */
  remove(): void;
}

/** Settings of a {@link Router}. */
export interface RouterSettings {
  /** How many types the cache holds; the oldest goes first. Default: 10,000. */
  readonly cacheCapacity?: number | undefined;
}

/** By the numbers of the module, from -1 down: code, and what is wrong. */
const PROBLEMS: readonly (readonly [PatternErrorCode, string])[] = [
  ['empty_token', 'a pattern needs at least one character in each token between dots'],
  ['too_long', 'a pattern is at most 255 bytes long'],
  ['character', 'a pattern has no white space or control characters'],
  ['part_of_token', '`*` and `>` stand for whole tokens'],
  ['rest_not_last', '`>` can only be the last token'],
  ['too_many', 'there are too many patterns'],
];

interface Entry<T> {
  readonly value: T;
  /** Its place in the order of insertion. */
  readonly order: number;
  /** From end to end; only for a regex. */
  readonly regex?: RegExp;
}

/** Longest regex in characters, as written: what Rust's limit is in bytes. */
const MAX_REGEX_LEN = 1024;

/**
 * The table of subscriptions: from a type to every value whose pattern matches it, in
 * the order of insertion.
 *
 * | pattern | wants |
 * | --- | --- |
 * | `task.created` | this one type |
 * | `task.*` | `*` stands for one whole token |
 * | `agent.7.>` | `>`, always last, stands for one or more tokens |
 * | `/task\.(created\|done)/` | every type that the regex matches from end to end |
 *
 * A regex is JavaScript's own, with its flags `i`, `s`, `u` and `v`. Unlike in Rust it
 * may take long on types made to confuse it: prefer wildcards for what comes from
 * strangers.
 *
 * A type seen lately costs one look into a `Map`. The router owns linear memory:
 * `free()` it, or declare it with `using`.
 *
 * @example
 * ```ts
 * import assert from 'node:assert/strict';
 * import { Router } from 'swarmbus';
 *
 * using router = new Router<string>();
 * router.insert('task.*.>', 'audit');
 * const created = router.insert('task.created', 'resize');
 * router.insert(/task\.(created|deleted)/, 'metrics');
 * assert.deepEqual(router.matches('task.created'), ['resize', 'metrics']);
 * assert.deepEqual(router.matches('task.7.created.late'), ['audit']);
 *
 * created.remove();
 * assert.deepEqual(router.matches('task.created'), ['metrics']);
 * ```
 */
export class Router<T> {
  #raw: RawRouter;
  /** By the ids of the module. */
  readonly #entries: (Entry<T> | undefined)[] = [];
  readonly #regexes = new Set<Entry<T> & { readonly regex: RegExp }>();
  readonly #cache = new Map<string, readonly T[]>();
  readonly #capacity: number;
  #length = 0;
  #order = 0;

  constructor({ cacheCapacity = 10_000 }: RouterSettings = {}) {
    if (!(cacheCapacity >= 1)) throw new RangeError('cacheCapacity must be at least 1');
    this.#capacity = cacheCapacity;
    this.#raw = RawRouter.create();
    own(this, this.#raw);
  }

  /** How many subscriptions there are. */
  get length(): number {
    return this.#length;
  }

  /**
   * Adds a subscription. The same pattern may be inserted many times.
   *
   * @throws {@link PatternError}
   */
  insert(pattern: string | RegExp, value: T): Route {
    return typeof pattern === 'string'
      ? this.#insertPattern(pattern, value)
      : this.#insertRegex(pattern, value);
  }

  /** The values that want this type, each once. The list is kept: do not change it. */
  matches(type: string): readonly T[] {
    const found = this.#cache.get(type);
    return found ?? this.#look(type);
  }

  /** Gives its memory back. Every use after that throws a `FreedError`. */
  free(): void {
    this.#raw = release(this, this.#raw, 'Router');
    this.#cache.clear();
    this.#entries.length = 0;
    this.#regexes.clear();
    this.#length = 0;
  }

  [Symbol.dispose](): void {
    this.free();
  }

  #insertPattern(pattern: string, value: T): Route {
    const id = this.#file(pattern);
    const entry = { value, order: this.#added() };
    this.#entries[id] = entry;
    return {
      remove: () => {
        // Ids are used again: this one may be another's by now.
        if (this.#entries[id] !== entry) return;
        this.#entries[id] = undefined;
        this.#raw.remove(id);
        this.#removed();
      },
    };
  }

  #insertRegex(pattern: RegExp, value: T): Route {
    const { source, flags } = pattern;
    if (source.length > MAX_REGEX_LEN) {
      throw new PatternError(
        'too_long',
        `a regex is at most ${MAX_REGEX_LEN} characters long, this one has ${source.length}`,
      );
    }
    // Of the other flags, one would find it within a type, and two keep a position.
    const regex = new RegExp(`^(?:${source})$`, flags.replace(/[^isuv]/g, ''));
    const entry = { value, regex, order: this.#added() };
    this.#regexes.add(entry);
    return {
      remove: () => {
        if (this.#regexes.delete(entry)) this.#removed();
      },
    };
  }

  #added(): number {
    this.#length += 1;
    this.#cache.clear();
    return (this.#order += 1);
  }

  #removed(): void {
    this.#length -= 1;
    this.#cache.clear();
  }

  #file(pattern: string): number {
    const id = this.#raw.insert(pattern);
    if (id >= 0) return id;
    const [code, message] = PROBLEMS[~id] ?? ['pattern', 'not a pattern'];
    throw new PatternError(code, `${message}: ${JSON.stringify(pattern.slice(0, 300))}`);
  }

  #look(type: string): readonly T[] {
    const found: Entry<T>[] = [];
    for (const id of this.#raw.matches(type)) {
      const entry = this.#entries[id];
      if (entry !== undefined) found.push(entry);
    }
    if (this.#regexes.size > 0) {
      for (const entry of this.#regexes) if (entry.regex.test(type)) found.push(entry);
      found.sort((a, b) => a.order - b.order);
    }
    const values = found.map(({ value }) => value);
    if (this.#cache.size >= this.#capacity) {
      const oldest = this.#cache.keys().next();
      if (!oldest.done) this.#cache.delete(oldest.value);
    }
    this.#cache.set(type, values);
    return values;
  }
}
