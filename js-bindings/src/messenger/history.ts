/** The last messages of a messenger. */

import type { Event } from '../event.js';
import type { Channel } from './channel.js';

/** A message that was sent or received. */
export interface Passed {
  /** Sent by this messenger, or received. */
  readonly sent: boolean;
  /** The channel it went through. */
  readonly channel: Channel;
  /** The event, with the marks of its sender. */
  readonly event: Event;
}

/** The newest messages, as many as are to be kept: a ring. */
export class History {
  readonly #passed: Passed[] = [];
  #oldest = 0;

  constructor(private readonly keep: number) {}

  note(sent: boolean, channel: Channel, event: Event): void {
    if (this.keep === 0) return;
    if (this.#passed.length < this.keep) {
      this.#passed.push({ sent, channel, event });
    } else {
      this.#passed[this.#oldest] = { sent, channel, event };
      this.#oldest = (this.#oldest + 1) % this.keep;
    }
  }

  /** Oldest first. */
  all(): Passed[] {
    return [...this.#passed.slice(this.#oldest), ...this.#passed.slice(0, this.#oldest)];
  }
}
