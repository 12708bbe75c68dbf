/**
 * The circuit breaker: core's, with permits as objects.
 */
import { Breaker } from '../generated/glue.js';
import { own, release } from './handles.js';
import { monotonic, readFrom, type Clock } from './wasm/clock.js';
import './wasm/instance.js';
import {
  snapshotNumbers,
  snapshotOf,
  statsOf,
  type BreakerSnapshot,
  type BreakerStats,
} from './breaker/report.js';
import { problem, settingsNumbers, type BreakerSettings } from './breaker/settings.js';
import {
  BreakerRejectedError,
  PermitUsedError,
  STATES,
  transitionOf,
  type BreakerState,
  type Transition,
} from './breaker/state.js';

export { BreakerConfigError } from './breaker/settings.js';
export type { BreakerConfigErrorCode, BreakerSettings, BreakerWindow } from './breaker/settings.js';
export type { BreakerSnapshot, BreakerStats, BreakerTotals, SavedTime } from './breaker/report.js';
export { BreakerRejectedError, PermitUsedError } from './breaker/state.js';
export type { BreakerCause, BreakerState, Transition } from './breaker/state.js';

const REJECTED = -1;
const USED = -Infinity;

/** What {@link CircuitBreaker.restore} hands its constructor. */
let restored: Float64Array | undefined;

/**
 * May this call go ahead?
 *
 * | state | what it does |
 * | --- | --- |
 * | `closed` | lets calls through; their outcomes feed the trip rules |
 * | `open` | rejects calls, until its time is over |
 * | `half_open` | lets a few probes through, which find out whether to close |
 * | `forced_open` | by hand: rejects every call |
 * | `disabled` | by hand: lets every call through, records nothing |
 * | `metrics_only` | by hand: lets every call through, records, counts only when it would open |
 * | `isolated` | by hand: rejects every call, and only `reset` ends it |
 *
 * It owns linear memory: `free()` it, or declare it with `using`.
 *
 * @example
 * ```ts
 * import assert from 'node:assert/strict';
 * import { BreakerRejectedError, CircuitBreaker } from 'swarmbus';
 *
 * let now = 0;
 * const breaker = new CircuitBreaker({ clock: () => now });
 * for (let i = 0; i < 5; i += 1) breaker.acquire().failure();
 * assert.equal(breaker.state, 'open');
 * assert.throws(() => breaker.acquire(), BreakerRejectedError);
 *
 * // Three probes in a row succeed and close it.
 * now += 30_000;
 * for (let i = 0; i < 3; i += 1) breaker.acquire().success();
 * assert.equal(breaker.state, 'closed');
 * breaker.free();
 * ```
 */
export class CircuitBreaker {
  #raw: Breaker;
  readonly #clock: Clock;
  readonly #timed: boolean;

