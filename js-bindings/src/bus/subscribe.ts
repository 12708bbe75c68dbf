/** Making a subscription: settings are checked, then believed. */

import { breakerFault } from './breaker.js';
import type { Bulkhead } from './bulkhead.js';
import { BudgetPort } from './core.js';
import { SubscribeError } from './errors.js';
import type { Inner, Scope } from './inner.js';
import { Layers, RetryLayer } from './layers.js';
import { patternText } from './routes.js';
import { LONGEST } from './settings.js';
import { EventStream } from './stream.js';
import { type Handler, type Outlet, Subscriber } from './subscriber.js';
import { type StreamOptions, type HandlerOptions, Subscription } from './subscription.js';

/** Subscribes a handler in a scope. */
export function subscribe(
  inner: Inner,
  scope: Scope,
  pattern: string | RegExp,
  handler: Handler,
  options: HandlerOptions,
): Subscription {
  const { subscriber, end } = insert(inner, scope, pattern, handler, undefined, options);
  return new Subscription(subscriber, end, options.signal);
}

/** Subscribes an iterator in a scope. */
export function stream(
  inner: Inner,
  scope: Scope,
  pattern: string | RegExp,
  options: StreamOptions,
): EventStream {
  const limit = whole('buffer', options.buffer ?? inner.settings.sizes.capacity, 0, 2 ** 24);
  const events = new EventStream(inner.books, limit, () => inner.maybeIdle());
  const { subscriber, end } = insert(
    inner,
    scope,
    pattern,
    () => undefined,
    (event) => events.offer(event),
    { ...options, breaker: 'off' },
  );
  const stop = (): void => events.unsubscribe();
  const forget = (): void => {
    scope.ends.delete(stop);
    options.signal?.removeEventListener('abort', stop);
    end();
  };
  events.begin(subscriber, forget);
  scope.ends.add(stop);
  options.signal?.addEventListener('abort', stop, { once: true });
  if (options.signal?.aborted === true) stop();
  return events;
}

function insert(
  inner: Inner,
  scope: Scope,
  pattern: string | RegExp,
  handler: Handler,
  outlet: Outlet | undefined,
  options: HandlerOptions,
): { subscriber: Subscriber; end: () => void } {
  if (inner.closed || scope.ended) throw ended();
  const { maxHandlers } = inner.settings;
  if (inner.handlers >= maxHandlers) {
    throw new SubscribeError('too_many', `the bus has ${maxHandlers} handlers, which is its limit`);
  }
  const text = patternText(pattern);
  const name = options.name ?? text;
  check(options);
  // A pattern that is none is refused before anything is made for it.
  const place = scope.routes.place(pattern);
  const subscriber = new Subscriber(
    inner.nextSerial(),
    name,
    text,
    options.priority ?? 0,
    handler,
    options.filter,
    options.loopGuard === false ? undefined : (options.loopGuard ?? {}),
    options.breaker === 'off'
      ? undefined
      : inner.breakerLayer(name, options.breaker ?? 'type', options.breakerConfig),
    layers(inner, name, options),
    options.deadLetters ?? true,
    outlet,
    inner.books,
    inner.closing.signal,
  );
  scope.routes.fill(place, subscriber);
  inner.handlers++;
  const end = (): void => {
    if (!subscriber.active) return;
    subscriber.deactivate();
    scope.routes.remove(place);
    inner.handlers--;
  };
  return { subscriber, end };
}

/** Nobody may subscribe there any more. */
export function ended(): SubscribeError {
  return new SubscribeError('ended', 'the session or the bus has ended');
}

function layers(inner: Inner, name: string, options: HandlerOptions): Layers | undefined {
  const { retry, retryIf, retryBudget, concurrency, timeout, inOrder = false } = options;
  if (retry === undefined && concurrency === undefined && timeout === undefined) return undefined;
  const { percent = 20, perSecond = 10 } = retryBudget ?? {};
  const bulkhead = typeof concurrency === 'number' ? { concurrent: concurrency } : concurrency;
  return new Layers(
    retry && new RetryLayer(retry, new BudgetPort(percent, perSecond), retryIf),
    bulkhead && inner.newBulkhead(name, bulkhead),
    timeout,
    inOrder,
  );
}

function check(options: HandlerOptions): void {
  const { retry, retryIf, retryBudget, timeout, concurrency, breaker, priority } = options;
  if (priority !== undefined && !Number.isFinite(priority)) {
    throw setting('priority must be a number');
  }
  if (retry === undefined && (retryIf !== undefined || retryBudget !== undefined)) {
    throw setting('retryIf and retryBudget need retry');
  }
  if (retry?.maxTries === 0) throw setting('a retry of 0 tries is none: leave it out');
  if (retryBudget !== undefined) {
    whole('retryBudget.percent', retryBudget.percent, 0, 100);
    whole('retryBudget.perSecond', retryBudget.perSecond, 0, 2 ** 31);
    if (retryBudget.percent + retryBudget.perSecond === 0) {
      throw setting('a retry without a budget is none: leave it out');
    }
  }
  if (timeout !== undefined && !(timeout > 0 && timeout <= LONGEST)) {
    throw setting(`timeout must be more than 0 and at most ${LONGEST} ms`);
  }
  if (breaker === 'off' && options.breakerConfig !== undefined) {
    throw setting('breakerConfig is set, and the breaker is off');
  }
  const fault = breakerFault(options.breakerConfig);
  if (fault !== undefined) throw setting(`breakerConfig: ${fault.message}`);
  if (options.loopGuard) {
    whole('loopGuard.maxVisits', options.loopGuard.maxVisits ?? 1, 1, 2 ** 31);
    whole('loopGuard.maxHops', options.loopGuard.maxHops ?? 0, 0, 2 ** 31);
  }
  if (concurrency !== undefined) {
    checkBulkhead(typeof concurrency === 'number' ? { concurrent: concurrency } : concurrency);
  }
}

function checkBulkhead({ concurrent = 10, queue = 50, wait = 30_000 }: Bulkhead): void {
  whole('concurrency.concurrent', concurrent, 1, 1_000_000);
  whole('concurrency.queue', queue, 0, 1_000_000);
  if (!(wait > 0 && wait <= LONGEST)) {
    throw setting(`concurrency.wait must be more than 0 and at most ${LONGEST} ms`);
  }
}

function whole(name: string, value: number, from: number, to: number): number {
  if (Number.isInteger(value) && value >= from && value <= to) return value;
  throw setting(`${name} must be a whole number from ${from} to ${to}`);
}

function setting(message: string): SubscribeError {
  return new SubscribeError('setting', message);
}
