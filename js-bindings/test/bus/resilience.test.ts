import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import { Backoff, CommandError, HandlerTimeoutError, causedBy, Event } from 'swarmbus';

import { Hand, forSeeds, pass, settle, stopTime, withBus } from './support.js';

test.beforeEach(() => stopTime());
test.afterEach(() => mock.reset());

const oops = (): never => {
  throw new Error('oops');
};

test('a breaker opens for one handler and one type, and lets urgent events pass', async () => {
  await withBus({}, async (bus) => {
    let mended = false;
    let calls = 0;
    bus.subscribe('task.*', ({ type }: Event) => {
      calls++;
      if (type === 'task.bad' && !mended) oops();
    });
    bus.subscribe('task.bad', () => 0);
    for (let i = 0; i < 8; i++) bus.tryPublish({ type: 'task.bad' });
    bus.tryPublish({ type: 'task.good' });
    await bus.drain();
    bus.tryPublish({ type: 'task.bad', priority: 8 });
    await bus.drain();
    const { deadLettered, rejectedByBreaker, delivered } = bus.ledger().outcomes;
    assert.deepEqual([deadLettered, rejectedByBreaker, delivered], [6, 3, 10]);
    assert.equal(calls, 7);
    const open = bus.breakers().filter(({ stats }) => stats.state === 'open');
    assert.deepEqual(
      open.map(({ name, eventType, stats }) => [name, eventType, stats.rejected, stats.bypassed]),
      [['task.*', 'task.bad', 3, 1]],
    );

    mended = true;
    mock.timers.tick(30_000);
    for (let i = 0; i < 4; i++) bus.tryPublish({ type: 'task.bad' });
    await bus.drain();
    assert.equal(bus.ledger().outcomes.rejectedByBreaker, 3);
    assert.ok(bus.breakers().every(({ stats }) => stats.state === 'closed'));
  });
});

test('half-open lets three calls out at once', async () => {
  await withBus({}, async (bus) => {
    const hand = new Hand();
    let failing = true;
    bus.subscribe('x', (event) => (failing ? oops() : hand.handle(event)));
    for (let i = 0; i < 5; i++) bus.tryPublish({ type: 'x' });
    await bus.drain();
    failing = false;
    mock.timers.tick(30_000);
    for (let i = 0; i < 10; i++) bus.tryPublish({ type: 'x', source: `s${i}`, payload: i });
    await settle();
    assert.deepEqual(hand.seen, [0, 1, 2]);
    assert.equal(bus.ledger().outcomes.rejectedByBreaker, 7);
    await hand.all();
    assert.equal(bus.breakers()[0]?.stats.state, 'closed');
  });
});

test('a result of an earlier state does not count', async () => {
  await withBus({}, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    for (let i = 0; i < 10; i++) bus.tryPublish({ type: 'x', source: `s${i}` });
    await settle();
    for (let i = 0; i < 5; i++) hand.calls.shift()?.fail(new Error('no'));
    await settle();
    assert.equal(bus.breakers()[0]?.stats.state, 'open');
    mock.timers.tick(30_000);
    bus.tryPublish({ type: 'x' });
    await settle();
    // Half-open, and five calls from before end.
    for (let i = 0; i < 5; i++) hand.calls.shift()?.fail(new Error('late'));
    await settle();
    assert.equal(bus.breakers()[0]?.stats.state, 'half_open');
    await hand.all();
  });
});

test('the scope of a breaker is the type, the handler, or nothing', async () => {
  await withBus({ breaker: { consecutiveFailures: 2 } }, async (bus) => {
    bus.subscribe('a.*', oops, { name: 'all', breaker: 'handler' });
    bus.subscribe('a.*', oops, { name: 'none', breaker: 'off' });
    bus.subscribe('a.*', oops, { name: 'own', breakerConfig: { consecutiveFailures: 3 } });
    for (let i = 0; i < 6; i++) bus.tryPublish({ type: `a.${i % 3}` });
    await bus.drain();
    const rejected = bus
      .ledger()
      .handlers.map(({ name, outcomes }) => [name, outcomes.rejectedByBreaker]);
    assert.deepEqual(rejected, [
      ['all', 4],
      ['none', 0],
      ['own', 0],
    ]);
  });
});

