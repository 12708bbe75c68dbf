/** {@link Recent}: what the last frames were, to know them again. */

import type { Stamp } from './reader.js';

/** A failover loses what was on its way to the replica: seconds at most. */
const FRAMES = 1_024;

/**
 * The last frames that were delivered. Offsets alone do not name an event for ever: after a
 * failover a server may give them anew.
 */
export class Recent {
  /** A ring. */
  readonly #frames: Stamp[] = [];
  #oldest = 0;

  push(frame: Stamp): void {
    if (this.#frames.length < FRAMES) {
      this.#frames.push(frame);
    } else {
      this.#frames[this.#oldest] = frame;
      this.#oldest = (this.#oldest + 1) % FRAMES;
    }
  }

  has(mark: string): boolean {
    return this.#frames.some((frame) => frame.mark === mark);
  }

  /** The frame that was delivered last. */
  get newest(): Stamp | undefined {
    return this.#frames[(this.#oldest + this.#frames.length - 1) % FRAMES];
  }

  /**
   * The lowest offset of an event of this epoch that is known. Not always that of the oldest frame:
   * offsets may have been given anew.
   */
  lowest(epoch: string): number | undefined {
    let lowest: number | undefined;
    for (const frame of this.#frames) {
      if (frame.epoch === epoch && (lowest === undefined || frame.first < lowest))
        lowest = frame.first;
    }
    return lowest;
  }
}
