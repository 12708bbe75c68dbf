/**
 * What a breaker is told once: settings with names, and as the list of numbers that the
 * module takes.
 */
import { backoffNumbers, type Backoff } from '../backoff.js';
import { kindFault, type Kinds } from '../kinds.js';
import type { Clock } from '../wasm/clock.js';

/** Over which calls a breaker judges, and how. */
export interface BreakerWindow {
  /** The last so many calls, 1 to 65,536. Either this or `time`. */
  readonly calls?: number | undefined;
  /** The calls of the last so many milliseconds, 10 to a day's, give or take a tenth. */
  readonly time?: number | undefined;
  /** Open when this share of calls failed: more than 0, at most 1. Default: 0.5. */
  readonly failureRate?: number | undefined;
  /** Open when the share `rate` of calls took `after` milliseconds or longer. */
  readonly slowCalls?: { readonly after: number; readonly rate: number } | undefined;
  /** Judge no fewer calls than this. Default: 10, or all of a smaller window. */
  readonly minimumCalls?: number | undefined;
}

/** Settings of a `CircuitBreaker`. */
export interface BreakerSettings {
  /** Open after so many failures in a row; `null` turns the rule off. Default: 5. */
  readonly consecutiveFailures?: number | null | undefined;
  /** Open by the share of failed or slow calls. Default: no window. */
  readonly window?: BreakerWindow | null | undefined;
  /** Reject for so many milliseconds before the first probe. Default: 30,000. */
  readonly openFor?: number | undefined;
  /** An open time that grows with each opening in a row. In place of `openFor`. */
  readonly openBackoff?: Backoff | undefined;
  /** At most so many probes at once while half-open. Default: 3. */
  readonly probes?: number | undefined;
  /** Close after so many successful probes. Default: 3. */
  readonly successesToClose?: number | undefined;
  /**
   * Open again if all probes are out and none was granted for so many milliseconds.
   * `null` trusts the caller to bound each call. Default: 60,000.
   */
  readonly probeTimeout?: number | null | undefined;
  /** Count successes even without a window. Default: false. */
  readonly countSuccesses?: boolean | undefined;
  /** Where the jitter of `openBackoff` starts. Default: a random number. */
  readonly seed?: number | undefined;
  /** Milliseconds that never go back. Default: `performance.now`. */
  readonly clock?: Clock | undefined;
}

/** Why settings are no settings of a breaker. */
export type BreakerConfigErrorCode =
  | 'zero'
  | 'rate'
  | 'window_calls'
  | 'window_time'
  | 'minimum_calls'
  | 'open_time'
  | 'settings'
  | 'snapshot';

/** Settings, or a snapshot, that cannot be meant. */
export class BreakerConfigError extends Error {
  override readonly name = 'BreakerConfigError';

  constructor(
    /** Which rule they break. */
    readonly code: BreakerConfigErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** By the numbers of the module: code, and what is wrong. */
const PROBLEMS: readonly (readonly [BreakerConfigErrorCode, string])[] = [
  ['settings', 'these settings are not known'],
  ['zero', 'consecutiveFailures must be at least 1'],
  ['zero', 'probes must be at least 1'],
  ['zero', 'successesToClose must be at least 1'],
  ['zero', 'minimumCalls must be at least 1'],
  ['rate', 'failureRate must be more than 0 and at most 1'],
  ['rate', 'the rate of slowCalls must be more than 0 and at most 1'],
  ['window_calls', 'a window holds 1 to 65,536 calls'],
  ['window_time', 'a window is 10 ms to 24 h long'],
  ['minimum_calls', 'minimumCalls is more than the window holds'],
  ['open_time', 'the open time must be more than 0 and at most 365 days'],
];

/** From a number other than 0 that the module's check gave. */
export function problem(number: number): BreakerConfigError {
  const [code, message] = PROBLEMS[number] ?? ['settings', 'these settings cannot be meant'];
  return new BreakerConfigError(code, message);
}

const DEFAULT = NaN;
const OFF = -1;

const KINDS: Kinds<BreakerSettings> = {
  consecutiveFailures: 'number null',
  window: 'object null',
  openFor: 'number',
  openBackoff: 'object',
  probes: 'number',
  successesToClose: 'number',
  probeTimeout: 'number null',
  countSuccesses: 'boolean',
  seed: 'number',
  clock: 'function',
};

const WINDOW: Kinds<BreakerWindow> = {
  calls: 'number',
  time: 'number',
  failureRate: 'number',
  slowCalls: 'object',
  minimumCalls: 'number',
};

function fits<T extends object>(settings: T, kinds: Kinds<T>): void {
  const fault = kindFault(settings, kinds);
  if (fault === undefined) return;
  throw new BreakerConfigError('settings', `${fault.name} must be ${fault.must}`);
}

/**
 * Every setting in its place (`settings.rs`).
 *
 * @throws {@link BreakerConfigError} for what is no number, or none that core could judge.
 */
export function settingsNumbers(settings: BreakerSettings): Float64Array {
  fits(settings, KINDS);
  const { window, openFor, openBackoff, seed } = settings;
  const openTime =
    openBackoff !== undefined
      ? backoffNumbers(openBackoff)
      : openFor !== undefined
        ? [0, number('openFor', openFor), openFor, 0]
        : [DEFAULT, DEFAULT, DEFAULT, DEFAULT];
  const count = settings.countSuccesses;
  return Float64Array.of(
    whole('consecutiveFailures', settings.consecutiveFailures),
    ...windowNumbers(window ?? undefined),
    ...openTime,
    whole('probes', settings.probes),
    whole('successesToClose', settings.successesToClose),
    number('probeTimeout', settings.probeTimeout),
    count === undefined ? DEFAULT : Number(count),
    whole('seed', seed ?? Math.floor(Math.random() * 2 ** 53)),
  );
}

function windowNumbers(window: BreakerWindow | undefined): number[] {
  if (window === undefined) return [DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT];
  fits(window, WINDOW);
  const { calls, time, failureRate, slowCalls, minimumCalls } = window;
  if ((calls === undefined) === (time === undefined)) {
    throw new BreakerConfigError('settings', 'a window has either `calls` or `time`');
  }
  return [
    calls === undefined ? 1 : 0,
    calls === undefined ? number('time', time) : whole('calls', calls),
    number('failureRate', failureRate),
    number('after', slowCalls?.after),
    number('rate', slowCalls?.rate),
    whole('minimumCalls', minimumCalls),
  ];
}

function whole(name: string, value: number | null | undefined): number {
  if (typeof value === 'number' && !Number.isInteger(value)) {
    throw new BreakerConfigError('settings', `${name} must be a whole number, not ${value}`);
  }
  return number(name, value);
}

function number(name: string, value: number | null | undefined): number {
  if (value === undefined) return DEFAULT;
  if (value === null) return OFF;
  if (typeof value === 'number' && value >= 0 && Number.isFinite(value)) return value;
  throw new BreakerConfigError('settings', `${name} must be a number of at least 0, not ${value}`);
}
