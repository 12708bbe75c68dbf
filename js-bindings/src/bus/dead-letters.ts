/** Layer: dead letters. Keeps the events that a handler could not handle. */

import type { Event } from '../event.js';
import { HandlerTimeoutError, RetryError } from './errors.js';
import { OUTCOMES, Outcome } from './ledger.js';
import type { Subscriber } from './subscriber.js';

/** Why an event became a dead letter: the handler threw, or took longer than its time limit. */
export type DeadReason = 'failed' | 'timed_out';

/** An event that a handler could not handle. */
export interface DeadLetter {
  /** Its number in this bus, counted from 1. It stays the same however often it is retried. */
  readonly id: number;
  /** The event as the handler got it. */
  readonly event: Event;
  /** The handler's name. */
  readonly handler: string;
  /** What went wrong. */
  readonly reason: DeadReason;
  /** What the handler threw the last time. */
  readonly error: unknown;
  /** How often the handler was called with the event, retries included. */
  readonly attempts: number;
  /** When the handler gave up the last time, in milliseconds since 1970. */
  readonly at: number;
}

/** Which dead letters: those of a handler, of a reason, and what else a function says. */
export interface LetterFilter {
  /** The handler's name. */
  readonly handler?: string | undefined;
  /** Why they are dead. */
  readonly reason?: DeadReason | undefined;
  /** The event's type, no pattern. */
  readonly type?: string | undefined;
  /** And only those that it returns true for. */
  readonly where?: ((letter: DeadLetter) => boolean) | undefined;
}

/** What {@link DeadLetters.retryAll} came to. */
export interface RetryReport {
  /** Letters that were delivered, and are gone. */
  readonly delivered: number;
  /** Why each of the others is still there, oldest first. */
  readonly left: readonly RetryError[];
}

/** The letter that a call retries. */
export interface Retried {
  readonly id: number;
  /** Calls before this one. */
  readonly attempts: number;
}

/** A letter with whom it is for. */
interface Entry {
  readonly letter: DeadLetter;
  readonly subscriber: Subscriber;
}

/** The letters of one bus: bounded, and never in anybody's way. */
export class DeadLetterQueue {
  readonly #letters = new Map<number, Entry>();
  readonly #onLoan = new Set<number>();
  #lastId = 0;
  evicted = 0;

  constructor(
    private readonly capacity: number,
    private readonly stamp: (event: Event) => void,
  ) {}

  get size(): number {
    return this.#letters.size;
  }

  /** On the way out of a call that failed, after `attempts` calls of the handler. */
  keep(
    subscriber: Subscriber,
    event: Event,
    error: unknown,
    attempts: number,
    retried: Retried | undefined,
  ): void {
    // A dispatched event has no stamp yet; a letter needs its id and time.
    this.stamp(event);
    const id = retried?.id ?? ++this.#lastId;
    const letter: DeadLetter = {
      id,
      event,
      handler: subscriber.name,
      reason: error instanceof HandlerTimeoutError ? 'timed_out' : 'failed',
      error,
      attempts: attempts + (retried?.attempts ?? 0),
      at: Date.now(),
    };
    if (this.capacity === 0) {
      this.evicted++;
      return;
    }
    if (!this.#letters.has(id) && this.#letters.size >= this.capacity) {
      const [oldest] = this.#letters.keys();
      this.#letters.delete(oldest as number);
      this.evicted++;
    }
    this.#letters.set(id, { letter, subscriber });
  }

