/** Carries events from routing to the end of the pipeline. */

import type { Event } from '../event.js';
import type { Retried } from './dead-letters.js';
import { isLate } from './deadline.js';
import { type Books, Outcome } from './ledger.js';
import { DETACHED, type Pipeline, WAITS, type Waiting } from './pipeline.js';
import type { Route } from './routes.js';
import type { Match } from './subscriber.js';

/** What became of one event that was dispatched. */
export interface Delivery {
  /** Handlers that matched. */
  readonly matched: number;
  /** Handlers that returned. */
  readonly delivered: number;
}

/** What a runner asks of its bus. */
export interface RunnerHost {
  readonly books: Books;
  /** A close ran out of time: nothing more begins. */
  readonly stopped: boolean;
  routeOf(event: Event): Route;
  matchesInSession(event: Event): readonly Match[];
}

export class Runner {
  private readonly host: RunnerHost;
  private readonly books: Books;
  private readonly pipeline: Pipeline;
  private readonly spare: Flight[] = [];
  /** Of the event that `run` was last done with at once. */
  matched = 0;
  delivered = 0;
  /** The handler that waits. */
  at = 0;

  constructor(host: RunnerHost, pipeline: Pipeline) {
    this.host = host;
    this.books = host.books;
    this.pipeline = pipeline;
  }

  /**
   * Runs one event through every handler that it matches, in order: those of its session, then those
   * of the bus. Undefined when all is done; else whoever must wait gets a promise.
   *
   * `mayDetach`: what would keep others waiting may go on by itself.
   */
  run(route: Route, event: Event, mayDetach: boolean): Flight | undefined {
    const matches = event.session === undefined ? route.matches : this.inSession(route, event);
    const waiting = this.step(event, matches, 0, mayDetach);
    if (waiting !== undefined) return this.fly(event, matches, mayDetach, waiting);
    this.resolve(this.matched);
    return undefined;
  }

  private fly(
    event: Event,
    matches: readonly Match[],
    mayDetach: boolean,
    waiting: Waiting,
  ): Flight {
    const flight = this.spare.pop() ?? new Flight(this);
    flight.begin(event, matches, mayDetach, waiting);
    return flight;
  }

  /** Counts one outcome for every handler that an event would have reached. */
  account(event: Event, outcome: number): void {
    let matched = 0;
    const route = this.host.routeOf(event);
    const matches = event.session === undefined ? route.matches : this.inSession(route, event);
    for (const { subscriber } of matches) {
      if (!subscriber.active) continue;
      matched++;
      this.books.matches++;
      subscriber.begin();
      subscriber.end(outcome);
    }
    this.resolve(matched);
  }

  /** Runs the event of a dead letter through the one handler that it is for. */
  async retry(event: Event, match: Match, retried: Retried): Promise<number> {
    const { subscriber } = match;
    this.books.dispatched++;
    this.books.matches++;
    subscriber.begin();
    let outcome = isLate(event) ? Outcome.expired : this.pipeline.run(match, event, false, retried);
    if (outcome === WAITS) {
      const waiting = this.pipeline.waiting as Waiting;
      outcome = await new Promise((resolve) => (waiting.resume = resolve));
    }
    subscriber.end(outcome);
    this.resolve(1);
    return outcome;
  }

  private inSession({ matches }: Route, event: Event): readonly Match[] {
    const own = this.host.matchesInSession(event);
    return own.length === 0 ? matches : [...own, ...matches];
  }

  /** Takes back a flight that is over. */
  reuse(flight: Flight): void {
    if (this.spare.length < MAX_SPARE) this.spare.push(flight);
  }

  resolve(matched: number): void {
    this.books.resolved++;
    if (matched === 0) this.books.unmatched++;
  }

  /**
   * Goes from handler to handler until one waits, and says how far it came in `matched`, `delivered`
   * and `at`. These are read before anything else runs.
   */
  step(
    event: Event,
    matches: readonly Match[],
    from: number,
    mayDetach: boolean,
  ): Waiting | undefined {
    const limited = event.deadline !== undefined;
    let matched = 0;
    let delivered = 0;
    let waiting: Waiting | undefined;
    let at = from;
    for (; at < matches.length; at++) {
      const match = matches[at] as Match;
      const subscriber = match.subscriber;
      if (!subscriber.active) continue;
      matched++;
      subscriber.calls++;
      let outcome: number;
      // Asked for each handler: the one before may have taken its time.
      if (this.host.stopped) outcome = Outcome.cancelled;
      else if (limited && isLate(event)) outcome = Outcome.expired;
      else outcome = this.pipeline.run(match, event, mayDetach, undefined);
      if (outcome === Outcome.delivered) delivered++;
      else if (outcome === DETACHED) continue;
      else if (outcome === WAITS) {
        waiting = this.pipeline.waiting;
        break;
      }
      subscriber.end(outcome);
    }
    this.books.matches += matched;
    this.matched = matched;
    this.delivered = delivered;
    this.at = at;
    return waiting;
  }
}

/** So many flights are kept for events to come. */
const MAX_SPARE = 1_024;

const NONE: readonly Match[] = [];
const nobody = (): void => undefined;

/** An event among its handlers, one of which waits. It is used again when all have had it. */
export class Flight implements Delivery {
  /** Called when all handlers have had it, with what only then may be read: to be set at once. */
  done: (flight: Flight) => void = nobody;
  /** When it began, if it is timed. */
  since = -1;
  matched = 0;
  delivered = 0;
  private current: Event | undefined;
  private matches: readonly Match[] = NONE;
  private mayDetach = false;
  private place = 0;

  constructor(private readonly runner: Runner) {}

  begin(event: Event, matches: readonly Match[], mayDetach: boolean, waiting: Waiting): void {
    this.current = event;
    this.matches = matches;
    this.mayDetach = mayDetach;
    this.matched = this.runner.matched;
    this.delivered = this.runner.delivered;
    this.place = this.runner.at;
    waiting.resume = this.resume;
  }

  get event(): Event {
    return this.current as Event;
  }

  private readonly resume = (outcome: number): void => {
    const { runner } = this;
    const matches = this.matches;
    if (outcome !== DETACHED) (matches[this.place] as Match).subscriber.end(outcome);
    if (outcome === Outcome.delivered) this.delivered++;
    const waiting = runner.step(this.event, matches, this.place + 1, this.mayDetach);
    this.matched += runner.matched;
    this.delivered += runner.delivered;
    this.place = runner.at;
    if (waiting !== undefined) {
      waiting.resume = this.resume;
      return;
    }
    runner.resolve(this.matched);
    this.done(this);
    this.current = undefined;
    this.matches = NONE;
    this.done = nobody;
    this.since = -1;
    runner.reuse(this);
  };
}
