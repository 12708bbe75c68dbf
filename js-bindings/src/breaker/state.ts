/**
 * What a breaker can be, how it moves, and how it says no.
 */

/** The name of a breaker's state. What each means is said at {@link CircuitBreaker}. */
export type BreakerState =
  'closed' | 'open' | 'half_open' | 'forced_open' | 'disabled' | 'metrics_only' | 'isolated';

/** Why a breaker moved. */
export type BreakerCause =
  | 'consecutive_failures'
  | 'failure_rate'
  | 'slow_call_rate'
  | 'probe_failed'
  | 'probe_slow'
  | 'probes_hung'
  | 'open_time_over'
  | 'recovered'
  | 'manual'
  | 'evidence'
  | 'other';

/** A change of state, given by the call that made it. */
export interface Transition {
  /** The state before. */
  readonly from: BreakerState;
  /** The state after. */
  readonly to: BreakerState;
  /** Why it changed. */
  readonly cause: BreakerCause;
}

/** The breaker said no. */
export class BreakerRejectedError extends Error {
  override readonly name = 'BreakerRejectedError';
  /** For programs: does not change. */
  readonly code = 'rejected';

  constructor(
    /** `open`, `half_open` (all probes are out), `forced_open` or `isolated`. */
    readonly state: BreakerState,
    /**
     * Milliseconds until asking again makes sense: exact while open, a hint while
     * half-open, infinite when only a person ends it.
     */
    readonly retryAfter: number,
    /** The change that this very call made, if any. */
    readonly transition: Transition | undefined,
  ) {
    super(`the circuit breaker is ${state}`);
  }
}

/** A permit was resolved a second time. */
export class PermitUsedError extends Error {
  override readonly name = 'PermitUsedError';
  /** For programs: does not change. */
  readonly code = 'permit_used';

  constructor() {
    super('this permit has been resolved or released');
  }
}

/** As the module numbers them. */
export const STATES: readonly BreakerState[] = [
  'closed',
  'open',
  'half_open',
  'forced_open',
  'disabled',
  'metrics_only',
  'isolated',
];

/** As the module numbers them. */
export const CAUSES: readonly BreakerCause[] = [
  'consecutive_failures',
  'failure_rate',
  'slow_call_rate',
  'probe_failed',
  'probe_slow',
  'probes_hung',
  'open_time_over',
  'recovered',
  'manual',
  'evidence',
  'other',
];

/** From the number that the module gives. */
export function transitionOf(change: number): Transition | undefined {
  if (change === 0) return undefined;
  const bits = change - 1;
  return {
    from: STATES[bits & 7] ?? 'closed',
    to: STATES[(bits >> 3) & 7] ?? 'closed',
    cause: CAUSES[bits >> 6] ?? 'other',
  };
}
