/** {@link Recent}: what the last frames were, to know them again. */

import { last, type Stamp } from './reader.js';

/** Frames that are known: a failover loses what was on its way to the replica, seconds at most. */
export const MAX_FRAMES = 1_024;

/**
 * The last frames that were delivered. Offsets alone do not name an event for ever: after a
 * failover a server may give them anew.
 */
export class Recent {
  /** A ring. */
  readonly #frames: Stamp[] = [];
  #oldest = 0;

  push(frame: Stamp): void {
    if (this.#frames.length < MAX_FRAMES) {
      this.#frames.push(frame);
    } else {
      this.#frames[this.#oldest] = frame;
      this.#oldest = (this.#oldest + 1) % MAX_FRAMES;
    }
  }

  has(mark: string): boolean {
    return this.#frames.some((frame) => frame.mark === mark);
  }

  /** The frame that was delivered last. */
  get newest(): Stamp | undefined {
    return this.#frames[(this.#oldest + this.#frames.length - 1) % MAX_FRAMES];
  }

  /** The frame that was delivered last of those that had this offset. */
  at(epoch: string, offset: number): Stamp | undefined {
    const count = this.#frames.length;
    for (let n = count - 1; n >= 0; n -= 1) {
      const frame = this.#frames[(this.#oldest + n) % count] as Stamp;
      if (frame.epoch === epoch && frame.first <= offset && last(frame) >= offset) return frame;
    }
    return undefined;
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
