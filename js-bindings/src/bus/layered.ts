/** A call of a handler that has more layers than a filter and a breaker. */

import type { Event } from '../event.js';
import { REJECTED } from './breaker.js';
import type { Retried } from './dead-letters.js';
import { HandlerTimeoutError } from './errors.js';
import { deadlineMillis, lowered } from './deadline.js';
import type { Fallback, FallbackLayer } from './fallback.js';
import type { Layers } from './layers.js';
import { Outcome } from './ledger.js';
import {
  DETACHED,
  isThenable,
  type Judge,
  type Pipeline,
  WAITS,
  type Waiting,
} from './pipeline.js';
import type { Handler, HandlerContext, Match } from './subscriber.js';

/** How a try ended. */
const SUCCEEDED = 0;
const FAILED = 1;
const CUT = 2;

/** Stands for a place in the bulkhead and a permit of the breaker. */
const ADMITTED = -3;

export class LayeredCall {
  #tries = 0;
  #error: unknown;
  #permit = 0;
  #started = -1;

  constructor(
    private readonly pipeline: Pipeline,
    private readonly match: Match,
    private readonly event: Event,
    private mayDetach: boolean,
    private readonly retried: Retried | undefined,
  ) {}

  /** The first try, here and now if it needs no waiting. */
  begin(layers: Layers): number {
    if (layers.inOrder) this.mayDetach = false;
    layers.retry?.begin();
    const refused = this.#refused(layers);
    if (refused === WAITS) return this.#leave(layers, this.#whenAdmitted(layers));
    if (refused !== ADMITTED) return this.#settle(layers, this.#giveUp(layers, refused));
    const tried = this.#try(layers);
    if (tried === SUCCEEDED) return Outcome.delivered;
    if (tried === FAILED) {
      const delay = this.#again(layers);
      if (delay === undefined) return this.#settle(layers, this.#giveUp(layers));
      // A wait between tries keeps nobody, if it need not.
      const later = this.#tryLater(layers, delay);
      return this.#canDetach() ? this.#detach(later) : this.#wait(later);
    }
    return this.#leave(layers, this.#goOn(layers, tried));
  }

