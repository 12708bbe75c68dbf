/** Gives events their time and the number that their id is made of. */

import type { Event } from '../event.js';

/** Added again and again, it visits every number before one comes again. */
const STEP = 0x4f1b_bcdd;
/** Halves of a nonce are small integers: larger numbers would be objects. */
const LOW = 0x7fff_ffff;
const HIGH = 0x3fff_ffff;

/** So many events in a row may share one reading of the clock, which costs more than the rest. */
const EVENTS_A_READING = 16;

export class Stamper {
  #low: number;
  #high: number;
  /** Not a number at first, so that it is held as an object that all events may share. */
  #now: number | undefined;
  #left = 0;

  constructor() {
    const seed = crypto.getRandomValues(new Uint32Array(2));
    this.#low = (seed[0] as number) & LOW;
    this.#high = (seed[1] as number) & HIGH;
  }

  stamp(event: Event): void {
    if (event.isStamped) return;
    if (--this.#left < 0) {
      this.#left = EVENTS_A_READING - 1;
      this.#now = Date.now() * 1_000;
    }
    const low = (this.#low + STEP) & LOW;
    // The carry of a long addition.
    if (low < this.#low) this.#high = (this.#high + 1) & HIGH;
    this.#low = low;
    event.stamp(this.#now as number, low, this.#high);
  }

  /** Time has passed: a handler was called. */
  forget(): void {
    this.#left = 0;
  }
}
