/**
 * What stands between a match and its handler. The layers and their order, the same for every
 * handler:
 *
 *     filter → loop guard → rate limit, sampling
 *       → fallback( retry( breaker( bulkhead( timeout( handler ))))) → dead letter
 *
 * A filter comes first: what a handler does not want must not count for or against it. A fallback
 * stands outside: it is for what all tries together could not do. Retries are
 * around the breaker: every try is judged, and an open breaker ends the tries. The breaker is around
 * the bulkhead: an open one lets nobody queue. The time limit is next to the handler: time in a
 * queue is no time in the handler. Dead letters come last: what nothing before could save.
 */

import type { Event } from '../event.js';
import { REJECTED } from './breaker.js';
import type { DeadLetterQueue, Retried } from './dead-letters.js';
import { LayeredCall } from './layered.js';
import { type Books, Outcome } from './ledger.js';
import { isLoop } from './hops.js';
import type { Desk } from './place.js';
import type { HandlerContext, Match, Subscriber } from './subscriber.js';

/** No outcome yet: see {@link Pipeline.waiting}. */
export const WAITS = -1;
/** No outcome yet, and nobody need wait for it: it is counted when it comes. */
export const DETACHED = -2;

/** On to the next layer. */
const PASSED = -3;

/** A call that waits. Whoever has it says at once where its outcome goes. */
export interface Waiting {
  resume: (outcome: number) => void;
}

/** What a pipeline asks of its bus. */
export interface PipelineHost {
  readonly desk: Desk;
  readonly books: Books;
  readonly letters: DeadLetterQueue;
  /** At most so many calls may be detached. */
  readonly maxDetached: number;
  /** Milliseconds that only grow. */
  now(): number;
  /** A detached call has ended. */
  maybeIdle(): void;
}

export class Pipeline {
  /** The call that waits, after `run` said `WAITS`. */
  waiting: Waiting | undefined;
  /** What else a bus that stops has to end. */
  readonly cuts = new Set<{ cut(): void }>();
  /** Calls that wait, each of which knows its place. */
  readonly calls: Pending[] = [];
  private readonly spare: Pending[] = [];

  constructor(readonly host: PipelineHost) {}

  /** Takes an event through all layers: an outcome, `WAITS` or `DETACHED`. */
  run(match: Match, event: Event, mayDetach: boolean, retried: Retried | undefined): number {
    const { subscriber } = match;
    if (subscriber.isSimple && event.hops.length === 0) return this.attempt(match, event, retried);
    const refused = this.around(subscriber, event, retried);
    if (refused !== PASSED) return refused;
    const { layers } = subscriber;
    if (layers === undefined) return this.attempt(match, event, retried);
    return new LayeredCall(this, match, event, mayDetach, retried).begin(layers);
  }

  /** The call of a handler that has no layer but the breaker. */
  private attempt(match: Match, event: Event, retried: Retried | undefined): number {
    const { subscriber, breaker } = match;
    let permit = 0;
    let started = -1;
    if (breaker !== undefined) {
      permit = breaker.enter(event.priority);
      if (permit === REJECTED) return Outcome.rejectedByBreaker;
      started = breaker.started;
    }
    let result: unknown;
    try {
      result = this.call(subscriber, event, subscriber.context);
      if (result !== undefined && !isThenable(result)) result = undefined;
    } catch (error) {
      return this.threw(match, event, retried, permit, started, error);
    }
    if (result !== undefined) {
      return this.wait(match, event, retried, permit, started, result as PromiseLike<unknown>);
    }
    if (breaker !== undefined) breaker.succeeded(permit, started);
    return Outcome.delivered;
  }

  private threw(
    { subscriber, breaker }: Match,
    event: Event,
    retried: Retried | undefined,
    permit: number,
    started: number,
    error: unknown,
  ): number {
    breaker?.failed(permit, started);
    return this.fail(subscriber, event, error, 1, retried);
  }

  /** Leaves a call that waits in `waiting`. */
  private wait(
    match: Match,
    event: Event,
    retried: Retried | undefined,
    permit: number,
    started: number,
    promise: PromiseLike<unknown>,
  ): number {
    const call = this.record(match.subscriber);
    call.match = match;
    call.event = event;
    call.permit = permit;
    call.started = started;
    call.retried = retried;
    call.await(promise);
    this.waiting = call;
    return WAITS;
  }

  /** Filter, loop guard, rates, and whoever takes events over in place of a handler. */
  private around(subscriber: Subscriber, event: Event, retried: Retried | undefined): number {
    const { filter, loopGuard, name, outlet, layers } = subscriber;
    if (filter !== undefined) {
      const refused = this.filter(filter, subscriber, event, retried);
      if (refused !== PASSED) return refused;
    }
    if (loopGuard !== undefined && event.hops.length > 0 && isLoop(loopGuard, event.hops, name)) {
      return Outcome.looped;
    }
    if (layers?.sampling?.keeps(this.host.now()) === false) return Outcome.sampledOut;
    if (layers?.limiter?.check(this.host.now()) === false) return Outcome.rejectedByRateLimit;
    return outlet === undefined ? PASSED : outlet(event);
  }

  /** Calls the handler where its publishing is noticed. */
  call(subscriber: Subscriber, event: Event, context: HandlerContext): unknown {
    if (subscriber.isMarked) return this.callMarked(subscriber, event, context);
    const { desk } = this.host;
    const { handler } = subscriber;
    desk.enter();
    try {
      return handler(event, context);
    } finally {
      desk.leave();
    }
  }

