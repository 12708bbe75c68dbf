/** Layer: rate limits. So many calls in a time, and under an event storm only a sample. */

/**
 * So many calls in a time, and at most so many at once. Tokens come back evenly: `{ calls: 100 }`
 * gives one each 10 ms, and keeps as many as the burst allows.
 */
export interface RateLimit {
  /** So many calls in each `per`. */
  readonly calls: number;
  /** In how many milliseconds. Default: 1,000. */
  readonly per?: number | undefined;
  /** How many may come at once after a pause. Default: those of one period. */
  readonly burst?: number | undefined;
}

/**
 * Under an event storm, only a sample is handled: while events come faster than a rate, one in so
 * many of those above it, picked by chance. For events of which a part tells enough, such as
 * readings and progress.
 */
export interface Sampling {
  /** The rate above which it is a storm. */
  readonly above: RateLimit;
  /** At least 2. */
  readonly keepOneIn: number;
}

/** What rounding may cost, in milliseconds. */
const ROUNDING = 1e-6;

/** @internal A rate limit at work. */
export class Limiter {
  readonly #step: number;
  readonly #tolerance: number;
  /** When all tokens will be back. */
  #full = -Infinity;

  constructor({ calls, per = 1_000, burst = calls }: RateLimit) {
    this.#step = per / calls;
    this.#tolerance = this.#step * (burst - 1);
  }

  /** Takes a token if there is one. */
  check(now: number): boolean {
    const full = Math.max(this.#full, now);
    if (full - now > this.#tolerance + ROUNDING) return false;
    this.#full = full + this.#step;
    return true;
  }
}

/** @internal A sampler at work. */
export class SamplingLayer {
  readonly #calm: Limiter;
  readonly #each: number;
  #above = 0;
  #picked = 0;

  constructor({ above, keepOneIn }: Sampling) {
    this.#calm = new Limiter(above);
    this.#each = keepOneIn;
  }

  /** Whether this event is one to handle. */
  keeps(now: number): boolean {
    if (this.#calm.check(now)) return true;
    // Each so-and-so-eth would always be the same one of sources that take turns.
    if (this.#above === 0) this.#picked = Math.floor(Math.random() * this.#each);
    const isPicked = this.#above === this.#picked;
    this.#above = (this.#above + 1) % this.#each;
    return isPicked;
  }
}
