/** Publishers that wait for room, first come, first served. */

import type { Event, EventInit } from '../event.js';
import { type PublishCode, PublishError } from './errors.js';
import type { Queue } from './queue.js';
import type { Route } from './routes.js';

interface Waiter {
  readonly event: Event;
  readonly admitted: () => void;
  readonly refused: (code: PublishCode) => void;
}

/** Those of one queue. */
export class Waiters {
  readonly #waiting = new Set<Waiter>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly queue: Queue,
    private readonly routeOf: (event: Event) => Route,
    private readonly limit: number,
    /** An event was queued. */
    private readonly wake: () => void,
    private readonly refuse: () => void,
  ) {}

  get size(): number {
    return this.#waiting.size;
  }

  /** Waits until the event is queued. `code` says what stands in the way. */
  wait(
    event: Event,
    given: EventInit,
    code: PublishCode,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = (): void => waiter.refused('aborted');
      const end = (): void => {
        this.#waiting.delete(waiter);
        signal?.removeEventListener('abort', stop);
      };
      const waiter: Waiter = {
        event,
        admitted: () => {
          end();
          resolve();
        },
        refused: (code) => {
          end();
          this.refuse();
          const retryAfter = code === 'rate_limited' ? this.queue.retryAfter : undefined;
          reject(new PublishError(code, given, retryAfter));
        },
      };
      if (this.#waiting.size >= this.limit) return waiter.refused('full');
      if (signal?.aborted === true) return waiter.refused('aborted');
      signal?.addEventListener('abort', stop);
      this.#waiting.add(waiter);
      if (code === 'rate_limited' && this.#waiting.size === 1) this.#askLater();
    });
  }

  /** Queues those for whom there is room now. */
  admit(): void {
    for (const waiter of this.#waiting) {
      if (!this.queue.hasRoom) return;
      const code = this.queue.offer(waiter.event, this.routeOf(waiter.event), false);
      if (code === undefined) {
        waiter.admitted();
        this.wake();
      } else if (code === 'rate_limited') {
        return this.#askLater();
      } else if (code === 'full') {
        return;
      } else {
        waiter.refused(code);
      }
    }
  }

  /** Sends all away. */
  close(): void {
    clearTimeout(this.#timer);
    for (const waiter of this.#waiting) waiter.refused('closed');
  }

  #askLater(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.admit();
    }, Math.ceil(this.queue.retryAfter));
  }
}
