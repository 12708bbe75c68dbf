/** Making a subscription: settings are checked, then believed. */

import { breakerFault, type BreakerLayer } from './breaker.js';
import type { Bulkhead } from './bulkhead.js';
import { BudgetPort } from './core.js';
import { SubscribeError } from './errors.js';
import type { Fallback } from './fallback.js';
import type { Inner, Scope } from './inner.js';
import { kindFault, type Kinds } from '../kinds.js';
import { Layers, RetryLayer } from './layers.js';
import { Limiter, type RateLimit, SamplingLayer } from './rate-limit.js';
import { patternText } from './routes.js';
import type { Service } from './services.js';
import { LONGEST } from './settings.js';
import { EventStream } from './stream.js';
import { type Handler, type Outlet, Subscriber } from './subscriber.js';
import {
  type StreamOptions,
  type HandlerOptions,
  type Policy,
  Subscription,
} from './subscription.js';

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
  fits(options, STREAM);
  const limit = whole('buffer', options.buffer ?? inner.settings.sizes.capacity, 0, 2 ** 24);
  const events = new EventStream(inner.books, limit, () => inner.maybeIdle());
  const { subscriber, end } = insert(
    inner,
    scope,
    pattern,
    () => undefined,
    (event) => events.offer(event),
    { ...options, buffer: undefined, breaker: 'off' } as HandlerOptions,
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
  fits(options, HANDLER);
  check(options, options.service !== undefined);
  const service = options.service === undefined ? undefined : inner.services.get(options.service);
  if (service === undefined && options.service !== undefined) {
    throw setting(`there is no service ${options.service}`);
  }
  const text = patternText(pattern);
  const name = options.name ?? text;
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
    breakers(inner, name, options, service),
    layers(inner, name, options, service),
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

function layers(
  inner: Inner,
  name: string,
  options: HandlerOptions,
  service: Service | undefined,
): Layers | undefined {
  const {
    retry,
    retryIf,
    retryBudget,
    concurrency,
    timeout,
    inOrder = false,
  } = {
    ...service?.policy,
    ...set(options),
  };
  const { rateLimit, sample, fallback = [] } = options;
  const chain = (Array.isArray(fallback) ? fallback : [fallback]) as readonly Fallback[];
  const sampling = sample === undefined ? service?.sampling : new SamplingLayer(sample);
  const limiter = rateLimit === undefined ? service?.limiter : new Limiter(rateLimit);
  const wanted = [retry, concurrency, timeout, limiter, sampling, chain[0]];
  if (wanted.every((layer) => layer === undefined)) return undefined;
  const { percent = 20, perSecond = 10 } = retryBudget ?? {};
  const isShared = service !== undefined && options.retryBudget === undefined;
  const budget = retry && (isShared ? service.budget : new BudgetPort(percent, perSecond));
  const own = typeof concurrency === 'number' ? { concurrent: concurrency } : concurrency;
  const compartment = options.concurrency === undefined ? service?.bulkhead : undefined;
  const bulkhead = compartment ?? (own && inner.newBulkhead(name, own));
  const standIns = chain.length > 0 ? inner.newFallback(name, chain) : undefined;
  return new Layers(
    retry && budget && new RetryLayer(retry, budget, retryIf),
    bulkhead,
    timeout,
    inOrder,
    sampling,
    limiter,
    standIns,
    [isShared ? undefined : budget, compartment === undefined ? bulkhead : undefined, standIns],
  );
}

/** What is set, without what is undefined. */
function set(options: HandlerOptions): HandlerOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** What shares a breaker with whom. */
function breakers(
  inner: Inner,
  name: string,
  { breaker, breakerConfig }: HandlerOptions,
  service: Service | undefined,
): BreakerLayer | undefined {
  if (breaker === 'off') return undefined;
  if (service !== undefined && breaker === undefined && breakerConfig === undefined) {
    return service.breaker;
  }
  return inner.breakerLayer(
    name,
    breaker ?? 'type',
    breakerConfig ?? service?.policy.breakerConfig,
  );
}

const POLICY: Kinds<Policy> = {
  breakerConfig: 'object',
  retry: 'object',
  retryIf: 'function',
  retryBudget: 'object',
  timeout: 'number',
  concurrency: 'number object',
  rateLimit: 'object',
  sample: 'object',
};

const COMMON: Kinds<Omit<StreamOptions, 'buffer'>> = {
  name: 'string',
  priority: 'number',
  filter: 'function',
  loopGuard: 'boolean object',
  signal: 'object',
};

const STREAM: Kinds<StreamOptions> = { ...COMMON, buffer: 'number' };

const HANDLER: Kinds<HandlerOptions> = {
  ...COMMON,
  service: 'string',
  breaker: 'string',
  ...POLICY,
  fallback: 'object',
  inOrder: 'boolean',
  deadLetters: 'boolean',
};

/** Throws when the policy of a service makes no sense. */
export function checkPolicy(policy: Policy): void {
  fits(policy, POLICY);
  check(policy);
}

/** Throws when settings have names that are none, or are of another kind. */
function fits<T extends object>(options: T, kinds: Kinds<T>): void {
  const fault = kindFault(options, kinds);
  if (fault !== undefined) throw setting(`${fault.name} must be ${fault.must}`);
}

/** Throws when settings make no sense. With `inService`, what is missing may come from there. */
function check(options: HandlerOptions, inService = false): void {
  const { retry, retryIf, retryBudget, timeout, concurrency, breaker, priority } = options;
  if (priority !== undefined && !Number.isFinite(priority)) {
    throw setting('priority must be a number');
  }
  if (!inService && retry === undefined && (retryIf !== undefined || retryBudget !== undefined)) {
    throw setting('retryIf and retryBudget need retry');
  }
  if (retry?.maxTries === 0) throw setting('a retry of 0 tries is none: leave it out');
  if (retry !== undefined && !(typeof retry.delay === 'function' && retry.maxTries > 0)) {
    throw setting('retry must be a Backoff, or have `maxTries` and a function `delay`');
  }
  if (breaker !== undefined && !['type', 'handler', 'off'].includes(breaker)) {
    throw setting(`breaker must be type, handler or off, not ${breaker}`);
  }
  if (options.signal !== undefined && typeof options.signal.addEventListener !== 'function') {
    throw setting('signal must be an AbortSignal');
  }
  for (const fallback of [options.fallback ?? []].flat() as readonly Fallback[]) {
    if (typeof fallback?.handle !== 'function' || typeof fallback.name !== 'string') {
      throw setting('a fallback must have a `name` and a function `handle`');
    }
  }
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
  if ((options.loopGuard as unknown) === true)
    throw setting('loopGuard must be its settings, or false');
  if (options.loopGuard) {
    fits(options.loopGuard, { maxVisits: 'number', maxHops: 'number' });
    whole('loopGuard.maxVisits', options.loopGuard.maxVisits ?? 1, 1, 2 ** 31);
    whole('loopGuard.maxHops', options.loopGuard.maxHops ?? 0, 0, 2 ** 31);
  }
  for (const rate of [options.rateLimit, options.sample?.above]) {
    if (rate !== undefined) checkRate(rate);
  }
  if (options.sample !== undefined) {
    whole('sample.keepOneIn', options.sample.keepOneIn, 2, 2 ** 31);
  }
  if (concurrency !== undefined) {
    checkBulkhead(typeof concurrency === 'number' ? { concurrent: concurrency } : concurrency);
  }
}

function checkBulkhead(bulkhead: Bulkhead): void {
  fits(bulkhead, { concurrent: 'number', queue: 'number', wait: 'number' });
  const { concurrent = 10, queue = 50, wait = 30_000 } = bulkhead;
  whole('concurrency.concurrent', concurrent, 1, 1_000_000);
  whole('concurrency.queue', queue, 0, 1_000_000);
  if (!(wait > 0 && wait <= LONGEST)) {
    throw setting(`concurrency.wait must be more than 0 and at most ${LONGEST} ms`);
  }
}

function checkRate(rate: RateLimit): void {
  fits(rate, { calls: 'number', per: 'number', burst: 'number' });
  const { calls, per = 1_000, burst = calls } = rate;
  whole('calls of a rate', calls, 1, 2 ** 31);
  whole('burst of a rate', burst, 1, 2 ** 31);
  if (!(per > 0 && per < Infinity)) throw setting('a rate is per more than 0 ms');
}

function whole(name: string, value: number, from: number, to: number): number {
  if (Number.isInteger(value) && value >= from && value <= to) return value;
  throw setting(`${name} must be a whole number from ${from} to ${to}`);
}

function setting(message: string): SubscribeError {
  return new SubscribeError('setting', message);
}
