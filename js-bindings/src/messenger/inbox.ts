/** {@link Inbox} and {@link Feed}: the two ends of a subscription. */

import { Notify, deferred } from './async.js';
import { Gap, type Incoming } from './incoming.js';
import type { TransportError } from './transport-error.js';

/** What both ends share. */
class Shared {
  queue: Incoming[] = [];
  /** What was dropped after all that is in `queue`: it goes out with the next take. */
  lost: Gap | undefined;
  ended = false;
  error: TransportError | undefined;
  readonly arrived = new Notify();
  readonly room = new Notify();
  readonly gone = deferred<void>();
  isGone = false;

  constructor(readonly capacity: number) {}

  gap(gap: Gap): void {
    const last = this.queue[this.queue.length - 1];
    if (this.lost !== undefined) {
      this.lost.extend(gap);
    } else if (last?.kind === 'gap' && last.reason === gap.reason) {
      last.extend(gap);
    } else if (this.queue.length >= this.capacity) {
      // Gaps of different reasons, too, stay within the capacity.
      this.lost = new Gap(gap.missed, gap.reason, gap.position);
    } else {
      this.queue.push(new Gap(gap.missed, gap.reason, gap.position));
    }
  }
}

/**
 * One subscription of a transport: an async iterable of events and gaps. Leaving a `for await`
 * loop does not end it; `close`, `using` or `await using` do.
 *
 * ```ts no_run
 * import { Channel } from 'swarmbus';
 * import { RedisTransport } from 'swarmbus/redis';
 *
 * await using transport = await RedisTransport.connect('redis://127.0.0.1:6379');
 * await using inbox = await transport.subscribe(Channel.live('news'));
 * for await (const incoming of inbox) {
 *   if (incoming.kind === 'event') console.log(incoming.event.type);
 *   else console.log(String(incoming)); // 3 events are missing (slow)
 * }
 * ```
 */
export class Inbox<P = unknown> implements AsyncIterable<Incoming<P>> {
  readonly #shared: Shared;
  #held: Incoming[] = [];
  #next = 0;

  /** For transports: see {@link feed}. */
  constructor(shared: unknown) {
    this.#shared = shared as Shared;
  }

  /**
   * What comes next; `undefined` after the subscription has ended, see {@link error}. One call at
   * a time.
   */
  async next(): Promise<Incoming<P> | undefined> {
    while (this.#next >= this.#held.length) {
      if (!this.#fill()) {
        if (this.#shared.ended || this.#shared.isGone) return undefined;
        await this.#shared.arrived.wait();
      }
    }
    const incoming = this.#held[this.#next];
    this.#next += 1;
    return incoming as Incoming<P>;
  }

  /** All that has come in, waiting for the first; an empty list after the end. */
  async nextBatch(): Promise<Incoming<P>[]> {
    while (this.#next >= this.#held.length) {
      if (!this.#fill()) {
        if (this.#shared.ended || this.#shared.isGone) return [];
        await this.#shared.arrived.wait();
      }
    }
    const batch = this.#next === 0 ? this.#held : this.#held.slice(this.#next);
    this.#held = [];
    this.#next = 0;
    return batch as Incoming<P>[];
  }

  /** The same as an async iterable: the quickest way to read. */
  async *batches(): AsyncGenerator<Incoming<P>[], void, undefined> {
    for (;;) {
      const batch = await this.nextBatch();
      if (batch.length === 0) return;
      yield batch;
    }
  }

  /** Why the subscription has ended; `undefined` while it lasts, and after a `close`. */
  get error(): TransportError | undefined {
    return this.#shared.error;
  }

  /** Unsubscribes. Tasks that wait here come again elsewhere. */
  close(): void {
    const shared = this.#shared;
    if (shared.isGone) return;
    shared.isGone = true;
    const left = [...this.#held.slice(this.#next), ...shared.queue];
    this.#held = [];
    this.#next = 0;
    shared.queue = [];
    for (const incoming of left) if (incoming.kind === 'event') incoming.release();
    shared.gone.resolve();
    shared.arrived.notify();
    shared.room.notify();
  }

  [Symbol.asyncIterator](): AsyncIterator<Incoming<P>, undefined, undefined> {
    return {
      next: async () => {
        const value = await this.next();
        return value === undefined ? { done: true, value } : { done: false, value };
      },
    };
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #fill(): boolean {
    const shared = this.#shared;
    const wasFull = shared.queue.length >= shared.capacity;
    this.#held = shared.queue;
    this.#next = 0;
    shared.queue = [];
    if (shared.lost !== undefined) {
      this.#held.push(shared.lost);
      shared.lost = undefined;
    }
    if (wasFull) shared.room.notify();
    return this.#held.length > 0;
  }
}

/** For transports: the end of an {@link Inbox} that is written to. */
export class Feed {
  readonly #shared: Shared;

  constructor(shared: unknown) {
    this.#shared = shared as Shared;
  }

  /**
   * Takes from `batch` what there is room for, from index `from` on; returns the index of the first
   * that found none. Gaps always find room.
   */
  deliver(batch: readonly Incoming[], from = 0): number {
    const shared = this.#shared;
    const before = shared.queue.length;
    const room = shared.capacity - before;
    let at = from;
    if (batch.length - from <= room && from === 0 && before === 0) {
      shared.queue = batch.slice();
      at = batch.length;
    } else {
      for (let events = 0; at < batch.length; at += 1) {
        const incoming = batch[at] as Incoming;
        if (incoming.kind === 'gap') {
          shared.gap(incoming);
        } else {
          events += 1;
          if (events > room) break;
          shared.queue.push(incoming);
        }
      }
    }
    if (before === 0 && (shared.queue.length > 0 || shared.lost !== undefined))
      shared.arrived.notify();
    return at;
  }

  /** For channels that wait for nobody: counts the rest of `batch` as a gap; returns how many. */
  dropRest(batch: readonly Incoming[], from: number): number {
    let events = 0;
    for (const incoming of batch.slice(from)) {
      if (incoming.kind === 'event') events += 1;
      this.gap(incoming.kind === 'event' ? new Gap(1, 'slow') : incoming);
    }
    return events;
  }

  /** Says that events are missing here. Joins gaps that follow each other. */
  gap(gap: Gap): void {
    this.#shared.gap(gap);
    this.#shared.arrived.notify();
  }

  /** How many events there is room for. */
  get free(): number {
    return Math.max(0, this.#shared.capacity - this.#shared.queue.length);
  }

  /** Waits until there is room; `false` if nobody reads any more. */
  async room(): Promise<boolean> {
    for (;;) {
      if (this.#shared.isGone) return false;
      if (this.free > 0) return true;
      await this.#shared.room.wait();
    }
  }

  /** Whether the inbox was closed. */
  get isGone(): boolean {
    return this.#shared.isGone;
  }

  /** Settles when the inbox is closed. */
  get gone(): Promise<void> {
    return this.#shared.gone.promise;
  }

  /** Ends the inbox once it is read empty, with a reason if there is one. */
  end(error?: TransportError): void {
    if (this.#shared.ended) return;
    this.#shared.ended = true;
    this.#shared.error = error;
    this.#shared.arrived.notify();
    this.#shared.room.notify();
  }
}

/** For transports: an inbox for so many events, and its other end. */
export function feed(capacity: number): [Feed, Inbox] {
  const shared = new Shared(capacity);
  return [new Feed(shared), new Inbox(shared)];
}
