/** What a bus is made of, and what its parts ask of each other. */

import { CRITICAL_PRIORITY, Event, type EventInit } from '../event.js';
import { type Bulkhead, BulkheadLayer } from './bulkhead.js';
import type { BreakerSettings } from '../breaker.js';
import { BreakerLayer, NamedBreaker } from './breaker.js';
import { Commands, type CommandTable } from './commands.js';
import { DeadLetterQueue } from './dead-letters.js';
import { type PublishCode, PublishError } from './errors.js';
import { type Fallback, FallbackLayer } from './fallback.js';
import { Books, Outcome } from './ledger.js';
import { Sampler } from './metrics.js';
import { Gate } from './overflow.js';
import { Pipeline } from './pipeline.js';
import { Desk } from './place.js';
import { PRIORITIES } from './lanes.js';
import { Queue } from './queue.js';
import { type Route, Routes } from './routes.js';
import { Runner } from './runner.js';
import { declare, type Service } from './services.js';
import { type Checked } from './settings.js';
import { Stamper } from './stamper.js';
import { checkPolicy } from './subscribe.js';
import type { Match } from './subscriber.js';
import { macrotask } from './turn.js';
import { typeFault } from '../codec/types.js';
import { Waiters } from './waiters.js';
import { Worker } from './worker.js';
import { quietly } from '../quiet.js';

/** Handlers of events and commands that end together. */
export interface Scope {
  readonly id: string;
  readonly routes: Routes;
  readonly commands: CommandTable;
  /** What else ends with it. */
  readonly ends: Set<() => void>;
  /** Handles that keep it open. */
  handles: number;
  ended: boolean;
}

/** What a publisher gets that need not wait. */
export const DONE = Promise.resolve();
/** Each at its own place. */
const PRIORITY: readonly number[] = Array.from({ length: PRIORITIES }, (_, priority) => priority);

/** So many publishes in a row do without a turn of the event loop. */
const PUBLISHES_A_TURN = 1_024;

export class Inner {
  readonly books = new Books();
  readonly desk = new Desk();
  readonly stamper = new Stamper();
  readonly sampler: Sampler;
  readonly letters: DeadLetterQueue;
  readonly pipeline: Pipeline;
  readonly runner: Runner;
  readonly queue: Queue;
  readonly waiters: Waiters;
  readonly worker: Worker;
  readonly commands: Commands;
  readonly scope: Scope;
  readonly sessions = new Map<string, Scope>();
  readonly closing = new AbortController();
  readonly breakers = new Set<NamedBreaker>();
  readonly bulkheads = new Set<BulkheadLayer>();
  readonly fallbacks = new Set<FallbackLayer>();
  readonly services: ReadonlyMap<string, Service>;
  readonly maxDetached: number;
  /** A close has begun: nothing is accepted any more. */
  closed = false;
  /** A close ran out of time: nothing more begins. */
  stopped = false;
  /** Handlers of events, in all scopes. */
  handlers = 0;
  private serial = 0;
  private untilTurn = PUBLISHES_A_TURN;
  private readonly gate: Gate;
  private readonly whenIdle = new Set<() => void>();
  /** Whether events may have waited for too long. */
  readonly isTimed: boolean;

  constructor(readonly settings: Checked) {
    const { sizes, queueTtl } = settings;
    this.maxDetached = settings.detachedCalls;
    this.isTimed = queueTtl !== Infinity;
    this.gate = new Gate(settings.overflow, sizes.capacity);
    this.sampler = new Sampler(settings.sampleEvery);
    this.letters = new DeadLetterQueue(settings.deadLetters, (event) => this.stamper.stamp(event));
    this.pipeline = new Pipeline(this);
    this.runner = new Runner(this, this.pipeline);
    this.queue = new Queue(this, sizes, this.gate, this.isTimed);
    const wake = (): void => this.worker.wake();
    const refuse = (): void => void this.books.refused++;
    const routeOf = (event: Event): Route => this.routeOf(event);
    this.waiters = new Waiters(this.queue, routeOf, settings.maxWaiting, wake, refuse);
    this.worker = new Worker(this, this.queue, this.waiters, this.runner, settings.workers);
    this.scope = this.newScope('');
    this.commands = new Commands(
      this.desk,
      (name) => this.newBreaker(name, undefined, undefined),
      (breaker) => this.endBreaker(breaker),
      this.closing.signal,
    );
    this.services = declare(this, settings.services, checkPolicy);
  }

