/** Fallbacks, rate limits, samples, services, and refusals that nobody awaits. */

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import { Backoff, BatchError, Event, EventBus, PublishError, SubscribeError } from 'swarmbus';

import { Hand, pass, settle, stopTime, withBus } from './support.js';

test.beforeEach(() => stopTime());
test.afterEach(() => mock.reset());

const oops = (): never => {
  throw new Error('oops');
};

test('fallbacks take over in their order, until one succeeds or none is left', async () => {
  await withBus({}, async (bus) => {
    let fails = 9;
    const served: string[] = [];
    bus.subscribe('x', () => fails-- > 0 && oops(), {
      name: 'orders',
      breaker: 'off',
      fallback: [
        { name: 'broken', handle: oops },
        { name: 'late', handle: () => Promise.reject(new Error('no')) },
        { name: 'cache', handle: ({ payload }) => void served.push(`cache ${payload}`) },
        { name: 'unused', handle: () => void served.push('unused') },
      ],
    });
    bus.subscribe('x', oops, { name: 'lost', fallback: { name: 'broken', handle: oops } });
    const since = Date.now();
    await bus.publish({ type: 'x', payload: 1 });
    await pass(1_000);
    await bus.publish({ type: 'x', payload: 2 });
    await pass(1);
    assert.deepEqual(served, ['cache 1', 'cache 2']);
    assert.deepEqual(bus.degraded(), [{ name: 'orders', since, serving: 'cache' }]);
    assert.equal(bus.metrics().degraded_handlers, 1);
    const { fellBack, deadLettered } = bus.ledger().outcomes;
    assert.deepEqual([fellBack, deadLettered], [2, 2]);
    assert.deepEqual(
      bus.deadLetters.list().map(({ handler, attempts }) => [handler, attempts]),
      [
        ['lost', 1],
        ['lost', 1],
      ],
    );
    fails = 0;
    await bus.publish({ type: 'x', payload: 3 });
    await pass(1);
    assert.deepEqual(bus.degraded(), []);
  });
});

test('a fallback comes after all tries, and when the handler is not called at all', async () => {
  await withBus({ breaker: { consecutiveFailures: 3 } }, async (bus) => {
    let [calls, served] = [0, 0];
    const options = {
      retry: Backoff.fixed(10).with({ maxTries: 2 }),
      fallback: { name: 'later', handle: () => void served++ },
    };
    bus.subscribe('x', () => (calls++, oops()), options);
    for (let n = 0; n < 3; n++) await bus.publish({ type: 'x' });
    await pass(1_000);
    // The tries of all open the breaker.
    assert.equal(calls, 3);
    assert.equal(served, 3);
    assert.equal(bus.deadLetters.size, 0);
    assert.equal(bus.ledger().outcomes.fellBack, 3);
  });
});

test('a fallback has the time of the handler, and nobody stands in for what is too late', async () => {
  await withBus({}, async (bus) => {
    const [hand, other] = [new Hand(), new Hand()];
    const fallback = { name: 'slow', handle: other.handle };
    bus.subscribe('x', hand.handle, { timeout: 100, fallback });
    bus.tryPublish({ type: 'x', payload: 1 });
    bus.tryPublish({ type: 'x', payload: 2, deadline: (Date.now() + 50) * 1_000 });
    await pass(1_000);
    assert.deepEqual([hand.seen, other.seen], [[1], [1]]);
    const { deadLettered, expired } = bus.ledger().outcomes;
    assert.deepEqual([deadLettered, expired], [1, 1]);
    await hand.all();
    await other.all();
  });
});

test('a bus that stops waits for no fallback', async () => {
  await withBus({}, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', oops, { fallback: { name: 'never', handle: hand.handle } });
    bus.tryPublish({ type: 'x' });
    await settle();
    const closing = bus.close(10);
    await pass(1_000);
    assert.equal((await closing).cutOff, 1);
    assert.equal(bus.ledger().outcomes.cancelled, 1);
  });
});

test('a retried dead letter that a fallback takes is gone', async () => {
  await withBus({}, async (bus) => {
    let helps = false;
    const handle = (): void => void (helps || oops());
    bus.subscribe('x', oops, { fallback: { name: 'second', handle } });
    await bus.publish({ type: 'x' });
    await bus.drain();
    helps = true;
    assert.equal((await bus.deadLetters.retryAll()).delivered, 1);
    assert.equal(bus.deadLetters.size, 0);
  });
});

