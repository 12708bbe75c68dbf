/** {@link Numbers}: finds what a live channel is missing, by the numbers of each publisher. Pure. */

import { Gap } from '../index.js';

/**
 * Publishers of one channel that are remembered. One that is forgotten, the one that was silent
 * longest, is taken for a new one.
 */
const MAX_PUBLISHERS = 4_096;

interface Known {
  /** The number of its next event. */
  next: number;
  /** `interruptions` when it was last heard of. */
  heard: number;
}

/** What came of each publisher of one channel. */
export class Numbers {
  /** The one that was silent longest comes first. */
  readonly #publishers = new Map<string, Known>();
  #last: { publisher: string; known: Known } | undefined;
  #interruptions = 0;

  /** The connection was lost. */
  interrupted(): void {
    this.#interruptions += 1;
  }

  /**
   * A publisher sent this many events, the first with this number; none: it said what the next will
   * be. What it sent before its first word that came is missing if it `beganLater` than whoever
   * listens; else it is none of their business.
   *
   * Returns what is missing before the message, and how many of its events came before.
   */
  came(
    publisher: string,
    first: number,
    count: number,
    beganLater: () => boolean,
  ): { gap: Gap | undefined; skip: number } {
    const known = this.#known(publisher, () => ({ next: beganLater() ? 1 : first, heard: 0 }));
    const missed = Math.max(0, first - known.next);
    const skip = Math.min(Math.max(0, known.next - first), count);
    const reason = known.heard < this.#interruptions ? 'disconnected' : 'lost';
    known.heard = this.#interruptions;
    known.next = Math.max(known.next, first + count);
    return { gap: missed > 0 ? new Gap(missed, reason) : undefined, skip };
  }

  #known(publisher: string, make: () => Known): Known {
    // Most messages come from the one that the last came from, which is in its place already.
    if (this.#last?.publisher === publisher) return this.#last.known;
    const publishers = this.#publishers;
    const known = publishers.get(publisher) ?? make();
    publishers.delete(publisher);
    publishers.set(publisher, known);
    if (publishers.size > MAX_PUBLISHERS) {
      for (const oldest of publishers.keys()) {
        publishers.delete(oldest);
        break;
      }
    }
    this.#last = { publisher, known };
    return known;
  }
}
