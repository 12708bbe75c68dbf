import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import { Backoff, EventBus, liveHandles } from 'swarmbus';

import { Hand, balanced, pass, settle, stopTime, withBus } from './support.js';

test.beforeEach(() => stopTime());
test.afterEach(() => mock.reset());

test('a session sees its own events, before the bus', async () => {
  await withBus({}, async (bus) => {
    const seen: string[] = [];
    bus.subscribe('x', () => void seen.push('bus'), { priority: 9 });
    {
      using session = bus.session('s1');
      session.subscribe('x', () => void seen.push('session'));
      await session.publish({ type: 'x' });
      await bus.publish({ type: 'x', session: 's2' });
      await bus.publish({ type: 'x' });
      await bus.drain();
      assert.deepEqual(seen.splice(0), ['session', 'bus', 'bus', 'bus']);
    }
    await bus.publish({ type: 'x', session: 's1' });
    await bus.drain();
    assert.deepEqual(seen, ['bus']);
  });
});

test('the last handle of a session ends it', async () => {
  await withBus({}, async (bus) => {
    let count = 0;
    const [first, second] = [bus.session('s'), bus.session('s')];
    first.subscribe('x', () => count++);
    first.end();
    first.end();
    assert.throws(() => first.subscribe('x', () => 0), { code: 'ended' });
    await second.publish({ type: 'x' });
    await bus.drain();
    assert.equal(count, 1);
    second.end();
    const again = bus.session('s');
    await again.publish({ type: 'x' });
    await bus.drain();
    assert.equal(count, 1);
    again.end();
  });
});

test('there are so many handlers and sessions and no more', async () => {
  await withBus({ maxHandlers: 2 }, async (bus) => {
    for (let i = 0; i < 3; i++) {
      using session = bus.session('s');
      session.subscribe('x', () => 0);
      session.subscribe('x');
      assert.throws(() => bus.subscribe('x', () => 0), { code: 'too_many' });
    }
    const sessions = [bus.session('1'), bus.session('2')];
    assert.throws(() => bus.session('3'), { code: 'too_many' });
    for (const session of sessions) session.end();
  });
});

test('a command has one handler in each scope, and its result', async () => {
  await withBus({}, async (bus) => {
    const registered = bus.onCommand('add', ({ payload }) => payload[0] + payload[1]);
    assert.throws(() => bus.onCommand('add', () => 0), { code: 'taken' });
    assert.throws(() => bus.onCommand('a b', () => 0), { code: 'pattern' });
    assert.equal(await bus.execute({ type: 'add', payload: [2, 3] }), 5);

    const session = bus.session('s');
    session.onCommand('add', () => 'mine');
    assert.equal(await session.execute({ type: 'add' }), 'mine');
    session.end();
    assert.equal(await bus.execute({ type: 'add', payload: [1, 1], session: 's' }), 2);

    registered[Symbol.dispose]();
    await assert.rejects(bus.execute({ type: 'add' }), { code: 'no_handler', command: 'add' });
  });
});

test("a command's deadline limits the wait", async () => {
  await withBus({}, async (bus) => {
    const asked: unknown[] = [];
    bus.onCommand('slow', (_, { signal }) => {
      signal.addEventListener('abort', () => asked.push('stop'));
      return new Promise(() => 0);
    });
    const result = bus.execute({ type: 'slow', deadline: (Date.now() + 100) * 1_000 });
    const rejected = assert.rejects(result, { code: 'expired' });
    await pass(100);
    await rejected;
    assert.deepEqual(asked, ['stop']);
    await assert.rejects(bus.execute({ type: 'slow', deadline: 1 }), { code: 'expired' });
  });
});

test('commands and dispatches inside each other end at 64', async () => {
  await withBus({}, async (bus) => {
    let depth = 0;
    bus.onCommand('deep', async () => {
      depth++;
      await Promise.resolve();
      return bus.execute({ type: 'deep' });
    });
    const codes: unknown[] = [];
    await bus.execute({ type: 'deep' }).catch((error: unknown) => {
      for (let at = error; at instanceof Error; at = at.cause) {
        codes.push((at as { code?: unknown }).code);
      }
    });
    assert.equal(codes.at(-1), 'too_deep');
    assert.equal(depth, 64);

    let calls = 0;
    bus.subscribe('x', () => {
      calls++;
      return bus.dispatch({ type: 'x' });
    });
    await bus.dispatch({ type: 'x' });
    assert.equal(calls, 64);
    assert.match(String(bus.deadLetters.list()[0]?.error), /64 deep/);
  });
});

test('an iterator gets events one by one, and ends with its loop', async () => {
  await withBus<{ x: number }>({}, async (bus) => {
    const seen: number[] = [];
    const events = bus.subscribe('x', { buffer: 3, filter: ({ payload }) => payload !== 2 });
    for (let payload = 0; payload < 6; payload++) bus.tryPublish({ type: 'x', payload });
    await settle();
    assert.equal(bus.ledger().detached, 3);
    for await (const { payload } of events) {
      seen.push(payload);
      if (payload === 1) break;
    }
    assert.deepEqual(seen, [0, 1]);
    const { delivered, filtered, rejectedByBulkhead, cancelled } = bus.ledger().outcomes;
    assert.deepEqual([delivered, filtered, rejectedByBulkhead, cancelled], [2, 1, 2, 1]);
    assert.deepEqual(await events.next(), { done: true, value: undefined });
  });
});

