/**
 * What a breaker tells about itself, and what outlives it: from and to the lists of
 * numbers of the module (`report.rs`).
 */
import { BreakerConfigError } from './settings.js';
import { CAUSES, STATES, type BreakerCause, type BreakerState } from './state.js';

/** A breaker's counters. They only grow, over `reset` too. Times are of its clock. */
export interface BreakerStats {
  /** The state as it was last changed. */
  readonly state: BreakerState;
  /** Milliseconds until a probe is due; `null` unless open. */
  readonly remaining: number | null;
  /** Probes not resolved; `null` unless half-open. */
  readonly probesInFlight: number | null;
  /** Probes that succeeded; `null` unless half-open. */
  readonly probesSucceeded: number | null;
  /** How often it opened. */
  readonly opens: number;
  /** Times it would have opened, had it not been `metrics_only`. */
  readonly wouldOpen: number;
  /** How often it went half-open. */
  readonly recoveryAttempts: number;
  /** How often it closed again after that. */
  readonly recoveries: number;
  /** Calls that it rejected. */
  readonly rejected: number;
  /** Calls that passed whatever the state, as they were urgent. */
  readonly bypassed: number;
  /** `null` unless counted: with a window, or by `countSuccesses`. */
  readonly successes: number | null;
  /** Calls that failed. */
  readonly failures: number;
  /** Calls that took too long. */
  readonly slow: number;
  /** Failures since the last success. */
  readonly streak: number;
  /** The calls that count now, if there is a window. */
  readonly window: { readonly calls: number; readonly failures: number; readonly slow: number };
  /** When the state changed last, in milliseconds of its clock, as all times here; `null` for never. */
  readonly lastChange: number | null;
  /** When it opened last. */
  readonly openedAt: number | null;
  /** Why it opened last. */
  readonly openedBy: BreakerCause | null;
  /** When a call failed last. */
  readonly lastFailure: number | null;
}

/** A span of time in a {@link BreakerSnapshot}, as Rust writes it. */
export interface SavedTime {
  /** Whole seconds. */
  readonly secs: number;
  /** And so many nanoseconds, fewer than 10^9. */
  readonly nanos: number;
}

/** The counters in a {@link BreakerSnapshot}, and how long ago what happened. */
export interface BreakerTotals {
  readonly opens?: number;
  readonly would_open?: number;
  readonly recovery_attempts?: number;
  readonly recoveries?: number;
  readonly rejected?: number;
  readonly bypassed?: number;
  readonly successes?: number;
  readonly failures?: number;
  readonly slow?: number;
  readonly last_change?: SavedTime | null;
  readonly opened_at?: SavedTime | null;
  readonly last_failure?: SavedTime | null;
}

/**
 * A breaker's state as plain data, to outlive its process: the same in Rust and here.
 * Times are relative to when it was taken.
 */
export interface BreakerSnapshot {
  readonly state:
    | 'closed'
    | 'forced_open'
    | 'disabled'
    | 'metrics_only'
    | 'isolated'
    | { readonly open: { elapsed: SavedTime; remaining: SavedTime; row: number } }
    | { readonly half_open: { successes: number; row: number } };
  /** Failures in a row. */
  readonly streak?: number;
  /** What it counted. Default: nothing. */
  readonly totals?: BreakerTotals;
}

const COUNTERS = [
  'opens',
  'would_open',
  'recovery_attempts',
  'recoveries',
  'rejected',
  'bypassed',
  'successes',
  'failures',
  'slow',
] as const;

const TIMES = ['last_change', 'opened_at', 'last_failure'] as const;

export function statsOf(numbers: Float64Array): BreakerStats {
  const at = (place: number): number => numbers[place] ?? -1;
  const some = (place: number): number | null => (at(place) < 0 ? null : at(place));
  return {
    state: STATES[at(0)] ?? 'closed',
    remaining: some(1),
    probesInFlight: some(2),
    probesSucceeded: some(3),
    opens: at(4),
    wouldOpen: at(5),
    recoveryAttempts: at(6),
    recoveries: at(7),
    rejected: at(8),
    bypassed: at(9),
    successes: some(10),
    failures: at(11),
    slow: at(12),
    streak: at(13),
    window: { calls: at(14), failures: at(15), slow: at(16) },
    lastChange: some(17),
    openedAt: some(18),
    openedBy: some(19) === null ? null : (CAUSES[at(19)] ?? 'other'),
    lastFailure: some(20),
  };
}

export function snapshotOf(numbers: Float64Array): BreakerSnapshot {
  const at = (place: number): number => numbers[place] ?? -1;
  const time = (place: number): SavedTime => ({ secs: at(place), nanos: at(place + 1) });
  const state = STATES[at(0)] ?? 'closed';
  const counters = COUNTERS.map((name, place) => [name, at(8 + place)]);
  const times = TIMES.map((name, place) => {
    const start = 17 + 2 * place;
    return [name, at(start) < 0 ? null : time(start)];
  });
  return {
    state:
      state === 'open'
        ? { open: { elapsed: time(1), remaining: time(3), row: at(6) } }
        : state === 'half_open'
          ? { half_open: { successes: at(5), row: at(6) } }
          : state,
    streak: at(7),
    totals: Object.fromEntries([...counters, ...times]) as BreakerTotals,
  };
}

/** @throws {@link BreakerConfigError} for what is no snapshot. */
export function snapshotNumbers(snapshot: BreakerSnapshot): Float64Array {
  const { state, streak, totals } = checked(snapshot);
  const name = typeof state === 'string' ? state : 'open' in state ? 'open' : 'half_open';
  const open = typeof state === 'object' && 'open' in state ? state.open : undefined;
  const half = typeof state === 'object' && 'half_open' in state ? state.half_open : undefined;
  const zero = { secs: 0, nanos: 0 };
  return Float64Array.of(
    STATES.indexOf(name),
    ...time(open?.elapsed ?? zero),
    ...time(open?.remaining ?? zero),
    count(half?.successes),
    count(open?.row ?? half?.row),
    count(streak),
    ...COUNTERS.map((counter) => count(totals?.[counter])),
    ...TIMES.flatMap((name) => time(totals?.[name])),
  );
}

function checked(snapshot: BreakerSnapshot): BreakerSnapshot {
  const state: unknown = (snapshot as Partial<BreakerSnapshot> | null)?.state;
  const known =
    typeof state === 'string'
      ? STATES.includes(state as BreakerState) && state !== 'open' && state !== 'half_open'
      : typeof state === 'object' && state !== null && ('open' in state || 'half_open' in state);
  if (!known) throw new BreakerConfigError('snapshot', 'a snapshot has a state');
  return snapshot;
}

function count(value: unknown): number {
  if (value === undefined) return 0;
  if (typeof value === 'number' && value >= 0) return value;
  throw new BreakerConfigError('snapshot', `a counter must be at least 0, not ${String(value)}`);
}

function time(value: SavedTime | null | undefined): [number, number] {
  if (value === null || value === undefined) return [-1, -1];
  return [count(value.secs), count(value.nanos)];
}