  #settle(layers: Layers, end: number | Promise<number>): number {
    return typeof end === 'number' ? end : this.#leave(layers, end);
  }

  /** Calls in a bulkhead leave their worker at once, others only between tries. */
  #leave(layers: Layers, rest: Promise<number>): number {
    if (layers.bulkhead !== undefined && this.#canDetach()) return this.#detach(rest);
    return this.#wait(rest);
  }

  #wait(rest: Promise<number>): number {
    const waiting: Waiting = { resume: () => undefined };
    void rest.then((outcome) => waiting.resume(outcome));
    this.pipeline.waiting = waiting;
    return WAITS;
  }

  #canDetach(): boolean {
    const { books, maxDetached } = this.pipeline.host;
    return this.mayDetach && books.detached < maxDetached;
  }

  #detach(rest: Promise<number>): number {
    const { books } = this.pipeline.host;
    this.mayDetach = false;
    books.detached++;
    void rest.then((outcome) => {
      books.detached--;
      this.match.subscriber.end(outcome);
      this.pipeline.host.maybeIdle();
    });
    return DETACHED;
  }

  /** An outcome without a try; `ADMITTED`; or `WAITS` if the bulkhead is full. */
  #refused(layers: Layers): number {
    const late = this.#isOver();
    if (late !== undefined) return late;
    const { breaker } = this.match;
    if (breaker !== undefined) {
      this.#permit = breaker.enter(this.event.priority);
      this.#started = breaker.started;
      if (this.#permit === REJECTED) return Outcome.rejectedByBreaker;
    }
    return layers.bulkhead === undefined || layers.bulkhead.tryEnter() ? ADMITTED : WAITS;
  }

  /** However long a call has waited: none starts when nobody wants it any more. */
  #isOver(): number | undefined {
    if (!this.match.subscriber.active) return Outcome.cancelled;
    return this.#left() <= 0 ? Outcome.expired : undefined;
  }

  /** Milliseconds until the event's deadline. */
  #left(): number {
    return deadlineMillis(this.event) - Date.now();
  }

  /** Waits in the bulkhead's queue, then goes on. */
  async #whenAdmitted(layers: Layers): Promise<number> {
    const refused = await this.#place(layers);
    if (refused !== ADMITTED) return this.#giveUp(layers, refused);
    return this.#goOn(layers, this.#try(layers));
  }

  async #place(layers: Layers): Promise<number> {
    const { breaker } = this.match;
    const bulkhead = layers.bulkhead;
    if (bulkhead === undefined) return ADMITTED;
    const left = this.#left();
    const entered = await bulkhead.enterLater(left);
    breaker?.dropped(this.#permit);
    if (entered === undefined) return Outcome.rejectedByBulkhead;
    if (entered === 'left') return Outcome.cancelled;
    if (entered === 'timed_out') {
      return this.#left() <= 0 ? Outcome.expired : Outcome.rejectedByBulkhead;
    }
    const over = this.#isOver();
    // Asked again: the breaker may have changed meanwhile, and waiting is not slow.
    if (over === undefined && breaker !== undefined) {
      this.#permit = breaker.enter(this.event.priority);
      this.#started = breaker.started;
    }
    if (over === undefined && this.#permit !== REJECTED) return ADMITTED;
    bulkhead.leave();
    return over ?? Outcome.rejectedByBreaker;
  }

  /** From a try that has begun to the outcome. */
  async #goOn(layers: Layers, tried: number | Promise<number>): Promise<number> {
    for (;;) {
      const ended = await tried;
      if (ended === SUCCEEDED) return Outcome.delivered;
      if (ended === CUT) return Outcome.cancelled;
      const delay = this.#again(layers);
      if (delay === undefined) return this.#giveUp(layers);
      if (this.#canDetach()) return this.#detach(this.#tryLater(layers, delay));
      if (!(await this.#sleep(delay))) return this.#fail();
      const refused = this.#refused(layers);
      if (refused === WAITS) return this.#whenAdmitted(layers);
      if (refused !== ADMITTED) return this.#giveUp(layers, refused);
      tried = this.#try(layers);
    }
  }

  async #tryLater(layers: Layers, delay: number): Promise<number> {
    if (!(await this.#sleep(delay))) return Outcome.cancelled;
    const refused = this.#refused(layers);
    if (refused === WAITS) return this.#whenAdmitted(layers);
    if (refused !== ADMITTED) return this.#giveUp(layers, refused);
    return this.#goOn(layers, this.#try(layers));
  }

  /** `false` if the bus stopped meanwhile. */
  #sleep(delay: number): Promise<boolean> {
    const { cuts } = this.pipeline;
    return new Promise((resolve) => {
      const end = (over: boolean): void => {
        clearTimeout(timer);
        cuts.delete(sleep);
        resolve(over);
      };
      const sleep = { cut: () => end(false) };
      const timer = setTimeout(() => end(true), delay);
      cuts.add(sleep);
    });
  }

  /** Whether to try again, and after how long. */
  #again(layers: Layers): number | undefined {
    const { books } = this.pipeline.host;
    const delay = layers.retry?.after(
      this.#tries,
      this.#error,
      this.#left(),
      this.pipeline.host.now(),
    );
    if (delay !== undefined) books.retries++;
    return delay;
  }

  /**
   * Fallbacks, then the dead letter queue. Nobody stands in for an event that nobody wants any more,
   * and a retry that is refused leaves what it was to mend.
   */
  #giveUp(layers: Layers, refused?: number): number | Promise<number> {
    const isOver = refused === Outcome.cancelled || refused === Outcome.expired;
    return isOver || layers.fallback === undefined
      ? this.#end(refused)
      : this.#standIn(layers, layers.fallback, 0, refused);
  }

  #end(refused: number | undefined): number {
    return refused === undefined || this.#tries > 0 ? this.#fail() : refused;
  }

  /** The fallbacks from one on, without a wait as long as they return at once. */
  #standIn(
    layers: Layers,
    layer: FallbackLayer,
    from: number,
    refused: number | undefined,
  ): number | Promise<number> {
    for (let at = from; at < layer.chain.length; at++) {
      const { name, handle } = layer.chain[at] as Fallback;
      const tried = this.#call(layers, handle, (failed) => (failed ? FAILED : SUCCEEDED));
      if (typeof tried !== 'number') {
        return tried.then((ended) => {
          if (ended === CUT) return Outcome.cancelled;
          if (ended === FAILED) return this.#standIn(layers, layer, at + 1, refused);
          layer.served(name);
          return Outcome.fellBack;
        });
      }
      if (tried === SUCCEEDED) {
        layer.served(name);
        return Outcome.fellBack;
      }
    }
    return this.#end(refused);
  }

  #fail(): number {
    const { match, event, retried } = this;
    return this.pipeline.fail(match.subscriber, event, this.#error, this.#tries, retried);
  }

  /** One try of a call that is admitted. */
  #try(layers: Layers): number | Promise<number> {
    const { breaker } = this.match;
    const permit = this.#permit;
    const started = this.#started;
    this.#tries++;
    return this.#call(layers, undefined, (failed, error, cut) => {
      layers.bulkhead?.leave();
      if (cut) {
        breaker?.dropped(permit);
        return CUT;
      }
      if (!failed) {
        breaker?.succeeded(permit, started);
        layers.fallback?.recovered();
        return SUCCEEDED;
      }
      breaker?.failed(permit, started);
      this.#error = error;
      return FAILED;
    });
  }

  /** Calls the handler, or what stands in for it, within the time limit. */
  #call(
    layers: Layers,
    instead: Handler | undefined,
    done: (failed: boolean, error: unknown, cut: boolean) => number,
  ): number | Promise<number> {
    const { pipeline } = this;
    const { subscriber } = this.match;
    const limit = layers.timeout === undefined ? undefined : new Limit(layers.timeout);
    let promise: PromiseLike<unknown>;
    try {
      const event = limit === undefined ? this.event : lowered(this.event, limit.millis);
      const context = limit ?? subscriber.context;
      const result =
        instead === undefined
          ? pipeline.call(subscriber, event, context)
          : pipeline.host.desk.within(instead, event, context);
      if (!isThenable(result)) return done(false, undefined, false);
      promise = result as PromiseLike<unknown>;
    } catch (error) {
      return done(true, error, false);
    }
    const limited = limit?.around(promise, pipeline.host.books) ?? promise;
    const judge: Judge = {
      ended: (failed, error) => done(failed, error, false),
      cut: () => {
        limit?.stop();
        done(false, undefined, true);
        return CUT;
      },
    };
    const pending = pipeline.pend(subscriber, limited, judge);
    return new Promise((resolve) => (pending.resume = resolve));
  }
}

/** The time limit of one try: at the limit it is asked to stop, a tenth later it is given up. */
class Limit implements HandlerContext {
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly millis: number) {}

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The bus stops. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#controller.abort();
  }

  around(
    call: PromiseLike<unknown>,
    books: { timedOut: number; abandoned: number },
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let late = false;
      const timedOut = (abandoned: boolean): void => {
        books.timedOut++;
        reject(new HandlerTimeoutError(this.millis, abandoned));
      };
      this.#timer = setTimeout(() => {
        late = true;
        this.#timer = setTimeout(() => {
          books.abandoned++;
          timedOut(true);
        }, this.millis / 10);
        this.#controller.abort(new HandlerTimeoutError(this.millis, false));
      }, this.millis);
      Promise.resolve(call).then(
        (value) => {
          clearTimeout(this.#timer);
          resolve(value);
        },
        (error: unknown) => {
          clearTimeout(this.#timer);
          // After it was asked to stop, however it did so.
          if (late) timedOut(false);
          else reject(error);
        },
      );
    });
  }
}