test('a filter comes first, and one that throws is a failure', async () => {
  await withBus({}, async (bus) => {
    bus.subscribe('x', oops, { name: 'picky', filter: ({ payload }) => payload > 1 });
    bus.subscribe('x', () => 0, { name: 'broken', filter: oops });
    await bus.publish({ type: 'x', payload: 1 });
    await bus.drain();
    const { filtered, deadLettered } = bus.ledger().outcomes;
    assert.deepEqual([filtered, deadLettered], [1, 1]);
    assert.equal(bus.deadLetters.list()[0]?.handler, 'broken');
  });
});

test('what fails is tried again, later and later', async () => {
  await withBus({}, async (bus) => {
    const at: number[] = [];
    const start = Date.now();
    bus.subscribe(
      'x',
      () => {
        at.push(Date.now() - start);
        if (at.length < 4) oops();
      },
      { retry: Backoff.exponential(100) },
    );
    await bus.publish({ type: 'x' });
    await settle();
    assert.equal(bus.ledger().detached, 1);
    for (let i = 0; i < 71; i++) await pass(10);
    assert.deepEqual(at, [0, 100, 300, 700]);
    assert.equal(bus.metrics().event_retries_total, 3);
    assert.equal(bus.ledger().outcomes.delivered, 1);
  });
});

test('retries end with their number, their worth, their budget and the deadline', async () => {
  await withBus({}, async (bus) => {
    const retry = Backoff.fixed(100).with({ maxTries: 2 });
    const calls: Record<string, number> = {};
    const count = (name: string) => (): never => {
      calls[name] = (calls[name] ?? 0) + 1;
      return oops();
    };
    bus.subscribe('x', count('number'), { retry });
    bus.subscribe('x', count('worth'), { retry, retryIf: () => false });
    bus.subscribe('x', count('throws'), { retry, retryIf: oops });
    bus.subscribe('x', count('budget'), { retry, retryBudget: { percent: 1, perSecond: 0 } });
    bus.subscribe('y', count('deadline'), { retry });
    await bus.publish({ type: 'x' });
    await bus.publish({ type: 'y', deadline: (Date.now() + 150) * 1_000 });
    bus.subscribe('z', count('rule'), { retry: { maxTries: 2, delay: oops } });
    bus.subscribe('z', count('number'), { retry: { maxTries: 2, delay: () => NaN } });
    await bus.publish({ type: 'z' });
    await pass(1_000);
    assert.deepEqual(calls, { number: 4, worth: 1, throws: 1, budget: 1, deadline: 2, rule: 1 });
    const attempts = bus.deadLetters.list().map((letter) => letter.attempts);
    assert.deepEqual(attempts.sort(), [1, 1, 1, 1, 1, 2, 3]);
    assert.equal(bus.deadLetters.size, 7);
    assert.ok(bus.ledger().balances());
  });
});

test('an open breaker ends the tries', async () => {
  await withBus({ breaker: { consecutiveFailures: 2 } }, async (bus) => {
    let calls = 0;
    const retry = Backoff.fixed(10).with({ maxTries: 5 });
    bus.subscribe('x', () => (calls++, oops()), { retry });
    await bus.publish({ type: 'x' });
    await pass(1_000);
    assert.equal(calls, 2);
    // It is the failure that counts, not that the retry was refused.
    assert.equal(bus.deadLetters.list()[0]?.attempts, 2);
  });
});

test('a retry gives up its place, unless order matters', async () => {
  for (const inOrder of [false, true]) {
    await withBus({}, async (bus) => {
      const seen: number[] = [];
      let failed = false;
      bus.subscribe(
        'x',
        ({ payload }) => {
          if (payload === 1 && !failed) {
            failed = true;
            oops();
          }
          seen.push(payload);
        },
        { retry: Backoff.fixed(100), inOrder },
      );
      for (const payload of [1, 2]) bus.tryPublish({ type: 'x', payload });
      await pass(500);
      assert.deepEqual(seen, inOrder ? [1, 2] : [2, 1]);
    });
  }
});