  now(): number {
    return this.settings.now();
  }

  /** Accepts nothing more. */
  end(): void {
    this.closed = true;
    this.queue.end();
  }

  /** What keeps it from being an event that a bus can carry. */
  fault(event: Event): string | undefined {
    const { priority, type } = event;
    if (PRIORITY[priority] !== priority) {
      return `a priority is a whole number from 0 to 9, not ${String(priority)}`;
    }
    return this.scope.routes.known(type) === undefined ? typeFault(type) : undefined;
  }

  /** The way of an event that a bus can carry. */
  way({ priority, type }: Event): Route | undefined {
    if (PRIORITY[priority] !== priority) return undefined;
    return this.scope.routes.known(type) ?? this.newWay(type);
  }

  private newWay(type: string): Route | undefined {
    return typeFault(type) === undefined ? this.scope.routes.of(type) : undefined;
  }

  /** Queues an event if there is room now, or says why not. */
  offer(event: Event): PublishCode | undefined {
    const route = this.way(event);
    if (route === undefined || !this.queue.push(event, route)) {
      const code = this.offerIfRoom(event, route);
      if (code !== undefined) return code;
    }
    this.stamper.stamp(event);
    this.worker.wake();
    return undefined;
  }

  private offerIfRoom(event: Event, route: Route | undefined): PublishCode | undefined {
    if (this.closed) return 'closed';
    if (route === undefined) return 'invalid';
    let code: PublishCode | undefined;
    if (this.waiters.size > 0 && !(this.gate.always && event.priority >= CRITICAL_PRIORITY)) {
      code = this.behindOthers();
    } else {
      code = this.queue.offer(event, route, false);
    }
    if (code !== undefined && mayPass(code) && this.desk.isHandling()) {
      return this.queue.offer(event, route, true);
    }
    return code;
  }

  /** Why an event is refused that others wait before. */
  private behindOthers(): PublishCode | undefined {
    return this.gate.always && this.queue.hasRoom ? 'rate_limited' : 'full';
  }

  publish(init: EventInit, signal: AbortSignal | undefined): Promise<void> {
    try {
      const event = Event.of(init);
      const code = this.offer(event);
      if (code === undefined && --this.untilTurn > 0) return DONE;
      return this.waitFor(event, init, code, signal);
    } catch (error) {
      return refused(error);
    }
  }

  private waitFor(
    event: Event,
    init: EventInit,
    code: PublishCode | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (code === undefined) return this.giveTurn();
    if (!mayPass(code) || this.desk.isHandling()) throw this.refusal(code, init);
    this.stamper.stamp(event);
    return quietly(this.waiters.wait(event, init, code, signal));
  }

  /** Hands an event back. */
  refusal(code: PublishCode, init: EventInit): PublishError {
    this.books.refused++;
    const detail = code === 'invalid' ? this.fault(Event.of(init)) : undefined;
    const retryAfter = code === 'rate_limited' ? this.queue.retryAfter : undefined;
    return new PublishError(code, init, retryAfter, detail);
  }

  // What the queue asks.

  evicted(event: Event, outcome: number): void {
    this.runner.account(event, outcome);
  }

  pressure(high: boolean): void {
    const { onHighWater, onLowWater } = this.settings;
    try {
      (high ? onHighWater : onLowWater)?.();
    } catch (error) {
      complain(error);
    }
  }

  // What the runner asks.

  routeOf(event: Event): Route {
    return this.scope.routes.of(event.type);
  }

  /** A way that was found some time ago, or a new one. */
  routeNow(event: Event, route: Route): Route {
    const { routes } = this.scope;
    return route.age === routes.age ? route : routes.of(event.type);
  }

