/**
 * Layer: circuit breakers. Spares a failing handler, and its callers. Core decides; here is who
 * asks which breaker, and when it need not be asked.
 */

import { CRITICAL_PRIORITY } from '../event.js';
import { CircuitBreaker, type BreakerSettings, type BreakerStats } from '../breaker.js';

/** How many types of one handler have a breaker of their own. */
export const MAX_TYPES = 1_000;

/** What `enter` says instead of a permit. */
export const REJECTED = -1;

/** One breaker of a bus, seen from outside. */
export interface BreakerReport {
  /** The handler's name; of a command, `command` and its type. */
  readonly name: string;
  /** The event type that it is for; undefined for all. */
  readonly eventType: string | undefined;
  /** Its statistics. */
  readonly stats: BreakerStats;
}

/**
 * A breaker with what it is called.
 *
 * While it is quiet (core says so: closed, no failure since the last success, and nothing that
 * measures or counts successes) core would grant every permit, the same one each time, and a
 * success with it would change nothing: so neither is asked for. That is the same by definition,
 * not nearly so: only this object changes the breaker, each change is a call from here, and after
 * each such call core is asked again whether it is quiet. A failure always goes to core, with the
 * permit it was begun with, and there the generation decides whether it still counts.
 */
export class NamedBreaker {
  private readonly breaker: CircuitBreaker;
  /** The permit of quiet times, or `REJECTED` if times are not quiet. */
  private quiet = REJECTED;
  /** When the call of the last permit began: it belongs to the permit. */
  started = -1;

  constructor(
    readonly name: string,
    readonly eventType: string | undefined,
    settings: BreakerSettings | undefined,
  ) {
    this.breaker = new CircuitBreaker(settings);
    this.look();
  }

  /** A permit, or `REJECTED`; priorities 8 and 9 always get one. */
  enter(priority: number): number {
    if (this.quiet !== REJECTED && priority < CRITICAL_PRIORITY) return this.quiet;
    return this.ask(priority);
  }

  private ask(priority: number): number {
    const { breaker } = this;
    if (priority >= CRITICAL_PRIORITY) {
      const permit = breaker.grantAnyway();
      this.started = breaker.started();
      return permit;
    }
    const permit = breaker.grant();
    this.started = breaker.started();
    this.look();
    return permit;
  }

  /** In how many milliseconds to ask again, after `enter` said `REJECTED`. */
  get retryAfter(): number {
    return this.breaker.rejection().retryAfter;
  }

  succeeded(permit: number, started: number): void {
    if (permit !== this.quiet) this.settle(permit, started, true);
  }

  failed(permit: number, started: number): void {
    this.settle(permit, started, false);
  }

  /** The call was not made, or cut off. */
  dropped(permit: number): void {
    this.breaker.putBack(permit);
    this.look();
  }

  report(): BreakerReport {
    return { name: this.name, eventType: this.eventType, stats: this.breaker.stats() };
  }

  free(): void {
    this.breaker.free();
  }

  private settle(permit: number, started: number, succeeded: boolean): void {
    this.breaker.settle(permit, started, succeeded);
    this.look();
  }

  /** Finds out whether times are quiet: after every call that may have changed the breaker. */
  private look(): void {
    this.quiet = this.breaker.isQuiet() ? this.breaker.grant() : REJECTED;
    if (this.quiet !== REJECTED) this.started = -1;
  }
}

/** Why core does not take these settings; undefined if it does. */
export function breakerFault(settings: BreakerSettings | undefined): Error | undefined {
  if (settings === undefined) return undefined;
  try {
    new CircuitBreaker(settings).free();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/** The breakers of one handler. */
export class BreakerLayer {
  private readonly byType = new Map<string, NamedBreaker>();
  private shared: NamedBreaker | undefined;

  constructor(
    private readonly scope: 'type' | 'handler',
    private readonly make: (eventType: string | undefined) => NamedBreaker,
    private readonly end: (breaker: NamedBreaker) => void,
  ) {}

  /** The breaker for events of this type. */
  ofType(type: string): NamedBreaker {
    if (this.scope === 'handler') return (this.shared ??= this.make(undefined));
    const known = this.byType.get(type);
    if (known !== undefined) return known;
    // Types beyond the limit share one.
    if (this.byType.size >= MAX_TYPES) return (this.shared ??= this.make(undefined));
    const made = this.make(type);
    this.byType.set(type, made);
    return made;
  }

  free(): void {
    for (const breaker of this.byType.values()) this.end(breaker);
    if (this.shared !== undefined) this.end(this.shared);
    this.byType.clear();
    this.shared = undefined;
  }
}