test('tokens of a rate come back evenly', async () => {
  await withBus({}, async (bus) => {
    let calls = 0;
    bus.subscribe('x', () => void calls++, { rateLimit: { calls: 10, burst: 3 } });
    const passed = async (): Promise<number> => {
      const before = calls;
      for (let n = 0; n < 20; n++) bus.tryPublish({ type: 'x' });
      await bus.drain();
      return calls - before;
    };
    assert.equal(await passed(), 3);
    mock.timers.tick(200);
    assert.equal(await passed(), 2);
    mock.timers.tick(60_000);
    assert.equal(await passed(), 3);
    assert.equal(bus.ledger().outcomes.rejectedByRateLimit, 52);
  });
});

test('a storm is sampled, and calm is not', async () => {
  await withBus({}, async (bus) => {
    const above = { calls: 100 };
    bus.subscribe('x', () => 0, { sample: { above, keepOneIn: 10 } });
    for (let n = 0; n < 1_100; n++) bus.tryPublish({ type: 'x' });
    await bus.drain();
    const { delivered, sampledOut } = bus.ledger().outcomes;
    assert.deepEqual([delivered, sampledOut], [200, 900]);
    for (const wrong of [
      { sample: { above, keepOneIn: 1 } },
      { rateLimit: { calls: 0 } },
      { rateLimit: { calls: 1, burst: 0 } },
      { rateLimit: { calls: 1, per: 0 } },
    ]) {
      assert.throws(() => bus.subscribe('x', () => 0, wrong), SubscribeError);
    }
  });
});

test('handlers of a service share its layers, and what they set themselves comes first', async () => {
  const services = {
    db: { breakerConfig: { consecutiveFailures: 2 }, concurrency: { concurrent: 1, queue: 1 } },
    search: { rateLimit: { calls: 2 }, retry: Backoff.fixed(10).with({ maxTries: 1 }) },
  };
  await withBus({ services }, async (bus) => {
    const hand = new Hand();
    bus.subscribe('a', hand.handle, { name: 'reader', service: 'db' });
    bus.subscribe('b', hand.handle, { name: 'writer', service: 'db' });
    bus.subscribe('c', hand.handle, { name: 'own', service: 'db', concurrency: 5, breaker: 'off' });
    for (const type of ['a', 'b', 'a', 'c', 'c']) bus.tryPublish({ type, payload: type });
    await settle();
    assert.deepEqual(hand.seen, ['a', 'c', 'c']);
    assert.equal(bus.ledger().outcomes.rejectedByBulkhead, 1);
    assert.deepEqual(
      bus.bulkheads().map(({ name, running, waiting }) => [name, running, waiting]),
      [
        ['db', 1, 1],
        ['own', 2, 0],
      ],
    );
    for (const call of hand.calls.splice(0)) call.fail(new Error('no'));
    await settle();
    hand.calls.shift()?.fail(new Error('no'));
    await settle();
    bus.tryPublish({ type: 'a' });
    await settle();
    assert.deepEqual(
      bus.breakers().map(({ name, stats }) => [name, stats.state, stats.rejected]),
      [['db', 'open', 1]],
    );

    let calls = 0;
    const search = { service: 'search', deadLetters: false };
    bus.subscribe('s', () => (calls++, oops()), { ...search, name: 'one' });
    bus.subscribe('s', () => (calls++, oops()), { ...search, name: 'two' });
    for (let n = 0; n < 2; n++) bus.tryPublish({ type: 's' });
    await pass(100);
    assert.equal(bus.ledger().outcomes.rejectedByRateLimit, 2);
    assert.equal(calls, 4, 'two, each tried twice');
    assert.throws(() => bus.subscribe('x', oops, { service: 'nobody' }), SubscribeError);
  });
  const wrong = { concurrency: 0 };
  assert.throws(() => new EventBus({ services: { wrong } }), { setting: 'services.wrong' });
});

test('a refusal that nobody awaits is counted, and ends no process', async () => {
  await withBus({ capacity: 4, maxWaiting: 0 }, async (bus) => {
    const unhandled: unknown[] = [];
    const note = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', note);
    const bad = { type: '' };
    void bus.publish(bad);
    void bus.publishBatch([bad, bad]);
    void bus.session('s').publish(bad);
    for (let n = 0; n < 8; n++) void bus.publish(new Event({ type: 'x' }));
    await settle();
    process.off('unhandledRejection', note);
    assert.deepEqual(unhandled, []);
    assert.equal(bus.ledger().refused, 8);
    // Who awaits is told.
    await assert.rejects(bus.publish(bad), PublishError);
    await assert.rejects(bus.publishBatch([bad]), BatchError);
  });
});
