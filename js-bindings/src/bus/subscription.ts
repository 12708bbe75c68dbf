/** What a subscription may ask for, and holding it. */

import type { Event } from '../event.js';
import type { Bulkhead } from './bulkhead.js';
import type { BreakerSettings } from '../breaker.js';
import type { Fallback } from './fallback.js';
import type { Delays } from './layers.js';
import { type Outcomes, toOutcomes } from './ledger.js';
import type { LoopGuard } from './hops.js';
import type { RateLimit, Sampling } from './rate-limit.js';
import type { Subscriber } from './subscriber.js';

/** What shares a circuit breaker: all events of a `type`, all of the `handler`, or `off`. */
export type BreakerScope = 'type' | 'handler' | 'off';

/** The settings of a subscription. All have defaults. */
export interface HandlerOptions<E = Event> {
  /** The name in ledgers, dead letters and metrics. Default: the pattern. */
  readonly name?: string | undefined;
  /** Handlers with a higher number are called earlier. Default: 0; equals in their order. */
  readonly priority?: number | undefined;
  /** Only the events that it returns true for. Default: all that match. */
  readonly filter?: ((event: E) => boolean) | undefined;
  /**
   * The service that the handler calls: it gets the layers that were declared for it in the settings
   * of the bus, and that it does not set itself.
   */
  readonly service?: string | undefined;
  /** What shares a circuit breaker. Default: each type has one, or that of its service. */
  readonly breaker?: BreakerScope | undefined;
  /** Settings of this handler's breakers. Default: those of the bus. */
  readonly breakerConfig?: BreakerSettings | undefined;
  /**
   * How often, and after which delays, an event is tried again that the handler failed on. Default:
   * never. The event gives up its place in the order, unless `inOrder` is set.
   */
  readonly retry?: Delays | undefined;
  /** Which failures are worth another try. Default: all. If it throws, none. */
  readonly retryIf?: ((error: unknown) => boolean) | undefined;
  /** Retries are at most `percent` of the calls, and `perSecond` besides. Default: 20 and 10. */
  readonly retryBudget?: { readonly percent: number; readonly perSecond: number } | undefined;
  /**
   * How long one try may take, in milliseconds. At the limit the handler's `signal` is aborted; a
   * tenth later nobody waits for it any more, though JavaScript cannot stop it. A handler that
   * returns no promise has no limit. Default: none.
   */
  readonly timeout?: number | undefined;
  /**
   * How many calls of the handler run at once, and how many wait: a number, or a {@link Bulkhead}.
   * The worker then does not wait for the handler, and events are not handled in order. Default:
   * each source waits for its last event.
   */
  readonly concurrency?: number | Bulkhead | undefined;
  /** How many events are handled in a time; those beyond are rejected. Default: no limit. */
  readonly rateLimit?: RateLimit | undefined;
  /** Which part of the events is handled under an event storm. Default: all. */
  readonly sample?: Sampling | undefined;
  /**
   * What handles an event when the handler did not, with all its tries: because it failed, timed
   * out, or was not called as its breaker is open or its bulkhead full. Several are tried in their
   * order, until one succeeds. Default: nobody.
   */
  readonly fallback?: Fallback<E> | readonly Fallback<E>[] | undefined;
  /** Keeps the order of a source's events through retries and the bulkhead. Default: false. */
  readonly inOrder?: boolean | undefined;
  /** Whether events that the handler fails on become dead letters. Default: true. */
  readonly deadLetters?: boolean | undefined;
  /** How often one path of events may lead through this handler; `false` for as often as it likes. */
  readonly loopGuard?: LoopGuard | false | undefined;
  /** Ends the subscription when it is aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** How many services a bus may have. */
export const MAX_SERVICES = 1_000;

/**
 * The layers of a service. Breaker, bulkhead, rate limit, sample and retry budget are shared by all
 * handlers that name it and do not set their own.
 */
export type Policy = Pick<
  HandlerOptions,
  | 'breakerConfig'
  | 'retry'
  | 'retryIf'
  | 'retryBudget'
  | 'timeout'
  | 'concurrency'
  | 'rateLimit'
  | 'sample'
>;

/** The settings of an iterator. */
export interface StreamOptions<E = Event> extends Pick<
  HandlerOptions<E>,
  'name' | 'priority' | 'filter' | 'loopGuard' | 'signal'
> {
  /**
   * How many events may wait for the iterator; those beyond count as `rejectedByBulkhead`. Default:
   * the capacity of the bus.
   */
  readonly buffer?: number | undefined;
}

/**
 * A handler's registration. It lasts until `unsubscribe` is called, or the end of a `using` block,
 * or that of its bus or session. Events that come after that do not reach the handler; a call that
 * has begun runs to its end.
 */
export class Subscription implements Disposable {
  /** @internal Making the package small takes the name away. */
  static readonly name = 'Subscription';

  #end: (() => void) | undefined;
  readonly #subscriber: Subscriber;

  /** @internal */
  constructor(subscriber: Subscriber, end: () => void, signal: AbortSignal | undefined) {
    this.#subscriber = subscriber;
    const stop = (): void => this.unsubscribe();
    this.#end = () => {
      signal?.removeEventListener('abort', stop);
      end();
    };
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted === true) this.unsubscribe();
  }

  /** The handler's name. */
  get name(): string {
    return this.#subscriber.name;
  }

  /** The pattern, as text. */
  get pattern(): string {
    return this.#subscriber.pattern;
  }

  /** What became of the events that this handler matched. */
  get outcomes(): Outcomes {
    return toOutcomes(this.#subscriber.counts);
  }

  /** Ends it. Once is enough, more do nothing. */
  unsubscribe(): void {
    const end = this.#end;
    this.#end = undefined;
    end?.();
  }

  [Symbol.dispose](): void {
    this.unsubscribe();
  }
}
