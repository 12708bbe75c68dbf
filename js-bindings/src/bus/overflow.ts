/** What happens to an event that finds the queue full. The decisions are core's. */

import { GatePort } from './core.js';
import { SettingError } from './errors.js';
import { Outcome } from './ledger.js';

/**
 * What happens to an event that finds the queue full.
 *
 * | policy | protects | price |
 * | --- | --- | --- |
 * | `reject` | every event | publishers wait |
 * | `drop_oldest` | fresh events | old ones are lost, whatever their priority |
 * | `drop_lowest_priority` | urgent events | others are lost |
 * | `adaptive_rate` | urgent events' latency, before the queue is full | other publishers wait sooner |
 */
export type Overflow =
  'reject' | 'drop_oldest' | 'drop_lowest_priority' | 'adaptive_rate' | AdaptiveRate;

/**
 * How `adaptive_rate` reacts. From the high-water mark on, events below priority 8 are admitted at
 * `cut` times the rate at which the queue is being emptied, but never below `minRate`. Below the
 * low-water mark the limit is lifted step by step, and it is gone after `recovery`.
 */
export interface AdaptiveRate {
  /** Which policy these are settings of. */
  readonly policy: 'adaptive_rate';
  /** Fraction of the capacity. Default: 0.5. */
  readonly lowWater?: number | undefined;
  /** Fraction of the capacity. Default: 0.8. */
  readonly highWater?: number | undefined;
  /** Fraction of the rate at which the queue is emptied. Default: 0.5. */
  readonly cut?: number | undefined;
  /** Events per second. Default: 10. */
  readonly minRate?: number | undefined;
  /** How fast measurements are forgotten, in milliseconds. Default: 100. */
  readonly step?: number | undefined;
  /** How long the queue has to be calm until there is no limit, in milliseconds. Default: 1,000. */
  readonly recovery?: number | undefined;
}

/** Answers of a gate. Above `ACCEPT`: make room in the lane of that priority, plus one. */
export const ACCEPT = 0;
export const FULL = -1;
export const OUTRANKED = -2;
/** This or below: the milliseconds to wait, taken off. */
export const RATE_LIMITED = -3;

const POLICIES = ['reject', 'drop_oldest', 'drop_lowest_priority', 'adaptive_rate'] as const;

/** A policy at work on one queue. */
export class Gate {
  readonly #port: GatePort;
  /** Whether it must see every event, not only those that find the queue full. */
  readonly always: boolean;
  /** Whether it makes room by dropping what waits. */
  readonly drops: boolean;
  /** What becomes of events that have to go. */
  readonly dropsAs: number;

  constructor(overflow: Overflow, capacity: number) {
    const { policy, lowWater, highWater, cut, minRate, step, recovery } = checkOverflow(overflow);
    const most = Math.min(capacity, 2 ** 32 - 1);
    const place = POLICIES.indexOf(policy);
    this.#port = new GatePort(place, most, lowWater, highWater, cut, minRate, step, recovery);
    this.always = isAdaptive(overflow);
    this.drops = policy === 'drop_oldest' || policy === 'drop_lowest_priority';
    this.dropsAs = policy === 'drop_oldest' ? Outcome.droppedOldest : Outcome.droppedLowest;
  }

  decide(priority: number, depth: number, lowest: number, oldest: number, now: number): number {
    return this.#port.decide(priority, depth, lowest, oldest, now);
  }

  free(): void {
    this.#port.free();
  }
}

/** Whether it is about rates, too, and not only about room. */
export function isAdaptive(overflow: Overflow): overflow is 'adaptive_rate' | AdaptiveRate {
  return typeof overflow === 'object' || overflow === 'adaptive_rate';
}

/** The numbers of {@link AdaptiveRate}. */
type Rates = Record<Exclude<keyof AdaptiveRate, 'policy'>, number>;

/** A policy with all its settings. @throws SettingError */
export function checkOverflow(overflow: Overflow): Rates & { policy: (typeof POLICIES)[number] } {
  const settings: Partial<AdaptiveRate> = typeof overflow === 'object' ? overflow : {};
  const policy = typeof overflow === 'object' ? overflow.policy : overflow;
  if (!POLICIES.includes(policy)) {
    throw new SettingError('overflow', `one of ${POLICIES.join(', ')}`);
  }
  const { lowWater = 0.5, highWater = 0.8, cut = 0.5 } = settings;
  const { minRate = 10, step = 100, recovery = 1_000 } = settings;
  check(
    'overflow.lowWater, highWater',
    0 < lowWater && lowWater < highWater && highWater < 1,
    '0 < low < high < 1',
  );
  check('overflow.cut', 0 < cut && cut < 1, 'above 0 and below 1');
  check(
    'overflow.minRate',
    Number.isInteger(minRate) && minRate >= 1 && minRate < 2 ** 32,
    'a whole number from 1',
  );
  check('overflow.step', step >= 1 && step <= 60_000, '1 to 60,000');
  check('overflow.recovery', recovery >= 0 && recovery <= 3_600_000, '0 to 3,600,000');
  return { policy, lowWater, highWater, cut, minRate, step, recovery };
}

function check(setting: string, fine: boolean, must: string): void {
  if (!fine) throw new SettingError(setting, must);
}
