/** The layers that most handlers do not have, and when to try again. */

import { BulkheadLayer } from './bulkhead.js';
import type { BudgetPort } from './core.js';
import type { FallbackLayer } from './fallback.js';
import type { Limiter, SamplingLayer } from './rate-limit.js';

/** A rule for the delays between tries, such as core's `Backoff`. */
export interface Delays {
  /** How often to try again. */
  readonly maxTries: number;
  /**
   * The delay in milliseconds before retry number `attempt`, counted from 0. There is no retry when
   * it is no number, or this throws.
   */
  delay(attempt: number): number;
}

/** Tries again what failed, later and later. */
export class RetryLayer {
  constructor(
    private readonly delays: Delays,
    private readonly budget: BudgetPort,
    private readonly worth: ((error: unknown) => boolean) | undefined,
  ) {}

  /** A call begins: the budget is a share of them. */
  begin(): void {
    this.budget.deposit();
  }

  /**
   * The delay after try number `tries`, counted from 1. Undefined if that was the last, if the next
   * one would begin after `left`, if the error is not worth it, or if the budget is spent.
   */
  after(tries: number, error: unknown, left: number, now: number): number | undefined {
    if (tries > this.delays.maxTries || !this.#isWorth(error)) return undefined;
    const delay = this.#delay(tries - 1);
    // The budget last, as asking spends it.
    return delay < left && this.budget.withdraw(now) ? delay : undefined;
  }

  /** The program's rule, in milliseconds. One that throws has no next delay. */
  #delay(attempt: number): number {
    try {
      return this.delays.delay(attempt);
    } catch {
      return NaN;
    }
  }

  #isWorth(error: unknown): boolean {
    if (this.worth === undefined) return true;
    try {
      return this.worth(error);
    } catch {
      // One that throws has not asked for another try.
      return false;
    }
  }
}

export class Layers {
  constructor(
    readonly retry: RetryLayer | undefined,
    readonly bulkhead: BulkheadLayer | undefined,
    /** How long one try may take, in milliseconds. */
    readonly timeout: number | undefined,
    /** Whether the worker waits for all of this. */
    readonly inOrder: boolean,
    readonly sampling: SamplingLayer | undefined,
    readonly limiter: Limiter | undefined,
    readonly fallback: FallbackLayer | undefined,
    /** Those that are not shared with others. */
    private readonly owned: readonly ({ free(): void } | undefined)[],
  ) {}

  free(): void {
    for (const layer of this.owned) layer?.free();
  }
}