  list(): DeadLetter[] {
    return [...this.#letters.values()].map(({ letter }) => letter);
  }

  get(id: number): DeadLetter | undefined {
    return this.#letters.get(id)?.letter;
  }

  remove(id: number): boolean {
    return this.#letters.delete(id);
  }

  /** A letter that nobody else gets until `giveBack`. */
  lend(id: number): Entry {
    const entry = this.#letters.get(id);
    if (entry === undefined) {
      throw new RetryError('not_found', id, `there is no dead letter ${id}`);
    }
    if (this.#onLoan.has(id)) {
      throw new RetryError('busy', id, `dead letter ${id} is being retried already`);
    }
    this.#onLoan.add(id);
    return entry;
  }

  giveBack(id: number): void {
    this.#onLoan.delete(id);
  }
}

/**
 * The dead letters of a bus, in the order in which they first failed. They are bounded: when there
 * are too many, the oldest makes room and is counted in {@link evicted}.
 *
 * A retry takes the event to the handler that failed and to no other, through its whole pipeline. If
 * that handler is no longer subscribed, one of the same name that is and that wants the event's type
 * takes its place. In the ledger a retry is one more event published, with one match. The letter
 * stays where it is until the retry has delivered it.
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { EventBus } from 'swarmbus';
 *
 * const bus = new EventBus();
 * let mended = false;
 * bus.subscribe('vote.cast', () => {
 *   if (!mended) throw new Error('no quorum');
 * });
 * await bus.publish({ type: 'vote.cast', payload: 'yes' });
 * await bus.drain();
 * assert.match(String(bus.deadLetters.list()[0]?.error), /no quorum/);
 *
 * mended = true;
 * const report = await bus.deadLetters.retryAll();
 * assert.equal(report.delivered, 1);
 * assert.equal(bus.deadLetters.size, 0);
 * ```
 */
export class DeadLetters {
  /** @internal Making the package small takes the name away. */
  static readonly name = 'DeadLetters';

  readonly #queue: DeadLetterQueue;
  readonly #redeliver: (letter: DeadLetter, subscriber: Subscriber) => Promise<number>;

  /** @internal */
  constructor(
    queue: DeadLetterQueue,
    redeliver: (letter: DeadLetter, subscriber: Subscriber) => Promise<number>,
  ) {
    this.#queue = queue;
    this.#redeliver = redeliver;
  }

  /** How many letters wait. */
  get size(): number {
    return this.#queue.size;
  }

  /** How many letters had to make room for newer ones. */
  get evicted(): number {
    return this.#queue.evicted;
  }

  /** All letters, oldest first, or those that a filter wants. */
  list(which?: LetterFilter): DeadLetter[] {
    const letters = this.#queue.list();
    return which === undefined ? letters : letters.filter((letter) => wants(which, letter));
  }

  /** The letter of this number. */
  get(id: number): DeadLetter | undefined {
    return this.#queue.get(id);
  }

  /** Throws letters away, all or those that a filter wants. Returns how many. */
  purge(which?: LetterFilter): number {
    return this.list(which).filter(({ id }) => this.#queue.remove(id)).length;
  }

  /** Takes letters out, oldest first, all or those that a filter wants. */
  takeAll(which?: LetterFilter): DeadLetter[] {
    return this.list(which).filter(({ id }) => this.#queue.remove(id));
  }

  /**
   * Retries one letter.
   *
   * @throws RetryError when it was not delivered; it is then still there.
   */
  async retry(id: number): Promise<void> {
    const { letter, subscriber } = this.#queue.lend(id);
    try {
      const outcome = await this.#redeliver(letter, subscriber);
      if (outcome !== Outcome.delivered && outcome !== Outcome.fellBack) {
        const name = OUTCOMES[outcome];
        const text = `dead letter ${id} was retried, and came back: ${name}`;
        throw new RetryError('not_delivered', id, text, name);
      }
      this.#queue.remove(id);
    } finally {
      this.#queue.giveBack(id);
    }
  }

  /** Retries letters one after the other, oldest first. Those that arrive meanwhile are left. */
  async retryAll(which?: LetterFilter): Promise<RetryReport> {
    let delivered = 0;
    const left: RetryError[] = [];
    for (const { id } of this.list(which)) {
      try {
        await this.retry(id);
        delivered++;
      } catch (error) {
        if (!(error instanceof RetryError)) throw error;
        // Somebody else was done with it first.
        if (error.code !== 'not_found') left.push(error);
      }
    }
    return { delivered, left };
  }
}

function wants({ handler, reason, type, where }: LetterFilter, letter: DeadLetter): boolean {
  return (
    (handler === undefined || letter.handler === handler) &&
    (reason === undefined || letter.reason === reason) &&
    (type === undefined || letter.event.type === type) &&
    (where === undefined || where(letter))
  );
}