  matchesInSession(event: Event): readonly Match[] {
    return this.sessions.get(event.session as string)?.routes.of(event.type).matches ?? [];
  }

  // What the worker asks.

  isStale(since: number): boolean {
    return this.now() - since >= this.settings.queueTtl;
  }

  expired(event: Event): void {
    this.runner.account(event, Outcome.expired);
  }

  /** Tells those who wait for it, if there is nothing left to do. */
  maybeIdle(): void {
    if (this.whenIdle.size === 0 || !this.isIdle) return;
    for (const tell of [...this.whenIdle]) tell();
  }

  get isIdle(): boolean {
    return (
      this.queue.depth === 0 &&
      this.waiters.size === 0 &&
      !this.worker.isBusy &&
      this.books.detached === 0
    );
  }

  /** `false` if it took longer than the limit, in milliseconds, if there is one. */
  idle(limit?: number): Promise<boolean> {
    if (this.isIdle) return Promise.resolve(true);
    return new Promise((resolve) => {
      const end = (idle: boolean): void => {
        clearTimeout(timer);
        this.whenIdle.delete(tell);
        resolve(idle);
      };
      const tell = (): void => end(true);
      // Without a limit there is no timer that would keep a program alive.
      const timer = limit === undefined ? undefined : setTimeout(() => end(false), limit);
      this.whenIdle.add(tell);
    });
  }

  // Scopes and breakers.

  newScope(id: string): Scope {
    const routes = new Routes(this.settings.routeCache);
    return { id, routes, commands: new Map(), ends: new Set(), handles: 0, ended: false };
  }

  endScope(scope: Scope): void {
    if (scope.ended) return;
    scope.ended = true;
    for (const end of [...scope.ends]) end();
    this.handlers -= scope.routes.size;
    scope.routes.end();
    this.commands.clear(scope.commands);
  }

  nextSerial(): number {
    return this.serial++;
  }

  newBreaker(
    name: string,
    eventType: string | undefined,
    settings: BreakerSettings | undefined,
  ): NamedBreaker {
    const clock = this.settings.now;
    const breaker = new NamedBreaker(name, eventType, {
      clock,
      ...(settings ?? this.settings.breaker),
    });
    this.breakers.add(breaker);
    return breaker;
  }

  endBreaker(breaker: NamedBreaker): void {
    this.breakers.delete(breaker);
    breaker.free();
  }

  breakerLayer(
    name: string,
    scope: 'type' | 'handler',
    settings: BreakerSettings | undefined,
  ): BreakerLayer {
    return new BreakerLayer(
      scope,
      (eventType) => this.newBreaker(name, eventType, settings),
      (breaker) => this.endBreaker(breaker),
    );
  }

  newFallback(name: string, chain: readonly Fallback[]): FallbackLayer {
    const fallback = new FallbackLayer(name, chain, () => this.fallbacks.delete(fallback));
    this.fallbacks.add(fallback);
    return fallback;
  }

  newBulkhead(name: string, settings: Bulkhead): BulkheadLayer {
    const bulkhead = new BulkheadLayer(name, settings, () => this.bulkheads.delete(bulkhead));
    this.bulkheads.add(bulkhead);
    return bulkhead;
  }

  /** Nothing works any more: what is in linear memory goes back. */
  free(): void {
    for (const scope of this.sessions.values()) this.endScope(scope);
    this.sessions.clear();
    this.endScope(this.scope);
    for (const service of this.services.values()) service.free();
    this.gate.free();
  }

  /** A publisher that never waits must leave the thread to others now and then. */
  private giveTurn(): Promise<void> {
    this.untilTurn = PUBLISHES_A_TURN;
    return new Promise(macrotask);
  }
}

function refused(error: unknown): Promise<void> {
  return quietly(Promise.reject(error as Error));
}

/** Whether waiting is of use. */
function mayPass(code: PublishCode): boolean {
  return code === 'full' || code === 'rate_limited';
}

/** A callback of the program has thrown. Nothing stops for that. */
function complain(error: unknown): void {
  console.error('swarmbus: a water mark callback threw', error);
}
