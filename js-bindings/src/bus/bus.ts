/** {@link EventBus}: start reading here. An event goes `publish → queue → worker → runner (route) →
 * pipeline → handler`: `inner.ts`, `queue.ts`, `worker.ts`, `runner.ts`, `pipeline.ts`. */

import { Event, type EventInit } from '../event.js';
import type { BreakerReport } from './breaker.js';
import type { BulkheadReport } from './bulkhead.js';
import type { CommandHandler } from './commands.js';
import { type DeadLetter, DeadLetters } from './dead-letters.js';
import {
  BatchError,
  CommandError,
  DispatchError,
  PublishError,
  RetryError,
  SubscribeError,
} from './errors.js';
import type { Degraded } from './fallback.js';
import { DONE, Inner, type Scope } from './inner.js';
import { type Ledger, Outcome } from './ledger.js';
import { type BusMetrics, metricsOf } from './metrics.js';
import { isTooDeep, MAX_NESTING } from './place.js';
import type { Delivery } from './runner.js';
import { type ScheduleOptions, Schedules } from './schedules.js';
import { Session } from './session.js';
import { type BusSettings, checked } from './settings.js';
import type { EventStream } from './stream.js';
import { ended, stream, subscribe } from './subscribe.js';
import { type Handler, type HandlerContext, Match, type Subscriber } from './subscriber.js';
import type { StreamOptions, HandlerOptions, Subscription } from './subscription.js';
import type { AnyEvents, EventOf, InitOf, TypeOf } from './types.js';
import { typeFault } from '../codec/types.js';
import { quietly } from '../quiet.js';

/** How long calls that were cut off may take to be accounted for, in milliseconds. */
const STOP_LIMIT = 200;

/** What a {@link EventBus.close} left undone. */
export interface Shutdown {
  /** Events that were accepted and never reached a handler. */
  readonly undelivered: readonly Event[];
  /** Calls of handlers that had not ended, and are no longer waited for. */
  readonly cutOff: number;
  /** Whether everything was done. */
  readonly isClean: boolean;
}

/** For a publish that may have to wait. */
export interface PublishOptions {
  /** Stops the wait. An event that was accepted stays so. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * An event bus inside one process, and the counterpart of Rust's `Bus`.
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { EventBus } from 'swarmbus';
 *
 * const bus = new EventBus<{ 'task.done': { id: number } }>();
 * const done: number[] = [];
 * bus.subscribe('task.*', (event) => void done.push(event.payload.id));
 *
 * await bus.publish({ type: 'task.done', payload: { id: 7 } });
 * await bus.drain();
 * assert.deepEqual(done, [7]);
 * assert.ok(bus.ledger().balances());
 * ```
 *
 * # Order
 *
 * Events of one source and one priority are handled in the order in which they were published, one
 * after the other; events without a source count as one source. Across priorities the more urgent
 * come first, with a share for each so that none waits for ever. Across sources there is no order.
 *
 * # Waiting
 *
 * `publish` waits while the queue is full, unless an overflow policy makes room. A handler of the
 * same bus never waits: its events may use a reserve beyond the capacity, and when that is full too
 * it gets them back. So handlers that publish cannot deadlock the bus.
 *
 * # Failures
 *
 * A handler that throws or rejects has failed: its breaker learns of it, the event becomes a dead
 * letter, and the bus goes on.
 */
export class EventBus<M extends object = AnyEvents> implements AsyncDisposable {
  readonly #inner: Inner;
  /** The dead letters: list, retry, purge. */
  readonly deadLetters: DeadLetters;
  /** The schedules: list, cancel. */
  readonly schedules: Schedules;
  #closing: Promise<Shutdown> | undefined;