test('a time limit asks, then gives up', async () => {
  await withBus({}, async (bus) => {
    const asked: [string, number][] = [];
    const start = Date.now();
    const until = (name: string, signal: AbortSignal): void =>
      signal.addEventListener('abort', () => asked.push([name, Date.now() - start]));
    bus.subscribe(
      'x',
      (event, { signal }) => {
        assert.ok(Number(event.deadline) <= (start + 1_000) * 1_000);
        until('deaf', signal);
        return new Promise(() => 0);
      },
      { name: 'deaf', timeout: 1_000 },
    );
    bus.subscribe(
      'x',
      (_, { signal }) =>
        new Promise((_, reject) => {
          until('listens', signal);
          signal.addEventListener('abort', () => reject(signal.reason as Error));
        }),
      { name: 'listens', timeout: 500 },
    );
    bus.subscribe('x', async () => Promise.resolve(), { name: 'quick', timeout: 1 });
    await bus.publish({ type: 'x' });
    for (let i = 0; i < 20; i++) await pass(100);
    assert.deepEqual(asked, [
      ['deaf', 1_000],
      ['listens', 1_600],
    ]);
    const letters = bus.deadLetters.list();
    assert.deepEqual(
      letters.map(({ handler, reason }) => [handler, reason]),
      [
        ['deaf', 'timed_out'],
        ['listens', 'timed_out'],
      ],
    );
    assert.ok(letters[0]?.error instanceof HandlerTimeoutError && letters[0].error.abandoned);
    assert.ok(letters[1]?.error instanceof HandlerTimeoutError && !letters[1].error.abandoned);
    const { handler_timeouts_total, handler_aborts_total } = bus.metrics();
    assert.deepEqual([handler_timeouts_total, handler_aborts_total], [2, 1]);
  });
});

test('a bulkhead lets so many in, so many wait, and turns the rest away', async () => {
  await withBus({}, async (bus) => {
    const hand = new Hand();
    const concurrency = { concurrent: 2, queue: 2, wait: 1_000 };
    bus.subscribe('x', hand.handle, { name: 'printer', concurrency });
    for (let payload = 0; payload < 6; payload++) bus.tryPublish({ type: 'x', payload });
    await settle();
    assert.deepEqual(hand.seen, [0, 1]);
    assert.equal(bus.ledger().outcomes.rejectedByBulkhead, 2);
    await hand.next();
    assert.deepEqual(hand.seen, [0, 1, 2], 'first come, first served');
    await pass(1_000);
    assert.equal(bus.ledger().outcomes.rejectedByBulkhead, 3);
    assert.deepEqual(bus.bulkheads(), [
      { name: 'printer', running: 2, waiting: 0, rejected: 2, timedOut: 1 },
    ]);
    await hand.all();
  });
});

test('nobody waits in a bulkhead beyond the deadline, nor once it has unsubscribed', async () => {
  await withBus({}, async (bus) => {
    const hand = new Hand();
    const subscription = bus.subscribe('x', hand.handle, { concurrency: 1 });
    bus.tryPublish({ type: 'x' });
    bus.tryPublish({ type: 'x', deadline: (Date.now() + 500) * 1_000 });
    bus.tryPublish({ type: 'x' });
    await pass(500);
    subscription.unsubscribe();
    await hand.all();
    assert.equal(hand.seen.length, 1);
    const { delivered, expired, cancelled } = bus.ledger().outcomes;
    assert.deepEqual([delivered, expired, cancelled], [1, 1, 1]);
  });
});

test('more than may be detached hold their worker', async () => {
  await withBus({ detachedCalls: 1, capacity: 1 }, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle, { concurrency: 10 });
    const published: number[] = [];
    for (let i = 0; i < 5; i++) {
      void bus.publish({ type: 'x', payload: i }).then(() => published.push(i));
      await settle();
    }
    assert.deepEqual(published, [0, 1, 2]);
    await hand.all();
  });
});

