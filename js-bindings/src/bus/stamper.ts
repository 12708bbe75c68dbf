/** Gives events their time and the number that their id is made of. */

import type { Event } from '../event.js';

/** Added again and again, it visits every number before one comes again. */
const STEP = 0x4f1b_bcdd;
/** Halves of a nonce are small integers: larger numbers would be objects. */
const LOW = 0x7fff_ffff;
const HIGH = 0x3fff_ffff;

/**
 * So many events in a row may share one reading of the clock, which costs more than the rest: more
 * and more while the clock does not move between readings, and one when it did.
 */
const LONGEST_STRIDE = 64;

export class Stamper {
  private low: number;
  private high: number;
  /** Not a number at first, so that it is held as an object that all events may share. */
  private now: number | undefined;
  private left = 0;
  private stride = 1;

  constructor() {
    const seed = crypto.getRandomValues(new Uint32Array(2));
    this.low = (seed[0] as number) & LOW;
    this.high = (seed[1] as number) & HIGH;
  }

  stamp(event: Event): void {
    if (--this.left < 0) this.look();
    this.low = (this.low + STEP) & LOW;
    event.stamp(this.now as number, this.low, this.high);
  }

  private look(): void {
    const now = Date.now() * 1_000;
    this.stride = now === this.now ? Math.min(LONGEST_STRIDE, this.stride * 2) : 1;
    this.left = this.stride - 1;
    if (now !== this.now) this.now = now;
    // The lower half comes round after 2^31 events; long before that this one has changed.
    this.high = (this.high + 1) & HIGH;
  }

  /** Time has passed: a handler was called. */
  forget(): void {
    this.left = 0;
  }
}
