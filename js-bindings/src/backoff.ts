/**
 * How long to wait before the next try.
 */
import { backoff_delay } from '../generated/glue.js';
import './wasm/instance.js';

/** How delays grow: `first`, then so many times it. */
export type Growth = 'fixed' | 'linear' | 'exponential' | 'fibonacci';

/**
 * What is left to chance: nothing, up to so many percent to either side (1 to 100),
 * or anything from zero to the delay.
 */
export type Jitter = 'none' | 'full' | { readonly spread: number };

/** Settings of a {@link Backoff}. */
export interface BackoffSettings {
  /** The first delay in milliseconds. */
  readonly first: number;
  /** Default: `exponential`. */
  readonly growth?: Growth | undefined;
  /** No delay is longer, in milliseconds. Default: 10,000, or `first` if that is longer. */
  readonly cap?: number | undefined;
  /** Default: `none`. */
  readonly jitter?: Jitter | undefined;
  /** How many delays {@link Backoff.delays} gives. Default: 3. */
  readonly maxTries?: number | undefined;
}

const GROWTH: readonly Growth[] = ['fixed', 'linear', 'exponential', 'fibonacci'];
const FULL = 101;

/**
 * A rule for the delays between tries, in milliseconds. It owns no linear memory.
 *
 * @example
 * ```ts
 * import assert from 'node:assert/strict';
 * import { Backoff } from 'swarmbus';
 *
 * const backoff = Backoff.exponential(100).with({ cap: 1000, maxTries: 6 });
 * assert.deepEqual([...backoff.delays()], [100, 200, 400, 800, 1000, 1000]);
 *
 * // Randomness is an argument where a test wants it to be one.
 * const spread = backoff.with({ jitter: { spread: 25 } });
 * assert.equal(spread.delay(0, () => 0), 75);
 * ```
 */
export class Backoff {
  /** 0.1 s, 0.2 s, 0.4 s with 25 % jitter and a cap of 10 s: for calls whose caller waits. */
  static readonly RETRY = Backoff.exponential(100).with({ jitter: { spread: 25 } });

  /**
   * 1 s, 2 s, 4 s, 8 s, 16 s with 25 % jitter and a cap of 300 s: for work nobody waits
   * for.
   */
  static readonly PATIENT = Backoff.exponential(1000).with({
    cap: 300_000,
    jitter: { spread: 25 },
    maxTries: 5,
  });

  /** The first delay in milliseconds. */
  readonly first: number;
  /** How delays grow. */
  readonly growth: Growth;
  /** The longest delay, in milliseconds. */
  readonly cap: number;
  /** What is left to chance. */
  readonly jitter: Jitter;
  /** How often to try again. */
  readonly maxTries: number;
  readonly #growth: number;
  readonly #jitter: number;

  /** @throws RangeError when a setting is no number that can be meant. */
  constructor(settings: BackoffSettings) {
    this.first = atLeastZero('first', settings.first);
    this.growth = settings.growth ?? 'exponential';
    this.cap = atLeastZero('cap', settings.cap ?? Math.max(10_000, this.first));
    this.jitter = settings.jitter ?? 'none';
    this.maxTries = settings.maxTries ?? 3;
    if (!Number.isInteger(this.maxTries) || this.maxTries < 0) {
      throw new RangeError(`maxTries must be a whole number of at least 0, not ${this.maxTries}`);
    }
    this.#growth = GROWTH.indexOf(this.growth);
    if (this.#growth < 0) throw new RangeError(`no such growth: ${this.growth}`);
    this.#jitter = jitterNumber(this.jitter);
  }

  /** `first`, twice, four times, eight times `first`, … */
  static exponential(first: number): Backoff {
    return new Backoff({ first, growth: 'exponential' });
  }

  /** `first`, twice, three times, four times `first`, … */
  static linear(first: number): Backoff {
    return new Backoff({ first, growth: 'linear' });
  }

  /** `first` times 1, 1, 2, 3, 5, 8, … */
  static fibonacci(first: number): Backoff {
    return new Backoff({ first, growth: 'fibonacci' });
  }

  /** `delay` every time. */
  static fixed(delay: number): Backoff {
    return new Backoff({ first: delay, growth: 'fixed' });
  }

  /** The same rule with other settings. */
  with(settings: Partial<BackoffSettings>): Backoff {
    const { first, growth, cap, jitter, maxTries } = this;
    return new Backoff({ first, growth, cap, jitter, maxTries, ...settings });
  }

  /**
   * The delay before retry number `attempt`, counted from 0; any number is fine,
   * `maxTries` does not apply. `random` gives numbers in 0 ≤ x < 1 and decides the jitter.
   */
  delay(attempt: number, random: () => number = Math.random): number {
    const chance = this.#jitter === 0 ? 0 : random();
    const tries = attempt > 0xffff_ffff ? 0xffff_ffff : attempt;
    return backoff_delay(this.#growth, this.first, this.cap, this.#jitter, tries, chance);
  }

  /** The delays in order, `maxTries` of them. Keep the iterator for as long as tries fail. */
  *delays(random: () => number = Math.random): Generator<number, void, void> {
    for (let attempt = 0; attempt < this.maxTries; attempt += 1) yield this.delay(attempt, random);
  }
}

function atLeastZero(name: string, value: number): number {
  if (value >= 0) return value;
  throw new RangeError(`${name} must be at least 0, not ${value}`);
}

function jitterNumber(jitter: Jitter): number {
  if (jitter === 'none') return 0;
  if (jitter === 'full') return FULL;
  const percent = Math.min(jitter.spread, 100);
  if (Number.isInteger(percent) && percent >= 0) return percent;
  throw new RangeError(`spread must be a whole number of percent, not ${jitter.spread}`);
}

/** The four numbers of a rule, as the module takes them. @internal */
export function backoffNumbers({ growth, first, cap, jitter }: Backoff): number[] {
  return [GROWTH.indexOf(growth), first, cap, jitterNumber(jitter)];
}
