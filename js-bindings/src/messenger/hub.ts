/** What a messenger, its inboxes and its answers in progress share. */

import { type Event } from '../event.js';
import { sleep, within } from './async.js';
import type { Channel, Mode } from './channel.js';
import { Table } from './handlers.js';
import { History } from './history.js';
import type { Identity } from './identity.js';
import type { Gap } from './incoming.js';
import { MARK, marked, type Message } from './message.js';
import type { SubscribeOptions } from './options.js';
import { Position } from './position.js';
import { Pending } from './request.js';
import { noStats } from './stats.js';
import { TransportPublishError, TransportError } from './transport-error.js';
import type { Transport } from './transport.js';

/** Deals with a message. What it throws or rejects with is a failure. */
export type Handler<P = unknown> = (message: Message<P>) => unknown;

/** Makes the answer to a request: its payload. */
export type Responder<P = unknown> = (message: Message<P>, signal: AbortSignal) => unknown;

/** Where a messenger is in its durable channels, by their names: to be saved as JSON. */
export type Positions = Record<string, string>;

/** Settings of a messenger. */
export interface MessengerOptions {
  /**
   * Sends messages through durable channels, and reads such: none is missed while there is no
   * connection. All messengers that talk to each other must agree on this. Answers stay live.
   */
  durable?: boolean;
  /** Goes on in the durable channels where an earlier messenger was: see `positions`. */
  resume?: Positions;
  /**
   * How many milliseconds a request without a deadline waits for its answer; also how long
   * answering one without a deadline may take. Default 30,000.
   */
  requestTimeout?: number;
  /** How many requests may wait for their answers at once. Default 1,024. */
  maxRequests?: number;
  /** How many requests of others are answered at once. Those beyond are refused as `busy`. Default 64. */
  maxAnswers?: number;
  /** How many of the last messages are kept; at most 100,000. Default 100. */
  history?: number;
  /** How many events wait in each inbox while handlers are at work. Default 8,192. */
  capacity?: number;
  /** Told of each gap in what is received. What it throws is ignored. */
  onGap?: (channel: Channel, gap: Gap) => void;
  /** Told of what handlers and tasks fail with, which is counted as well. What it throws is ignored. */
  onError?: (error: unknown, message: Message) => void;
}

/** Refusals that are being sent at once; those beyond are not sent. */
const MAX_REFUSALS = 256;

export class Hub {
  /** This messenger among those of the same identity. */
  readonly node = randomNode();
  /** How messages are delivered; tasks and answers have a mode of their own. */
  readonly mode: Mode;
  readonly handlers = new Table<Handler>();
  readonly responders = new Table<Responder>();
  readonly pending: Pending;
  readonly history: History;
  readonly counts = noStats();
  readonly requestTimeout: number;
  readonly maxAnswers: number;
  readonly maxRefusals = MAX_REFUSALS;
  answering = 0;
  refusing = 0;
  /** Aborted when the messenger is closed: each task ends when it is done with what it has. */
  readonly closing = new AbortController();
  readonly #sender: string;
  readonly #positions = new Map<string, Position>();
  /** Inboxes, workers and answers. */
  readonly #tasks = new Set<Promise<void>>();

  constructor(
    readonly transport: Transport,
    readonly identity: Identity,
    readonly options: MessengerOptions,
  ) {
    this.mode = options.durable === true ? 'durable' : 'live';
    this.#sender = `${identity}/${this.node}`;
    this.pending = new Pending(options.maxRequests ?? 1_024);
    this.history = new History(Math.min(options.history ?? 100, 100_000));
    this.requestTimeout = options.requestTimeout ?? 30_000;
    this.maxAnswers = options.maxAnswers ?? 64;
  }

  get isClosed(): boolean {
    return this.closing.signal.aborted;
  }

  /** How to subscribe to a channel. */
  subscribing(channel: Channel): SubscribeOptions {
    const saved = this.options.resume?.[String(channel)];
    const start = saved === undefined ? undefined : Position.parse(saved);
    return { capacity: this.options.capacity, start };
  }

  /** Does something that the messenger waits for when it is closed. It must not fail. */
  spawn(task: Promise<void>): void {
    const done: Promise<void> = task
      .catch(() => undefined)
      .then(() => void this.#tasks.delete(done));
    this.#tasks.add(done);
  }

  /** Waits until all that was spawned is done; `false` if `limit` milliseconds were not enough. */
  async settled(limit: number): Promise<boolean> {
    const deadline = Date.now() + limit;
    while (this.#tasks.size > 0) {
      const left = deadline - Date.now();
      if (left <= 0) return false;
      const all = Promise.all(this.#tasks).then(() => true);
      if (!(await within(all, left, () => false))) return false;
    }
    return true;
  }

  /** Sends an event with the sender's mark, and what else is marked on it. */
  async send(channel: Channel, event: Event): Promise<void> {
    const sealed = this.#sealed(event);
    this.history.note(true, channel, sealed);
    try {
      await this.transport.publish(channel, sealed);
      this.counts.sent += 1;
    } catch (error) {
      this.counts.notSent += 1;
      throw error;
    }
  }

  /** Fails what is sent after the messenger was closed. */
  refuseIfClosed(event: Event): void {
    if (!this.isClosed) return;
    this.counts.notSent += 1;
    throw new TransportPublishError([event], TransportError.closed());
  }

  gap(channel: Channel, gap: Gap): void {
    this.counts.gaps += 1;
    this.counts.missed += gap.missed ?? 0;
    tell(() => this.options.onGap?.(channel, gap));
  }

  failed(error: unknown, message: Message): void {
    tell(() => this.options.onError?.(error, message));
  }

  arrivedAt(channel: Channel, position: Position | undefined): void {
    if (position !== undefined) this.#positions.set(String(channel), position);
  }

  positions(): Positions {
    return Object.fromEntries(
      [...this.#positions].map(([channel, position]) => [channel, position.toString()]),
    );
  }

  /** Waits before something is tried again, up to `attempt` times; ends early when the messenger is closed. */
  async pause(attempt: number): Promise<void> {
    await sleep(
      Math.random() * Math.min(10_000, 100 * 2 ** Math.min(attempt, 10)),
      this.closing.signal,
    );
  }

  /** With an id, a time and the sender's mark. */
  #sealed(event: Event): Event {
    const sealed = marked(event, MARK.sender, this.#sender);
    if (!sealed.isStamped) sealed.stamp(nowMicros(), randomHalf(), randomHalf() & 0x3fff_ffff);
    return sealed;
  }
}

/** Microseconds since 1970, to the millisecond. */
export function nowMicros(): number {
  return Date.now() * 1_000;
}

/** Whether an event's deadline has passed. */
export function isLate(event: Event): boolean {
  return event.deadline !== undefined && Number(event.deadline) <= nowMicros();
}

function randomHalf(): number {
  return Math.floor(Math.random() * 2 ** 32) || 1;
}

function randomNode(): string {
  return [randomHalf(), randomHalf()].map((half) => half.toString(16).padStart(8, '0')).join('');
}

function tell(told: () => void): void {
  try {
    told();
  } catch {
    // Whoever wants to be told has to look after itself.
  }
}