  /** @throws SettingError when a setting makes no sense. */
  constructor(settings: BusSettings = {}) {
    this.#inner = new Inner(checked(settings));
    this.schedules = new Schedules(this.#inner, this.#inner.settings.maxSchedules);
    this.deadLetters = new DeadLetters(this.#inner.letters, (letter, subscriber) =>
      this.#redeliver(letter, subscriber),
    );
  }

  /**
   * Queues an event for all handlers whose patterns match its type. Waits while the queue is full.
   *
   * A refusal that nobody awaits is no unhandled rejection: it is counted as refused, and that is all.
   *
   * @throws PublishError which hands the event back and says why in its `code`.
   */
  publish(event: InitOf<M>, options?: PublishOptions): Promise<void> {
    return this.#inner.publish(event as EventInit, options?.signal);
  }

  /**
   * Queues an event if there is room now.
   *
   * @throws PublishError which hands the event back, `full` among its codes.
   */
  tryPublish(event: InitOf<M>): void {
    const code = this.#inner.offer(Event.of(event as EventInit));
    if (code !== undefined) throw this.#inner.refusal(code, event as EventInit);
  }

  /**
   * Queues events in order, waiting for room as `publish` does.
   *
   * @throws BatchError which says how many were accepted, and hands back the rest.
   */
  publishBatch(events: readonly InitOf<M>[], options?: PublishOptions): Promise<void> {
    return quietly(this.#publishBatch(events as readonly EventInit[], options));
  }

  async #publishBatch(batch: readonly EventInit[], options?: PublishOptions): Promise<void> {
    for (let accepted = 0; accepted < batch.length; accepted++) {
      try {
        const waiting = this.#inner.publish(batch[accepted] as EventInit, options?.signal);
        if (waiting !== DONE) await waiting;
      } catch (error) {
        if (!(error instanceof PublishError)) throw error;
        const rest = batch.slice(accepted);
        this.#inner.books.refused += rest.length - 1;
        const detail = this.#inner.fault(Event.of(rest[0] as EventInit));
        throw new BatchError(error.code, accepted, rest, error.retryAfter, detail);
      }
    }
  }

  /**
   * Runs an event through its handlers here and now: no queue, no order, no stamp.
   *
   * When all handlers return at once, so does this, without a promise; `await` is right in any case.
   *
   * @throws DispatchError and then no handler has run.
   */
  dispatch(event: InitOf<M>): Delivery | Promise<Delivery> {
    const inner = this.#inner;
    if (inner.closed) throw new DispatchError('closed', 'the bus is closed');
    if (isTooDeep()) {
      const text = `handlers dispatch inside each other more than ${MAX_NESTING} deep`;
      throw new DispatchError('too_deep', text);
    }
    const whole = Event.of(event as EventInit);
    const route = inner.way(whole);
    if (route === undefined) throw new DispatchError('invalid', inner.fault(whole) as string);
    inner.books.dispatched++;
    const { runner } = inner;
    const flight = runner.run(route, whole, false);
    if (flight === undefined) return { matched: runner.matched, delivered: runner.delivered };
    return new Promise((resolve) => {
      flight.done = ({ matched, delivered }) => resolve({ matched, delivered });
    });
  }

  /**
   * Subscribes to the types that a pattern matches: an exact type, `*` for one token (`task.*`), `>`
   * for one or more at the end (`agent.7.>`), or a regular expression of JavaScript's, which must
   * match the whole type.
   *
   * With a handler it is called for each event. Without one, the events come by an async iterator:
   *
   * ```ts
   * import assert from 'node:assert/strict';
   * import { EventBus } from 'swarmbus';
   *
   * await using bus = new EventBus<{ 'task.done': number }>();
   * const events = bus.subscribe('task.done');
   * await bus.publish({ type: 'task.done', payload: 1 });
   * for await (const event of events) {
   *   assert.equal(event.payload, 1);
   *   break;
   * }
   * ```
   *
   * @throws SubscribeError
   */
  subscribe<P extends TypeOf<M> | (string & {}) | RegExp>(
    pattern: P,
    handler: (event: EventOf<M, P>, context: HandlerContext) => unknown,
    options?: HandlerOptions<EventOf<M, P>>,
  ): Subscription;
  subscribe<P extends TypeOf<M> | (string & {}) | RegExp>(
    pattern: P,
    options?: StreamOptions<EventOf<M, P>>,
  ): EventStream<EventOf<M, P>>;
  subscribe(
    pattern: string | RegExp,
    handler?: unknown,
    options: HandlerOptions<never> = {},
  ): unknown {
    const inner = this.#inner;
    if (typeof handler === 'function') {
      return subscribe(inner, inner.scope, pattern, handler as Handler, options as HandlerOptions);
    }
    return stream(inner, inner.scope, pattern, (handler ?? {}) as StreamOptions);
  }

  /**
   * Registers the one handler that answers commands of this type. It lasts until it is disposed of.
   *
   * ```ts
   * import assert from 'node:assert/strict';
   * import { EventBus } from 'swarmbus';
   *
   * const bus = new EventBus<{ 'math.add': [number, number] }>();
   * using _sum = bus.onCommand('math.add', ({ payload: [a, b] }) => a + b);
   * assert.equal(await bus.execute<number>({ type: 'math.add', payload: [2, 3] }), 5);
   * ```
   *
   * @throws SubscribeError `taken` when the type has a handler already.
   */
  onCommand<K extends TypeOf<M>>(
    type: K,
    handler: (command: Event<K, M[K]>, context: HandlerContext) => unknown,
  ): Disposable {
    return this.#onCommand(this.#inner.scope, type, handler as CommandHandler);
  }

  /**
   * Has a command answered. If it carries a session's id, that session's handler answers, or the
   * bus's if the session has none. A deadline on the command limits the wait.
   *
   * @throws CommandError
   */
  execute<R = unknown>(command: InitOf<M>): Promise<R> {
    return this.#execute(command as EventInit) as Promise<R>;
  }

  /**
   * Has an event published later, once or again and again, and returns the schedule's id. Each firing
   * is an event of its own, with the schedule's id as the attribute `schedule` and the time it was due
   * as `scheduledat`. A full bus holds up only the schedule whose firing waits.
   *
   * @throws ScheduleError
   */
  schedule(event: InitOf<M>, options: ScheduleOptions): string {
    return this.schedules.make(event as EventInit, options);
  }

  /**
   * Opens a session, or the one of this name that is open already.
   *
   * @throws SubscribeError `too_many` when there are as many as there may be handlers.
   */
  session(id: string): Session<M> {
    const inner = this.#inner;
    if (inner.closed) throw ended();
    let scope = inner.sessions.get(id);
    if (scope === undefined) {
      if (inner.sessions.size >= inner.settings.maxHandlers) {
        throw new SubscribeError('too_many', 'the bus has as many sessions as it may');
      }
      scope = inner.newScope(id);
      inner.sessions.set(id, scope);
    }
    return new Session<M>(
      {
        inner,
        publish: (init) => inner.publish(init, undefined),
        execute: (init) => this.#execute(init),
        onCommand: (scope, type, handler) => this.#onCommand(scope, type, handler),
      },
      scope,
    );
  }

  /** Everything the bus accepted, and what became of it. */
  ledger(): Ledger {
    return this.#inner.books.ledger(this.#inner.queue.accepted);
  }

  /** Events that wait in the queue. */
  get depth(): number {
    return this.#inner.queue.depth;
  }

  /** The most events that ever waited in the queue. */
  get peakDepth(): number {
    return this.#inner.queue.peak;
  }

  /** Every circuit breaker of a handler that is subscribed, with its statistics. */
  breakers(): BreakerReport[] {
    return [...this.#inner.breakers].map((breaker) => breaker.report());
  }

  /** Every bulkhead, with what it counted. */
  bulkheads(): BulkheadReport[] {
    return [...this.#inner.bulkheads].map((bulkhead) => bulkhead.report());
  }

  /** Every handler that a fallback stands in for at the moment. */
  degraded(): Degraded[] {
    return [...this.#inner.fallbacks].flatMap(({ degraded }) => degraded ?? []);
  }

  /** Counts and gauges under the names that Rust's bus records them. */
  metrics(): BusMetrics {
    const { books, queue, letters, sampler } = this.#inner;
    const { published, refused, detached, outcomes } = this.ledger();
    return metricsOf({
      published,
      refused,
      detached,
      outcomes,
      retries: books.retries,
      timedOut: books.timedOut,
      abandoned: books.abandoned,
      depth: queue.depth,
      pressed: queue.isPressed,
      deadLetters: letters.size,
      degraded: this.degraded().length,
      processing: sampler.histogram(),
    });
  }

  /**
   * Waits until the queue is empty and all handlers have ended, at most for `limit` milliseconds
   * (default: as long as it takes). Publishing goes on meanwhile. A handler that drains its own bus
   * waits for itself.
   *
   * Returns what was still pending at the end: 0 for success.
   */
  async drain(limit?: number): Promise<number> {
    if (await this.#inner.idle(limit)) return 0;
    const ledger = this.ledger();
    return Math.max(1, ledger.pending + ledger.detached);
  }

  /**
   * Takes no more events, lets the handlers empty the queue for at most `limit` milliseconds
   * (default: 30,000), then stops and says what was not done. All subscriptions, sessions and
   * commands end; what the bus holds in linear memory is freed.
   */
  close(limit = 30_000): Promise<Shutdown> {
    return (this.#closing ??= this.#close(limit));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close().then(() => undefined);
  }

  async #close(limit: number): Promise<Shutdown> {
    const inner = this.#inner;
    inner.end();
    this.schedules.end();
    inner.waiters.close();
    let undelivered: Event[] = [];
    let cutOff = 0;
    if (!(await inner.idle(limit))) {
      inner.stopped = true;
      undelivered = inner.queue.clear();
      for (const event of undelivered) inner.runner.account(event, Outcome.cancelled);
      cutOff = inner.pipeline.open;
      inner.closing.abort();
      for (const bulkhead of inner.bulkheads) bulkhead.clear();
      inner.pipeline.cut();
      for (const scope of [...inner.sessions.values(), inner.scope]) {
        for (const end of [...scope.ends]) end();
      }
      await inner.idle(STOP_LIMIT);
    }
    inner.closing.abort();
    inner.free();
    return { undelivered, cutOff, isClean: undelivered.length === 0 && cutOff === 0 };
  }

  #onCommand(scope: Scope, type: string, handler: CommandHandler): Disposable {
    const inner = this.#inner;
    if (inner.closed || scope.ended) throw ended();
    const fault = typeFault(type);
    if (fault !== undefined) throw new SubscribeError('pattern', fault);
    if (scope.commands.has(type)) {
      throw new SubscribeError('taken', `the command ${type} has a handler in this scope already`);
    }
    if (scope.commands.size >= inner.settings.maxHandlers) {
      throw new SubscribeError('too_many', 'the bus has as many commands as it may');
    }
    const end = inner.commands.add(scope.commands, type, handler);
    return { [Symbol.dispose]: end };
  }

  #execute(init: EventInit): Promise<unknown> {
    const inner = this.#inner;
    const command = Event.of(init);
    const type = String(command.type);
    if (inner.closed) return Promise.reject(new CommandError('closed', type, 'the bus is closed'));
    const own = command.session === undefined ? undefined : inner.sessions.get(command.session);
    const scopes = own === undefined ? [] : [own.commands];
    return inner.commands.execute([...scopes, inner.scope.commands], command);
  }

  /** Takes a dead letter to the handler that failed, or to one of its name. */
  #redeliver(letter: DeadLetter, subscriber: Subscriber): Promise<number> {
    const inner = this.#inner;
    const { id, event, handler, attempts } = letter;
    if (inner.closed) throw new RetryError('closed', id, 'the bus is closed');
    if (isTooDeep()) throw new RetryError('too_deep', id, 'handlers call each other too deep');
    let match: Match | undefined;
    if (subscriber.active) match = new Match(subscriber, event.type);
    else {
      const found = [...inner.matchesInSession(event), ...inner.routeOf(event).matches];
      match = found.find(({ subscriber: { name, active, outlet } }) => {
        return active && name === handler && outlet === undefined;
      });
    }
    if (match === undefined) {
      throw new RetryError('handler_gone', id, `dead letter ${id}: ${handler} is not subscribed`);
    }
    return inner.runner.retry(event, match, { id, attempts });
  }
}
