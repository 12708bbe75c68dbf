/** {@link Incoming}: what a subscriber gets, and how it says that it is done. */

import type { Event } from '../event.js';
import { Position } from './position.js';

/** What comes out of an {@link Inbox}: look at `kind`. */
export type Incoming<P = unknown> = Received<P> | Gap;

/**
 * Why events are missing.
 *
 * - `slow`: the subscriber did not read its inbox fast enough.
 * - `disconnected`: there was no connection when they were published.
 * - `lost`: they got lost between their publisher and here.
 * - `trimmed`: the channel no longer kept them when they were to be read.
 * - `new_epoch`: the server lost the channel, which has begun anew.
 * - `unreadable`: what came is no frame that this version can read.
 */
export type GapReason = 'slow' | 'disconnected' | 'lost' | 'trimmed' | 'new_epoch' | 'unreadable';

/** Events that a subscriber missed, in the place where they are missing. */
export class Gap {
  readonly kind = 'gap';

  constructor(
    /** How many; `undefined` when that cannot be known. */
    public missed: number | undefined,
    /** What happened to them. Where several reasons fall together, the first. */
    readonly reason: GapReason,
    /** Where a durable channel goes on: save it as that of an event. */
    public position?: Position,
  ) {}

  /** Takes in a gap that follows immediately. */
  extend(next: Gap): void {
    const known = this.missed !== undefined && next.missed !== undefined;
    this.missed = known ? (this.missed as number) + (next.missed as number) : undefined;
    if (next.position !== undefined) this.position = next.position;
  }

  /** For logs: how many, and why. */
  toString(): string {
    const many = this.missed === undefined ? 'events are' : `${this.missed} events are`;
    return `${many} missing (${this.reason})`;
  }
}

/** What a subscriber answered to a task. */
export type Verdict = 'done' | 'none' | { again: number };

/** For transports: takes the answer to a task, once for each delivery. */
export interface Settle {
  /** Takes the answer to the delivery called `entry`. */
  settle(entry: string, verdict: Verdict): void;
}

/** An event as it came in. */
export class Received<P = unknown> {
  readonly kind = 'event';
  readonly #epoch: string | undefined;
  readonly #offset: number;
  readonly #term: number;
  #settle: Settle | undefined;
  readonly #entry: string;

  private constructor(
    /** The event, as it was published. */
    readonly event: Event<string, P>,
    /** How often a group has been given this event, this time included; 1 in the other modes. */
    readonly deliveries: number,
    epoch: string | undefined,
    offset: number,
    term: number,
    settle: Settle | undefined,
    entry: string,
  ) {
    this.#epoch = epoch;
    this.#offset = offset;
    this.#term = term;
    this.#settle = settle;
    this.#entry = entry;
  }

  /** For transports. */
  static live<P>(event: Event<string, P>): Received<P> {
    return new Received(event, 1, undefined, 0, 0, undefined, '');
  }

  /** For transports: an event and its place. */
  static durable<P>(event: Event<string, P>, epoch: string, offset: number, term = 0): Received<P> {
    return new Received(event, 1, epoch, offset, term, undefined, '');
  }

  /** For transports: a task that is delivered for the `deliveries`th time. */
  static task<P>(
    event: Event<string, P>,
    deliveries: number,
    settle: Settle,
    entry: string,
  ): Received<P> {
    return new Received(event, deliveries, undefined, 0, 0, settle, entry);
  }

  /** Its place in a durable channel; `undefined` in the other modes. */
  get position(): Position | undefined {
    return this.#epoch === undefined
      ? undefined
      : new Position(this.#epoch, this.#offset, this.#term);
  }

  /** Whether it is a task, which comes again until it is acknowledged. */
  get isTask(): boolean {
    return this.#entry !== '';
  }

  /** Whether it was given to the group before: an effect outside may have been done already. */
  get redelivered(): boolean {
    return this.deliveries > 1;
  }

  /**
   * Says that a task is done: the group does not get it again. Does nothing in other modes, and
   * the second time.
   *
   * Never waits: acknowledgements are sent together, and `flush` waits for them. One that is lost,
   * with the connection for example, means that the task comes again, marked as `redelivered`.
   */
  ack(): void {
    this.#answer('done');
  }

  /**
   * Says that a task was not done: the group gets it again after `delay` milliseconds, or it
   * becomes a dead letter if this was the last try.
   */
  nack(delay = 0): void {
    this.#answer({ again: Math.max(0, delay) });
  }

  /**
   * Gives no answer: the task comes again after `redeliverAfter`. A task that is forgotten counts
   * as given back like this when that time is over.
   */
  release(): void {
    this.#answer('none');
  }

  #answer(verdict: Verdict): void {
    const settle = this.#settle;
    this.#settle = undefined;
    settle?.settle(this.#entry, verdict);
  }
}
