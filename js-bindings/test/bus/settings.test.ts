/** Settings that no compiler has checked: refused by name, and whatever is taken ends no bus. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Backoff, CircuitBreaker, EventBus, type HandlerOptions } from 'swarmbus';

/** For each setting values of the wrong kind; what is missing here is wrong for all. */
const NONSENSE = [null, 5n, Symbol('nothing')];
const [NAME, NUMBER, FUNCTION, OBJECT, FLAG] = ['name', 5, () => 0, {}, true];

const HANDLER: Record<string, readonly unknown[]> = {
  name: [NUMBER, OBJECT],
  priority: [NAME, NaN],
  filter: [NAME, OBJECT],
  service: [NUMBER, 'unknown'],
  breaker: [NAME, NUMBER],
  breakerConfig: [NUMBER, { failures: 3 }, { window: { size: 5 } }],
  retry: [NUMBER, FUNCTION, OBJECT, { attempts: 3 }, { delay: () => 1 }, { maxTries: 3 }],
  timeout: [NAME, 0],
  concurrency: [NAME, { calls: 5 }, 0],
  rateLimit: [NUMBER, OBJECT, { perSecond: 5 }],
  sample: [NUMBER, OBJECT],
  fallback: [FUNCTION, OBJECT, [{ name: NAME }], [{ handle: FUNCTION }]],
  inOrder: [NUMBER],
  deadLetters: [NAME],
  loopGuard: [FLAG, NUMBER, { visits: 1 }],
  signal: [OBJECT, FUNCTION],
  retries: [NUMBER],
  constructor: [NUMBER],
};

test('settings of a handler', async () => {
  await using bus = new EventBus();
  for (const [name, values] of Object.entries(HANDLER)) {
    for (const value of [...values, ...NONSENSE]) {
      assert.throws(() => bus.subscribe('x', () => 0, { [name]: value }), { code: 'setting' });
    }
    // Nothing is set.
    if (name in new Fine()) bus.subscribe('x', () => 0, { [name]: undefined });
  }
  for (const retry of ['retryIf', 'retryBudget']) {
    const options = { retry: Backoff.RETRY, [retry]: NAME };
    assert.throws(() => bus.subscribe('x', () => 0, options as never), { code: 'setting' });
  }
  for (const options of [NUMBER, { buffer: NAME }, { retry: Backoff.RETRY }] as never[]) {
    assert.throws(() => bus.subscribe('x', options), { code: 'setting' });
  }
  assert.throws(() => bus.subscribe('x', () => 0, { retries: 3 } as HandlerOptions), {
    message: /^retries must be one of name, priority, /,
  });
  bus.subscribe('x', () => 0, new Fine());
  await bus.publish({ type: 'x' });
  await bus.drain();
  assert.ok(bus.ledger().balances());
});

class Fine implements HandlerOptions {
  name = 'fine';
  priority = 1;
  filter = (): boolean => true;
  service = undefined;
  breaker = 'type' as const;
  breakerConfig = { probes: 1 };
  retry = { maxTries: 1, delay: (): number => 1 };
  timeout = 5;
  concurrency = { concurrent: 1 };
  rateLimit = { calls: 5 };
  sample = { above: { calls: 5 }, keepOneIn: 2 };
  fallback = [{ name: 'other', handle: (): void => undefined }];
  inOrder = true;
  deadLetters = false;
  loopGuard = { maxHops: 1 };
  signal = new AbortController().signal;
}

test('settings of a bus', () => {
  const wrong: Record<string, readonly unknown[]> = {
    name: [NUMBER],
    capacity: [NAME],
    capacty: [NUMBER],
    waterMarks: [NUMBER],
    overflow: [NUMBER, NAME, OBJECT],
    queueTtl: [NAME],
    breaker: [NUMBER, { threshold: 5 }],
    services: [NUMBER, { name: NUMBER }, { name: { name: NAME } }, { name: { timeout: NAME } }],
    onHighWater: [OBJECT],
    now: [NUMBER],
  };
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of [...values, ...NONSENSE]) {
      assert.throws(() => new EventBus({ [name]: value }), { code: 'setting' }, name);
    }
  }
  assert.throws(() => new EventBus(null as never), { code: 'setting' });
});

test('settings of a breaker', () => {
  for (const settings of [{ threshold: 5 }, { window: { size: 5 } }, { clock: 5 }, null, 5]) {
    assert.throws(() => new CircuitBreaker(settings as never), { code: 'settings' });
  }
  const unset = { window: undefined, openFor: undefined, seed: undefined, clock: undefined };
  new CircuitBreaker(unset).free();
});