  /** Until it has returned once, nobody knows what kind a handler is. */
  private callMarked(subscriber: Subscriber, event: Event, context: HandlerContext): unknown {
    const { desk } = this.host;
    let isPlain = !subscriber.isAsync;
    try {
      const result = desk.within(subscriber.handler, event, context);
      isPlain &&= !isThenable(result);
      return result;
    } finally {
      if (isPlain) {
        subscriber.isMarked = false;
        desk.plain();
      }
    }
  }

  /** The end of a call that nothing helped. */
  fail(
    subscriber: Subscriber,
    event: Event,
    error: unknown,
    attempts: number,
    retried: Retried | undefined,
  ): number {
    if (!subscriber.deadLetters) return Outcome.failed;
    this.host.letters.keep(subscriber, event, error, attempts, retried);
    return Outcome.deadLettered;
  }

  /** Waits for a handler's promise, until it ends or the bus stops. */
  pend(subscriber: Subscriber, promise: PromiseLike<unknown>, judge: Judge): Waiting {
    const call = this.record(subscriber);
    call.judge = judge;
    call.await(promise);
    return call;
  }

  /** How many calls wait. */
  get open(): number {
    return this.calls.length + this.cuts.size;
  }

  /** Ends everything that waits. */
  cut(): void {
    for (const waiting of [...this.calls, ...this.cuts]) waiting.cut();
  }

  /** Takes back a record that nobody refers to any more. */
  reuse(call: Pending): void {
    if (this.spare.length < MAX_SPARE) this.spare.push(call);
  }

  /** A record for a call that waits. */
  private record(subscriber: Subscriber): Pending {
    const { desk } = this.host;
    const call = this.spare.pop() ?? new Pending(this);
    call.isMarked = subscriber.isMarked && desk.marks;
    subscriber.isMarked = subscriber.isAsync = true;
    desk.asynchronous();
    return call;
  }

  private filter(
    filter: (event: Event) => boolean,
    subscriber: Subscriber,
    event: Event,
    retried: Retried | undefined,
  ): number {
    const desk = this.host.desk;
    desk.enter();
    try {
      return filter(event) ? PASSED : Outcome.filtered;
    } catch (error) {
      return this.fail(subscriber, event, error, 1, retried);
    } finally {
      desk.leave();
    }
  }
}

/** Says what the end of a handler's promise means. */
export interface Judge {
  ended(failed: boolean, error: unknown): number;
  /** The bus has stopped. The promise's own end is then nobody's business. */
  cut(): number;
}

/** So many records are kept for calls to come. */
const MAX_SPARE = 1_024;

const { then } = Promise.prototype;
const nobody = (): void => undefined;

/**
 * A handler's promise. No other promise is made for it than the one that `then` returns; the record
 * and its callbacks are used again.
 */
class Pending implements Waiting {
  resume: (outcome: number) => void = nobody;
  /** Says what the end means; if there is none, it is the end of a call without layers. */
  judge: Judge | undefined;
  match: Match | undefined;
  event: Event | undefined;
  permit = 0;
  started = -1;
  retried: Retried | undefined;
  isMarked = false;
  /** The place among the calls that wait, or -1. */
  private at = -1;

  constructor(private readonly pipeline: Pipeline) {}

  await(promise: PromiseLike<unknown>): void {
    const { calls, host } = this.pipeline;
    this.at = calls.length;
    calls.push(this);
    if (!this.isMarked) host.desk.unmarked++;
    // The language's own `then` calls one of them, and once, whatever the program has made of it.
    void then.call(Promise.resolve(promise), this.returned, this.threw);
  }

  /** The promise's own end is then nobody's business, and the record is not used again. */
  cut(): void {
    if (this.at < 0) return;
    this.leave();
    this.resume(this.judge === undefined ? this.dropped() : this.judge.cut());
  }

  private readonly returned = (): void => this.settle(false, undefined);
  private readonly threw = (error: unknown): void => this.settle(true, error);

  private settle(failed: boolean, error: unknown): void {
    if (this.at < 0) return;
    this.leave();
    const { judge, resume } = this;
    const outcome = judge === undefined ? this.ended(failed, error) : judge.ended(failed, error);
    this.resume = nobody;
    this.judge = this.match = this.event = this.retried = undefined;
    this.pipeline.reuse(this);
    resume(outcome);
  }

  private leave(): void {
    const { calls, host } = this.pipeline;
    const last = calls.pop() as Pending;
    if (last !== this) {
      calls[this.at] = last;
      last.at = this.at;
    }
    this.at = -1;
    if (!this.isMarked) host.desk.unmarked--;
  }

  private ended(failed: boolean, error: unknown): number {
    const { subscriber, breaker } = this.match as Match;
    if (failed) {
      breaker?.failed(this.permit, this.started);
      return this.pipeline.fail(subscriber, this.event as Event, error, 1, this.retried);
    }
    breaker?.succeeded(this.permit, this.started);
    return Outcome.delivered;
  }

  private dropped(): number {
    this.match?.breaker?.dropped(this.permit);
    return Outcome.cancelled;
  }
}

/** Whether a handler's result is to be waited for. Throws what a getter of it throws. */
export function isThenable(result: unknown): boolean {
  return (
    result !== null &&
    (typeof result === 'object' || typeof result === 'function') &&
    typeof (result as PromiseLike<unknown>).then === 'function'
  );
}
