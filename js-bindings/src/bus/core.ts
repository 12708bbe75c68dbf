/** Core's decisions that only the bus asks for. Each owns linear memory and is counted. */

import { OverflowGate, RetryBudget } from '../../generated/glue.js';
import { own, release } from '../handles.js';
import '../wasm/instance.js';

/** An overflow policy at work on one queue: see `overflow.ts` for what the numbers are. */
export class GatePort {
  #raw: OverflowGate;

  constructor(
    policy: number,
    capacity: number,
    lowWater: number,
    highWater: number,
    cut: number,
    minRate: number,
    step: number,
    recovery: number,
  ) {
    const raw = OverflowGate.create(
      policy,
      capacity,
      lowWater,
      highWater,
      cut,
      minRate,
      step,
      recovery,
    );
    if (raw === undefined) throw new RangeError('settings of an overflow policy were not checked');
    this.#raw = raw;
    own(this, raw);
  }

  decide(priority: number, depth: number, lowest: number, oldest: number, now: number): number {
    return this.#raw.decide(priority, depth, lowest, oldest, now);
  }

  free(): void {
    this.#raw = release(this, this.#raw, 'overflow policy');
  }
}

/** Retries as a share of the calls. */
export class BudgetPort {
  #raw: RetryBudget;

  constructor(percent: number, perSecond: number) {
    this.#raw = RetryBudget.create(percent, perSecond);
    own(this, this.#raw);
  }

  /** Counts a call: its first try, not its retries. */
  deposit(): void {
    this.#raw.deposit();
  }

  /** Asks for one retry; whoever gets a yes has spent it. */
  withdraw(now: number): boolean {
    return this.#raw.withdraw(now);
  }

  free(): void {
    this.#raw = release(this, this.#raw, 'retry budget');
  }
}