test('an event that came too late expires', async () => {
  await withBus({ workers: 1 }, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    bus.tryPublish({ type: 'x', payload: 'now' });
    bus.tryPublish({ type: 'x', payload: 'late', deadline: (Date.now() + 100) * 1_000 });
    await settle();
    await pass(100);
    await hand.all();
    assert.deepEqual(hand.seen, ['now']);
    assert.equal(bus.ledger().outcomes.expired, 1);
  });
});

test('events that come back are cut', async () => {
  await withBus({}, async (bus) => {
    const answer = (by: string) => (event: Event) =>
      bus.publish(causedBy({ type: 'said' }, event, by));
    bus.subscribe('said', answer('a'), { name: 'a' });
    bus.subscribe('said', answer('b'), { name: 'b', loopGuard: { maxVisits: 2 } });
    await bus.publish({ type: 'said' });
    await bus.drain();
    assert.ok(bus.ledger().outcomes.looped > 0);
  });
});

test('what an event carries goes on to what it causes', () => {
  const cause = new Event({
    type: 'a',
    id: 'one',
    session: 's',
    deadline: 2_000_000,
    hops: ['first'],
    attributes: { budget: '3' },
  });
  const effect = causedBy({ type: 'b', deadline: 3_000_000 }, cause, 'second', 2);
  assert.deepEqual(
    [effect.causationId, effect.correlationId, effect.session, effect.deadline],
    ['one', 'one', 's', 2_000_000],
  );
  assert.deepEqual(effect.hops, ['first', 'second']);
  assert.equal(effect.attributes['budget'], '1');
  assert.throws(() => causedBy({ type: 'c' }, effect, 'third', 2), { code: 'budget_spent' });
  assert.throws(() => causedBy({ type: 'c' }, effect, ''), { code: 'place_name' });
  const long = new Event({ type: 'a', hops: Array.from({ length: 64 }, String) });
  assert.throws(() => causedBy({ type: 'b' }, long, 'x'), { code: 'too_many_hops' });
});

test('dead letters are listed, retried, purged and bounded', async () => {
  await withBus({ deadLetterCapacity: 3 }, async (bus) => {
    let mended = false;
    const handler = (): void => void (mended || oops());
    const first = bus.subscribe('x', handler, { name: 'h', breaker: 'off' });
    bus.subscribe('y', oops, { deadLetters: false });
    for (let payload = 0; payload < 5; payload++) bus.tryPublish({ type: 'x', payload });
    bus.tryPublish({ type: 'y' });
    await bus.drain();
    const ids = (): number[] => bus.deadLetters.list().map(({ id }) => id);
    assert.deepEqual(ids(), [3, 4, 5]);
    assert.equal(bus.deadLetters.evicted, 2);
    assert.equal(bus.ledger().outcomes.failed, 1);

    await assert.rejects(bus.deadLetters.retry(4), {
      code: 'not_delivered',
      outcome: 'deadLettered',
    });
    assert.equal(bus.deadLetters.get(4)?.attempts, 2);
    await assert.rejects(bus.deadLetters.retry(1), { code: 'not_found' });
    assert.equal(bus.deadLetters.purge({ where: ({ id }) => id === 5 }), 1);

    // Mended and subscribed anew, it gets its letters.
    first.unsubscribe();
    await assert.rejects(bus.deadLetters.retry(3), { code: 'handler_gone' });
    mended = true;
    bus.subscribe('x', handler, { name: 'h' });
    const { delivered, left } = await bus.deadLetters.retryAll({ handler: 'h' });
    assert.deepEqual([delivered, left], [2, []]);
    assert.equal(bus.deadLetters.size, 0);
  });
});

test('a letter is retried by one at a time', async () => {
  await withBus({}, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    await bus.publish({ type: 'x' });
    await settle();
    hand.calls.shift()?.fail(new Error('no'));
    await settle();
    const retried = bus.deadLetters.retry(1);
    await assert.rejects(bus.deadLetters.retry(1), { code: 'busy' });
    await hand.all();
    await retried;
    assert.equal(bus.deadLetters.size, 0);
  });
});

