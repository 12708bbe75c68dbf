/**
 * The ledger: every event that the bus accepted, and what became of it.
 *
 * Three counts are kept by three different places and must agree once the bus is idle: events
 * accepted (by the queue, or by `dispatch`), events resolved and matches made (by the runner), and
 * outcomes (by each handler). An event that is lost between them is a difference, not a silence.
 */

/** What became of one event for one handler that it matched. */
export interface Outcomes {
  /** The handler returned. */
  delivered: number;
  /** A filter of the handler did not want it. */
  filtered: number;
  /** The handler's circuit breaker is open. */
  rejectedByBreaker: number;
  /** The handler's bulkhead was full, or no place in it became free in time. */
  rejectedByBulkhead: number;
  /** More events came than the handler's rate limit allows. */
  rejectedByRateLimit: number;
  /** It was left out, because the handler wants only a sample of a storm. */
  sampledOut: number;
  /** The event has been at this handler before: its path is a loop, or too long. */
  looped: number;
  /** It was the oldest in a full queue (`drop_oldest`). */
  droppedOldest: number;
  /** It was the least urgent in a full queue (`drop_lowest_priority`). */
  droppedLowest: number;
  /** Its deadline passed before the handler's turn came, or it waited longer than `queueTtl`. */
  expired: number;
  /** The handler failed and the event is, or was, among the dead letters. */
  deadLettered: number;
  /** The handler failed, or was not called, and a fallback handled the event. */
  fellBack: number;
  /** The handler failed and keeps no dead letters. */
  failed: number;
  /** Cut off by a `close` that ran out of time, or by unsubscribing while the event waited. */
  cancelled: number;
}

/** The name of an outcome. */
export type OutcomeName = keyof Outcomes;

/** The places of outcomes in a handler's counts. */
export const Outcome = {
  delivered: 0,
  filtered: 1,
  rejectedByBreaker: 2,
  rejectedByBulkhead: 3,
  rejectedByRateLimit: 4,
  sampledOut: 5,
  looped: 6,
  droppedOldest: 7,
  droppedLowest: 8,
  expired: 9,
  deadLettered: 10,
  fellBack: 11,
  failed: 12,
  cancelled: 13,
} as const satisfies Record<OutcomeName, number>;

/** All names, each at its place. */
export const OUTCOMES = Object.keys(Outcome) as readonly OutcomeName[];

/** One handler's counts. */
export type Counts = Float64Array;

export function newCounts(): Counts {
  return new Float64Array(OUTCOMES.length);
}

export function toOutcomes(counts: Counts): Outcomes {
  return Object.fromEntries(OUTCOMES.map((name, i) => [name, counts[i]])) as unknown as Outcomes;
}

/** One handler's share of a {@link Ledger}. */
export interface HandlerLedger {
  /** Its name. */
  readonly name: string;
  /** What it subscribed to. */
  readonly pattern: string;
  /** What became of its matches. */
  readonly outcomes: Outcomes;
}

/** Everything the bus accepted, and what became of it. Exact at any moment between two events. */
export class Ledger {
  /** @internal Making the package small takes the name away. */
  static readonly name = 'Ledger';

  constructor(
    /** Events accepted by `publish` and its kin, or by `dispatch`, and retries of dead letters. */
    readonly published: number,
    /** Events handed back to the publisher with an error. Not part of `published`. */
    readonly refused: number,
    /** Events that the bus is done with, except for detached matches. */
    readonly resolved: number,
    /** Resolved events that no handler matched. */
    readonly unmatched: number,
    /** Pairs of an event and a handler that it matched. */
    readonly matches: number,
    /** Matches that wait for a retry, in a bulkhead or for an iterator: no outcome yet. */
    readonly detached: number,
    /** What became of the matches. */
    readonly outcomes: Outcomes,
    /** The same per handler, living handlers only. */
    readonly handlers: readonly HandlerLedger[],
  ) {}

  /** Accepted events that are still queued or being handled. */
  get pending(): number {
    return this.published - this.resolved;
  }

  /** Whether every accepted event is resolved and every match has exactly one outcome. */
  balances(): boolean {
    const outcomes = OUTCOMES.reduce((sum, name) => sum + this.outcomes[name], 0);
    return this.published === this.resolved && this.matches === outcomes;
  }
}

/** The handler that counts belong to. */
interface Account {
  readonly name: string;
  readonly pattern: string;
  readonly counts: Counts;
}

/** Where the counts of one bus live. */
export class Books {
  dispatched = 0;
  refused = 0;
  resolved = 0;
  unmatched = 0;
  matches = 0;
  detached = 0;
  /** Handler calls after the first, calls that took too long, and those given up. */
  retries = 0;
  timedOut = 0;
  abandoned = 0;
  readonly #living = new Set<Account>();
  /** The sum of handlers that ended. */
  readonly #ended = newCounts();

  open(handler: Account): void {
    this.#living.add(handler);
  }

  /** Adds a handler that has ended, and that nothing is under way to, to the sum of those. */
  close(handler: Account): void {
    if (this.#living.delete(handler)) add(this.#ended, handler.counts);
  }

  ledger(queued: number): Ledger {
    const sum = this.#ended.slice();
    const handlers: HandlerLedger[] = [];
    for (const { name, pattern, counts } of this.#living) {
      add(sum, counts);
      handlers.push({ name, pattern, outcomes: toOutcomes(counts) });
    }
    return new Ledger(
      queued + this.dispatched,
      this.refused,
      this.resolved,
      this.unmatched,
      this.matches,
      this.detached,
      toOutcomes(sum),
      handlers,
    );
  }
}

function add(sum: Counts, counts: Counts): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (counts[i] as number);
}