  /** @throws {@link BreakerConfigError} */
  constructor(settings: BreakerSettings = {}) {
    const numbers = settingsNumbers(settings);
    const snapshot = restored;
    restored = undefined;
    this.#clock = settings.clock ?? monotonic;
    this.#timed = settings.window?.slowCalls !== undefined;
    if (snapshot !== undefined) readFrom(this.#clock);
    const raw =
      snapshot === undefined ? Breaker.create(numbers) : Breaker.restore(numbers, snapshot);
    if (raw === undefined) throw problem(Breaker.check(numbers));
    this.#raw = raw;
    own(this, raw);
  }

  /**
   * A breaker that goes on where `snapshot` stopped, with `settings` deciding from here.
   *
   * @throws {@link BreakerConfigError}
   */
  static restore(snapshot: BreakerSnapshot, settings: BreakerSettings = {}): CircuitBreaker {
    restored = snapshotNumbers(snapshot);
    try {
      return new CircuitBreaker(settings);
    } finally {
      restored = undefined;
    }
  }

  /** The state. An open breaker whose time is over stays so until somebody asks. */
  get state(): BreakerState {
    return STATES[this.#raw.state()] ?? 'closed';
  }

  /**
   * Asks for one call to go ahead. Resolve the permit, or let `using` release it.
   *
   * @throws {@link BreakerRejectedError} says why, and when to ask again.
   */
  acquire(): Permit {
    const ticket = this.grant();
    if (ticket === REJECTED) throw this.rejection();
    const transition = ticket < REJECTED ? transitionOf(this.#raw.changed()) : undefined;
    return new Permit(this, ticket, this.started(), transition);
  }

  /** A permit whatever the state, for what must not wait: priorities 8 and 9. */
  bypass(): Permit {
    return new Permit(this, this.#raw.bypass(), this.started(), undefined);
  }

  /**
   * Calls `work` if the breaker lets it, and tells the breaker how it ended.
   *
   * @throws {@link BreakerRejectedError}, or what `work` throws.
   */
  async run<T>(work: () => T | PromiseLike<T>): Promise<T> {
    const permit = this.acquire();
    try {
      const result = await work();
      permit.success();
      return result;
    } catch (error) {
      permit.failure();
      throw error;
    }
  }

  /** Opens a closed or half-open breaker as its rules would. */
  trip(): Transition | undefined {
    return this.#act((raw) => raw.trip());
  }

  /** Opens for `time` milliseconds, or sees to it that it stays open that long. */
  keepOpen(time: number): Transition | undefined {
    return this.#act((raw) => raw.keep_open(time));
  }

  /** Rejects every call until told otherwise. */
  forceOpen(): Transition | undefined {
    return this.#act((raw) => raw.force_open());
  }

  /** Lets every call through and records nothing, until told otherwise. */
  disable(): Transition | undefined {
    return this.#act((raw) => raw.disable());
  }

  /** Lets every call through and records outcomes, until told otherwise. */
  metricsOnly(): Transition | undefined {
    return this.#act((raw) => raw.metrics_only());
  }

  /** Rejects every call until `reset`; the other manual states cannot end it. */
  isolate(): Transition | undefined {
    return this.#act((raw) => raw.isolate());
  }

  /** Closes, whatever the state, and forgets what the rules have seen. Counters stay. */
  reset(): Transition | undefined {
    return this.#act((raw) => raw.reset());
  }

  /** State and counters. */
  stats(): BreakerStats {
    readFrom(this.#clock);
    return statsOf(this.#raw.stats());
  }

  /** State and counters as plain data, for {@link CircuitBreaker.restore}. */
  snapshot(): BreakerSnapshot {
    readFrom(this.#clock);
    return snapshotOf(this.#raw.snapshot());
  }

  /** Gives its memory back. Every use after that throws a `FreedError`. */
  free(): void {
    this.#raw = release(this, this.#raw, 'CircuitBreaker');
  }

  [Symbol.dispose](): void {
    this.free();
  }

  /**
   * A permit as a number: {@link REJECTED}, below that for a probe. For loops that
   * resolve it themselves with {@link settle}.
   *
   * @internal
   */
  grant(): number {
    readFrom(this.#clock);
    return this.#raw.acquire();
  }

  /** A permit as a number, whatever the state. @internal */
  grantAnyway(): number {
    return this.#raw.bypass();
  }

  /** When the permit just granted was; goes to {@link settle} with it. @internal */
  started(): number {
    return this.#timed ? this.#raw.started() : -1;
  }

  /** Resolves a permit that is a number. @internal */
  settle(ticket: number, started: number, succeeded: boolean): Transition | undefined {
    readFrom(this.#clock);
    const raw = this.#raw;
    const changed = succeeded ? raw.success(ticket, started) : raw.failure(ticket, started);
    return changed === 0 ? undefined : transitionOf(changed);
  }

  /** Counts a permit that is a number as nothing. @internal */
  putBack(ticket: number): void {
    if (ticket < REJECTED) this.#raw.release(ticket);
  }

  /**
   * Whether {@link grant} would give the same number again and again, and a success with
   * it would change nothing.
   *
   * @internal
   */
  isQuiet(): boolean {
    return this.#raw.is_quiet();
  }

  /** Why the last {@link grant} was {@link REJECTED}. @internal */
  rejection(): BreakerRejectedError {
    const raw = this.#raw;
    const state = STATES[raw.rejected_by()] ?? 'open';
    return new BreakerRejectedError(state, raw.retry_after(), transitionOf(raw.changed()));
  }

  #act(step: (raw: Breaker) => number): Transition | undefined {
    readFrom(this.#clock);
    return transitionOf(step(this.#raw));
  }
}

/**
 * Leave for one call, and the way back for its result. It belongs to the state it was
 * granted in: a result that comes in after a change of state is ignored.
 *
 * With `using`, one that is not resolved is released at the end of its scope; a probe
 * that is lost altogether is released when it is collected, and until then by the
 * breaker's probe timeout.
 */
export class Permit {
  /** @internal Making the package small takes the name away. */
  static readonly name = 'Permit';

  /** The change that granting it made: open to half-open. */
  readonly transition: Transition | undefined;
  readonly #breaker: CircuitBreaker;
  readonly #started: number;
  #ticket: number;

  /** @internal */
  constructor(
    breaker: CircuitBreaker,
    ticket: number,
    started: number,
    transition: Transition | undefined,
  ) {
    this.#breaker = breaker;
    this.#ticket = ticket;
    this.#started = started;
    this.transition = transition;
    if (ticket < REJECTED) lost.register(this, { breaker, ticket }, this);
  }

  /** Whether this call is a probe of a half-open breaker. */
  get isProbe(): boolean {
    return this.#ticket < REJECTED;
  }

  /**
   * The call succeeded. Gives the change this made, if any.
   *
   * @throws {@link PermitUsedError} the second time.
   */
  success(): Transition | undefined {
    return this.#breaker.settle(this.#take(), this.#started, true);
  }

  /**
   * The call failed. Gives the change this made, if any.
   *
   * @throws {@link PermitUsedError} the second time.
   */
  failure(): Transition | undefined {
    return this.#breaker.settle(this.#take(), this.#started, false);
  }

  /** The call counts as nothing. Does nothing if the permit is resolved already. */
  release(): void {
    if (this.#ticket !== USED) this.#breaker.putBack(this.#take());
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #take(): number {
    const ticket = this.#ticket;
    if (ticket === USED) throw new PermitUsedError();
    this.#ticket = USED;
    if (ticket < REJECTED) lost.unregister(this);
    return ticket;
  }
}

/** Probes that nobody resolved and nobody can any more. */
const lost = new FinalizationRegistry<{ breaker: CircuitBreaker; ticket: number }>(
  ({ breaker, ticket }) => {
    try {
      breaker.putBack(ticket);
    } catch {
      // The breaker has been freed, and its slots with it.
    }
  },
);