test('whatever a handler throws or returns, the bus goes on', async () => {
  await withBus({}, async (bus) => {
    const strange = [
      () => Promise.reject(new Error('no')),
      () => Object.create(null) as unknown,
      () => ({ then: 7 }),
      () => ({ then: (_: unknown, fail: (e: unknown) => void) => fail('thenable') }),
      () => ({
        get then(): never {
          throw new Error('getter');
        },
      }),
      () => {
        throw undefined;
      },
      () => {
        throw {
          get message(): never {
            throw new Error('no message');
          },
        };
      },
      () => new Proxy({}, { get: oops }),
    ];
    for (const handler of strange) bus.subscribe('x', handler);
    bus.tryPublish({ type: 'x' });
    await bus.drain();
    assert.equal(bus.ledger().matches, strange.length);
    bus.tryPublish({ type: 'x' });
  });
});

test('a rejected command names its type and when to try again', async () => {
  await withBus({}, async (bus) => {
    bus.onCommand('charge', oops);
    for (let i = 0; i < 5; i++) {
      await assert.rejects(bus.execute({ type: 'charge' }), { code: 'failed' });
    }
    await assert.rejects(bus.execute({ type: 'charge' }), (error) => {
      assert.ok(error instanceof CommandError);
      assert.deepEqual(
        [error.code, error.command, error.retryAfter],
        ['rejected', 'charge', 30_000],
      );
      assert.match(error.message, /charge/);
      return true;
    });
    await assert.rejects(bus.execute({ type: 'charge', priority: 9 }), { code: 'failed' });
  });
});

test('everything at once balances', async () => {
  await forSeeds(12, async (random) => {
    const overflow = random.pick(['reject', 'drop_oldest', 'drop_lowest_priority'] as const);
    const settings = {
      workers: 1 + random.below(6),
      capacity: 20,
      overflow,
      deadLetterCapacity: 5,
    };
    await withBus(settings, async (bus) => {
      const handler = async (): Promise<void> => {
        const what = random.below(10);
        if (what === 0) oops();
        if (what < 4) return;
        if (what === 4) await bus.publish({ type: 'a.c' }).catch(() => 0);
        const never = random.below(20) === 0;
        await new Promise((resolve, reject) => {
          if (!never) setTimeout(random.below(4) === 0 ? reject : resolve, random.below(300));
        });
      };
      const live: (() => void)[] = [];
      const add = (): void => {
        const ended = new AbortController();
        const { signal } = ended;
        const subscription = bus.subscribe(random.pick(['a.b', 'a.*', '>', '/a.(b|c)/']), handler, {
          // Whatever never returns is given up.
          timeout: 100 + random.below(100),
          priority: random.below(3),
          filter: random.below(2) === 0 ? () => random.below(9) > 0 : undefined,
          retry: random.below(2) === 0 ? Backoff.exponential(20) : undefined,
          concurrency: random.below(2) === 0 ? { concurrent: 2, queue: 3, wait: 100 } : undefined,
          inOrder: random.below(3) === 0,
          breaker: random.pick(['type', 'handler', 'off'] as const),
          deadLetters: random.below(2) === 0,
          signal,
        });
        const byHand = random.below(2) === 0;
        live.push(byHand ? () => subscription.unsubscribe() : () => ended.abort());
      };
      for (let i = 0; i < 4; i++) add();
      for (let i = 0; i < 200; i++) {
        const event = {
          type: random.pick(['a.b', 'a.c', 'd']),
          source: `s${random.below(4)}`,
          priority: random.below(10),
          deadline: random.below(8) === 0 ? (Date.now() + random.below(500)) * 1_000 : undefined,
        };
        bus.publish(event).catch(() => 0);
        if (random.below(20) === 0) add();
        if (random.below(20) === 0) live.splice(random.below(live.length), 1)[0]?.();
        if (random.below(10) === 0) await pass(random.below(100));
      }
      const drained = bus.drain(10_000_000);
      let over = false;
      void drained.then(() => (over = true));
      while (!over) await pass(200);
      assert.equal(await drained, 0, 'all of it, before the limit');
    });
  });
});