test('an iterator waits for events, and ends by its signal and with the bus', async () => {
  const bus = new EventBus<{ x: number }>();
  const controller = new AbortController();
  const collect = async (signal?: AbortSignal): Promise<number[]> => {
    const seen: number[] = [];
    for await (const { payload } of bus.subscribe('x', { signal })) {
      seen.push(payload);
      // Its own events, while it has one in hand.
      if (payload < 3) await bus.publish({ type: 'x', payload: payload + 1 });
    }
    return seen;
  };
  const [one, other] = [collect(controller.signal), collect()];
  await bus.publish({ type: 'x', payload: 2 });
  await settle();
  controller.abort();
  assert.deepEqual(await one, [2, 3, 3]);
  assert.ok((await bus.close()).isClean);
  assert.deepEqual(await other, [2, 3, 3]);
  balanced(bus);
});

test('drain waits for all, and says what is left', async () => {
  await withBus({}, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    for (let i = 0; i < 3; i++) bus.tryPublish({ type: 'x' });
    const drained = bus.drain(1_000);
    await pass(1_000);
    assert.equal(await drained, 3);
    await hand.all();
    assert.equal(await bus.drain(), 0);
  });
});

test('a close lets handlers end, and cuts off what takes too long', async () => {
  const bus = new EventBus({ workers: 1 });
  const hand = new Hand();
  let aborted = 0;
  bus.subscribe('x', (event, { signal }) => {
    signal.addEventListener('abort', () => aborted++);
    return hand.handle(event);
  });
  bus.subscribe('x', () => 0, { name: 'after' });
  bus.subscribe('y', () => Promise.reject(new Error('no')), { retry: Backoff.fixed(60_000) });
  bus.subscribe('z', hand.handle, { concurrency: 1 });
  bus.onCommand('c', () => 0);
  bus.tryPublish({ type: 'y', source: 'y' });
  for (let i = 0; i < 2; i++) bus.tryPublish({ type: 'z', source: 'z' });
  await settle();
  for (let i = 0; i < 3; i++) bus.tryPublish({ type: 'x', payload: i });
  await settle();
  const closed = bus.close(1_000);
  await assert.rejects(bus.publish({ type: 'x' }), { code: 'closed' });
  assert.throws(() => bus.dispatch({ type: 'x' }), { code: 'closed' });
  assert.throws(() => bus.subscribe('x', () => 0), { code: 'ended' });
  assert.throws(() => bus.session('s'), { code: 'ended' });
  await assert.rejects(bus.execute({ type: 'c' }), { code: 'closed' });
  await pass(1_000);
  const report = await closed;
  assert.deepEqual(
    report.undelivered.map(({ payload }) => payload),
    [1, 2],
  );
  assert.equal(report.isClean, false);
  assert.equal(report.cutOff, 3);
  assert.equal(aborted, 1);
  balanced(bus);
  // Late results change nothing any more.
  await hand.all();
  balanced(bus);
  assert.equal(await bus.close(), report);
});

test('all linear memory goes back, whatever happened', async () => {
  const before = liveHandles();
  {
    await using bus = new EventBus({ overflow: 'adaptive_rate' });
    const hand = new Hand();
    bus.subscribe('a.*', () => 0).unsubscribe();
    const subscription = bus.subscribe('a.>', hand.handle, { retry: Backoff.RETRY });
    bus.subscribe('b', () => Promise.reject(new Error('no')), { breaker: 'handler' });
    bus.session('s').subscribe('a.b', hand.handle);
    bus.session('s').onCommand('c', () => 0);
    bus.onCommand('c', () => 0)[Symbol.dispose]();
    assert.throws(() => bus.subscribe('/(/', () => 0));
    assert.throws(() => new EventBus({ overflow: { policy: 'adaptive_rate', cut: 2 } }));
    for (const type of ['a.b', 'a.c', 'b']) bus.tryPublish({ type, session: 's' });
    await settle();
    subscription.unsubscribe();
    await hand.all();
    assert.ok(liveHandles() > before);
  }
  assert.equal(liveHandles(), before);
});

test('metrics have the names of Rust', async () => {
  await withBus({}, async (bus) => {
    bus.subscribe('x', ({ payload }) => {
      if (payload === 1) throw new Error('no');
    });
    for (const payload of [0, 1, 2]) bus.tryPublish({ type: 'x', payload });
    assert.equal(bus.metrics().queue_size, 3);
    await bus.drain();
    const metrics = bus.metrics();
    assert.deepEqual(
      [metrics.events_published_total, metrics.events_processed_total, metrics.events_failed_total],
      [3, 2, 1],
    );
    assert.equal(metrics.dead_letter_queue_size, 1);
    assert.equal(bus.peakDepth, 3);
    for (let i = 0; i < 128; i++) bus.tryPublish({ type: 'x' });
    await bus.drain();
    assert.equal(bus.metrics().event_processing_duration_seconds.count, 2);
  });
});
