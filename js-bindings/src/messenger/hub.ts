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
import type { MessengerSettings, Positions } from './settings.js';
import { noStats } from './stats.js';
import { TransportPublishError, TransportError } from './transport-error.js';
import type { Transport } from './transport.js';

/** Deals with a message. What it throws or rejects with is a failure. */
export type Handler<P = unknown> = (message: Message<P>) => unknown;

/** Makes the answer to a request: its payload. */
export type Responder<P = unknown> = (message: Message<P>, signal: AbortSignal) => unknown;

/** Refusals that are being sent at once; those beyond are not sent. */
const MAX_REFUSALS = 256;

export class Hub {
  /** This messenger among those of the same identity. */
  readonly node = randomNode();
  readonly handlers = new Table<Handler>();
  readonly responders = new Table<Responder>();
  readonly pending: Pending;
  readonly history: History;
  readonly counts = noStats();
  readonly maxRefusals = MAX_REFUSALS;
  answering = 0;
  refusing = 0;
  /** Aborted when the messenger is closed: each task ends when it is done with what it has. */
  readonly closing = new AbortController();
  /** Aborted when closing has taken as long as it may: no answer is waited for any more. */
  readonly over = new AbortController();
  readonly #sender: string;
  readonly #positions = new Map<string, Position>();
  /** Inboxes, workers and answers. */
  readonly #tasks = new Set<Promise<void>>();

  constructor(
    readonly transport: Transport,
    readonly identity: Identity,
    readonly settings: MessengerSettings,
  ) {
    this.#sender = `${identity}/${this.node}`;
    this.pending = new Pending(settings.maxRequests);
    this.history = new History(settings.history);
  }

  /** How messages are delivered; tasks and answers have a mode of their own. */
  get mode(): Mode {
    return this.settings.mode;
  }

  get isClosed(): boolean {
    return this.closing.signal.aborted;
  }

  /** How to subscribe to a channel. */
  subscribing(channel: Channel): SubscribeOptions {
    const saved = this.settings.resume[String(channel)];
    const start = saved === undefined ? undefined : Position.parse(saved);
    return { capacity: this.settings.capacity, start };
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
    const deadline = performance.now() + limit;
    while (this.#tasks.size > 0) {
      const left = deadline - performance.now();
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
    tell(() => this.settings.onGap?.(channel, gap));
  }

  failed(error: unknown, message: Message): void {
    tell(() => this.settings.onError?.(error, message));
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
