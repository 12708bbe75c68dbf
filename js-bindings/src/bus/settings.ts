/** Every setting of a bus with its default, checked before it is believed. */

import type { BreakerSettings } from '../breaker.js';
import { breakerFault } from './breaker.js';
import { SettingError } from './errors.js';
import { kindFault, type Kinds } from '../kinds.js';
import type { Overflow } from './overflow.js';
import type { Sizes } from './queue.js';
import type { Policy } from './subscription.js';

/** The longest time that a timer takes, in milliseconds: 24.8 days. */
export const LONGEST = 2 ** 31 - 1;

/** The settings of an {@link EventBus}. All have defaults. */
export interface BusSettings {
  /** The value of the label `bus` in metrics. Default: `bus`. */
  readonly name?: string | undefined;
  /**
   * How many events are handled at once, if their handlers wait. Default: 32. A source has one of
   * them at a time.
   */
  readonly workers?: number | undefined;
  /** How many events may wait. Default: 10,000. Handlers that publish may use a quarter more. */
  readonly capacity?: number | undefined;
  /** The shares of the capacity at which backpressure begins and ends. Default: 0.8 and 0.5. */
  readonly waterMarks?: { readonly high: number; readonly low: number } | undefined;
  /** What happens to an event that finds the queue full. Default: `reject`. */
  readonly overflow?: Overflow | undefined;
  /**
   * How long an event may wait in the queue, in milliseconds. One that has waited longer reaches no
   * handler and counts as expired. Default: no limit.
   */
  readonly queueTtl?: number | undefined;
  /** How many publishers may wait for room; more are refused. Default: 10,000. */
  readonly maxWaiting?: number | undefined;
  /** How many dead letters are kept; the oldest goes first. Default: 1,000. */
  readonly deadLetterCapacity?: number | undefined;
  /** How many handlers there may be, of events and of commands each. Default: 100,000. */
  readonly maxHandlers?: number | undefined;
  /** How many schedules there may be; 0 for none. Default: 10,000. */
  readonly maxSchedules?: number | undefined;
  /** How many event types have their route kept. Default: 10,000. */
  readonly routeCache?: number | undefined;
  /** Settings of every breaker whose handler does not set its own. */
  readonly breaker?: BreakerSettings | undefined;
  /**
   * What handlers call, by its name, with the layers around their calls: a handler gets them by its
   * `service`. At most 1,000.
   */
  readonly services?: Readonly<Record<string, Policy>> | undefined;
  /**
   * How many calls may go on by themselves because they wait for a retry or in a bulkhead. Beyond
   * that they keep their worker, and so hold publishers back. Default: 10,000; with 0 all do.
   */
  readonly detachedCalls?: number | undefined;
  /** One event in how many has its times measured; 0 for none. Default: 64. */
  readonly sampleEvery?: number | undefined;
  /** Called when backpressure begins, by the publisher that filled the queue. Keep it short. */
  readonly onHighWater?: (() => void) | undefined;
  /** Called when backpressure ends. */
  readonly onLowWater?: (() => void) | undefined;
  /** Milliseconds that only grow, for breakers and limits. Default: `performance.now`. */
  readonly now?: (() => number) | undefined;
}

/** The same, whole and checked. */
export interface Checked {
  readonly name: string;
  readonly workers: number;
  readonly sizes: Sizes;
  readonly overflow: Overflow;
  readonly queueTtl: number;
  readonly maxWaiting: number;
  readonly deadLetters: number;
  readonly maxHandlers: number;
  readonly maxSchedules: number;
  readonly routeCache: number;
  readonly breaker: BreakerSettings | undefined;
  readonly services: Readonly<Record<string, Policy>>;
  readonly detachedCalls: number;
  readonly sampleEvery: number;
  readonly onHighWater: (() => void) | undefined;
  readonly onLowWater: (() => void) | undefined;
  readonly now: () => number;
}

const KINDS: Kinds<BusSettings> = {
  name: 'string',
  workers: 'number',
  capacity: 'number',
  waterMarks: 'object',
  overflow: 'string object',
  queueTtl: 'number',
  maxWaiting: 'number',
  deadLetterCapacity: 'number',
  maxHandlers: 'number',
  maxSchedules: 'number',
  routeCache: 'number',
  breaker: 'object',
  services: 'object',
  detachedCalls: 'number',
  sampleEvery: 'number',
  onHighWater: 'function',
  onLowWater: 'function',
  now: 'function',
};

/** Fills in what is missing, and refuses what makes no sense. */
export function checked(settings: BusSettings): Checked {
  const wrong = kindFault(settings, KINDS);
  if (wrong !== undefined) throw new SettingError(wrong.name, wrong.must);
  const whole = (name: keyof BusSettings, fallback: number, from: number, to: number): number => {
    const value = (settings[name] ?? fallback) as number;
    if (Number.isInteger(value) && value >= from && value <= to) return value;
    throw new SettingError(name, `a whole number from ${from} to ${to}`);
  };
  const capacity = whole('capacity', 10_000, 1, 2 ** 24);
  const { high, low } = settings.waterMarks ?? { high: 0.8, low: 0.5 };
  if (!(0 <= low && low < high && high <= 1)) {
    throw new SettingError('waterMarks', '0 ≤ low < high ≤ 1');
  }
  const highest = Math.max(1, Math.floor(capacity * high));
  const fault = breakerFault(settings.breaker);
  if (fault !== undefined)
    throw new SettingError('breaker', `settings of a breaker: ${fault.message}`);
  const ttl = settings.queueTtl ?? Infinity;
  if (!(ttl > 0)) throw new SettingError('queueTtl', 'longer than 0');
  return {
    name: settings.name ?? 'bus',
    workers: whole('workers', 32, 1, 1_000_000),
    sizes: {
      capacity,
      reserve: Math.ceil(capacity / 4),
      high: highest,
      low: Math.min(Math.floor(capacity * low), highest - 1),
    },
    overflow: settings.overflow ?? 'reject',
    queueTtl: ttl,
    maxWaiting: whole('maxWaiting', 10_000, 0, 2 ** 24),
    deadLetters: whole('deadLetterCapacity', 1_000, 0, 2 ** 24),
    maxHandlers: whole('maxHandlers', 100_000, 1, 2 ** 24),
    maxSchedules: whole('maxSchedules', 10_000, 0, 2 ** 24),
    routeCache: whole('routeCache', 10_000, 1, 2 ** 24),
    breaker: settings.breaker,
    services: settings.services ?? {},
    detachedCalls: whole('detachedCalls', 10_000, 0, 2 ** 24),
    sampleEvery: whole('sampleEvery', 64, 0, 2 ** 31 - 1),
    onHighWater: settings.onHighWater,
    onLowWater: settings.onLowWater,
    now: settings.now ?? (() => performance.now()),
  };
}
