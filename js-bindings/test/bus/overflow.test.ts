import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import { BatchError, EventBus, type Overflow, PublishError } from 'swarmbus';

import { Hand, type Random, forSeeds, pass, settle, stopTime, withBus } from './support.js';

interface Waiting {
  readonly priority: number;
  readonly number: number;
}

/** A queue that drops as its policy says, written down naively. */
class Model {
  readonly waiting: Waiting[] = [];
  readonly dropped: number[] = [];
  readonly refused: number[] = [];

  constructor(
    private readonly policy: Overflow,
    private readonly capacity: number,
  ) {}

  add(one: Waiting): void {
    if (this.waiting.length >= this.capacity && !this.#makeRoom(one.priority)) {
      this.refused.push(one.number);
    } else {
      this.waiting.push(one);
    }
  }

  #makeRoom(priority: number): boolean {
    if (this.policy === 'reject') return false;
    let victim = this.waiting[0] as Waiting;
    if (this.policy === 'drop_lowest_priority') {
      for (const one of this.waiting) if (one.priority < victim.priority) victim = one;
      if (victim.priority >= priority) return false;
    }
    this.waiting.splice(this.waiting.indexOf(victim), 1);
    this.dropped.push(victim.number);
    return true;
  }
}

for (const policy of ['reject', 'drop_oldest', 'drop_lowest_priority'] as const) {
  test(`${policy} does what a naive queue does`, async () => {
    await forSeeds(40, (random) => againstModel(policy, random));
  });
}

async function againstModel(overflow: Overflow, random: Random): Promise<void> {
  const capacity = 1 + random.below(12);
  await withBus<{ x: number }>({ workers: 3, capacity, overflow }, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    const model = new Model(overflow, capacity);
    const refused: number[] = [];
    const codes = new Set<string>();
    for (let number = 0; number < 200;) {
      for (let n = random.below(8); n > 0; n--) {
        const priority = random.below(10);
        number++;
        try {
          // Of the sources that are busy, events wait in another place.
          const source = `s${random.below(3)}`;
          bus.tryPublish({ type: 'x', priority, payload: number, source });
        } catch (error) {
          assert.ok(error instanceof PublishError);
          assert.equal(error.event.payload, number, 'it is handed back');
          codes.add(error.code);
          refused.push(number);
        }
        model.add({ priority, number });
      }
      assert.equal(bus.depth, model.waiting.length);
      await settle();
      if (random.below(2) === 0) hand.calls.splice(random.below(hand.calls.length), 1)[0]?.done();
      await settle();
      taken(model, hand);
    }
    await hand.all();
    taken(model, hand);
    assert.deepEqual(refused, model.refused);
    assert.deepEqual(model.waiting, [], 'all that was not dropped was handled');
    const { droppedOldest, droppedLowest } = bus.ledger().outcomes;
    assert.deepEqual(
      [droppedOldest, droppedLowest],
      [
        overflow === 'drop_oldest' ? model.dropped.length : 0,
        overflow === 'drop_lowest_priority' ? model.dropped.length : 0,
      ],
    );
    assert.equal(bus.ledger().refused, refused.length);
    const expected = overflow === 'reject' ? 'full' : 'outranked';
    assert.ok(
      [...codes].every((code) => code === expected),
      [...codes].join(),
    );
  });
}

/** Which events the worker takes is another test's matter: the model lets go of the same. */
function taken(model: Model, hand: Hand): void {
  for (const number of hand.seen.splice(0)) {
    const at = model.waiting.findIndex((one) => one.number === number);
    assert.ok(at >= 0, `${String(number)} was dropped, or handled twice`);
    model.waiting.splice(at, 1);
  }
}

test('lanes that have grown round their end know which event is the oldest', async () => {
  await withBus({ workers: 1, capacity: 100, overflow: 'drop_oldest' }, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    let number = 0;
    const publish = (count: number): void => {
      for (; count > 0; count--, number++) {
        bus.tryPublish({ type: 'x', priority: number % 3, payload: number });
      }
    };
    publish(30);
    await settle();
    for (let i = 0; i < 20; i++) await hand.next();
    const before = hand.seen.length;
    publish(300);
    await hand.all();
    const after = hand.seen.slice(before) as number[];
    assert.deepEqual(
      after.sort((a, b) => a - b),
      Array.from({ length: 100 }, (_, i) => number - 100 + i),
    );
  });
});

test('adaptive_rate slows publishers down before the queue is full, and lets go', async (t) => {
  stopTime();
  t.after(() => mock.reset());
  await withBus({ workers: 1, capacity: 100, overflow: 'adaptive_rate' }, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    const offer = (priority: number): string => {
      try {
        bus.tryPublish({ type: 'x', priority });
        return 'taken';
      } catch (error) {
        assert.ok(error instanceof PublishError);
        if (error.code === 'rate_limited') assert.ok((error.retryAfter ?? 0) > 0);
        return error.code;
      }
    };
    for (let i = 0; i < 81; i++) assert.equal(offer(5), 'taken');
    assert.equal(offer(5), 'rate_limited');
    assert.equal(offer(9), 'taken', 'urgent events are admitted');
    let published = false;
    const waiting = bus.publish({ type: 'x' }).then(() => (published = true));
    await settle();
    assert.equal(published, false, 'publish waits');
    await pass(5_000);
    await waiting;
    await hand.all();
    await pass(2_000);
    for (let i = 0; i < 79; i++) assert.equal(offer(5), 'taken');
    await settle();
    await hand.all();
  });
});

test('publish waits for room, first come, first served', async () => {
  await withBus({ workers: 1, capacity: 2 }, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    const order: number[] = [];
    for (let i = 0; i < 6; i++) {
      void bus.publish({ type: 'x', payload: i }).then(() => order.push(i));
    }
    await settle();
    assert.deepEqual(order, [0, 1, 2], 'one is handled, two wait');
    await hand.next();
    assert.deepEqual(order, [0, 1, 2, 3]);
    await hand.all();
    assert.deepEqual(hand.seen, [0, 1, 2, 3, 4, 5]);
  });
});

test('a publisher may stop waiting, and only so many may wait', async () => {
  await withBus({ workers: 1, capacity: 1, maxWaiting: 2 }, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    await bus.publish({ type: 'x' });
    await settle();
    await bus.publish({ type: 'x' });
    const controller = new AbortController();
    const event = { type: 'x', payload: 'mine' };
    const aborted = bus.publish(event, { signal: controller.signal });
    const waits = bus.publish({ type: 'x' });
    await assert.rejects(bus.publish({ type: 'x' }), { code: 'full' });
    controller.abort();
    await assert.rejects(aborted, (error) => {
      assert.ok(error instanceof PublishError);
      assert.equal(error.code, 'aborted');
      assert.equal(error.event, event);
      return true;
    });
    await hand.all();
    await waits;
    await hand.all();
    assert.equal(bus.ledger().refused, 2);
    assert.equal(hand.seen.includes('mine'), false);
  });
});

test('a batch keeps its order and hands the rest back', async () => {
  const bus = new EventBus<{ x: number }>({ workers: 1, capacity: 3 });
  const hand = new Hand();
  bus.subscribe('x', hand.handle);
  const batch = Array.from({ length: 10 }, (_, payload) => ({ type: 'x' as const, payload }));
  const published = bus.publishBatch(batch);
  await settle();
  await hand.next();
  const failed = assert.rejects(published, (error) => {
    assert.ok(error instanceof BatchError);
    assert.equal(error.code, 'closed');
    assert.deepEqual(error.rest, batch.slice(error.accepted));
    assert.equal(error.accepted, bus.ledger().published);
    return true;
  });
  const closed = bus.close();
  await settle();
  await hand.all();
  await failed;
  assert.ok((await closed).isClean);
  const { published: accepted, refused } = bus.ledger();
  assert.equal(accepted + refused, 10);
  assert.ok(bus.ledger().balances());
});

test('a handler that publishes and waits never waits for itself', async () => {
  for (const workers of [1, 2, 8]) {
    await withBus({ workers, capacity: 8 }, async (bus) => {
      let refused = 0;
      let published = 0;
      // Each causes two more: far beyond what there is room for.
      bus.subscribe('x', async ({ payload }) => {
        await Promise.resolve();
        for (let i = 0; i < 2 && payload > 0; i++) {
          try {
            await bus.publish({ type: 'x', source: `s${i}`, payload: payload - 1 });
            published++;
          } catch (error) {
            assert.ok(error instanceof PublishError);
            assert.equal(error.code, 'full');
            refused++;
          }
        }
      });
      // And one more of another kind: plain.
      bus.subscribe('x', ({ payload }) => {
        if (payload === 3) bus.publish({ type: 'y' }).catch(() => refused++);
      });
      await bus.publish({ type: 'x', payload: 8 });
      assert.equal(await bus.drain(60_000), 0);
      assert.ok(refused > 0 && published > 0);
    });
  }
});

test('nor does one that used to be plain when it waits for the first time', async () => {
  await withBus({ workers: 1, capacity: 1 }, async (bus) => {
    let outcome = '';
    bus.subscribe('x', ({ payload }) => {
      if (payload !== 'wait') return;
      return Promise.resolve().then(async () => {
        for (let i = 0; i < 4 && outcome === ''; i++) {
          await bus.publish({ type: 'y' }).catch((error: PublishError) => (outcome = error.code));
        }
      });
    });
    await bus.publish({ type: 'x' });
    await bus.drain();
    await bus.publish({ type: 'x', payload: 'wait' });
    assert.equal(await bus.drain(60_000), 0);
    assert.equal(outcome, 'full');
  });
});

test('water marks are told of, and a callback that throws stops nothing', async (t) => {
  const complaints = t.mock.method(console, 'error', () => undefined);
  const told: string[] = [];
  const settings = {
    workers: 1,
    capacity: 10,
    onHighWater: () => void told.push('high'),
    onLowWater: () => {
      told.push('low');
      throw new Error('in a callback');
    },
  };
  await withBus(settings, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    for (let i = 0; i < 9; i++) bus.tryPublish({ type: 'x' });
    assert.deepEqual(told, ['high']);
    assert.equal(bus.metrics().backpressure_active, 1);
    await settle();
    await hand.all();
    assert.deepEqual(told, ['high', 'low']);
    assert.equal(complaints.mock.callCount(), 1);
  });
});

test('events that wait for too long expire', async (t) => {
  stopTime();
  t.after(() => mock.reset());
  await withBus({ workers: 1, queueTtl: 1_000 }, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    for (const payload of [1, 2]) bus.tryPublish({ type: 'x', payload });
    await pass(600);
    bus.tryPublish({ type: 'x', payload: 3 });
    await pass(600);
    await hand.all();
    assert.deepEqual(hand.seen, [1, 3]);
    assert.equal(bus.ledger().outcomes.expired, 1);
  });
});

test('nonsense is refused', async () => {
  const bad = [
    { workers: 0 },
    { capacity: 1.5 },
    { waterMarks: { high: 0.5, low: 0.5 } },
    { queueTtl: 0 },
    { breaker: { consecutiveFailures: 0 } },
    { overflow: 'drop_all' as 'reject' },
    { overflow: { policy: 'adaptive_rate' as const, cut: 1 } },
  ];
  for (const settings of bad) assert.throws(() => new EventBus(settings), { code: 'setting' });
  await withBus({}, async (bus) => {
    for (const event of [
      { type: '' },
      { type: 'a..b' },
      { type: 'a.*' },
      { type: 'x', priority: 10 },
      ...([undefined, null, 5, {}] as never[]),
    ]) {
      await assert.rejects(bus.publish(event), { code: 'invalid' });
      assert.throws(() => bus.tryPublish(event), { code: 'invalid', event });
      assert.throws(() => bus.dispatch(event), { code: 'invalid' });
      const [first, rest] = [{ type: 'x' }, [event, { type: 'x' }]];
      const text = /^1 events were published, then: (an event type|a priority)/;
      const refused = { accepted: 1, code: 'invalid', rest, message: text };
      await assert.rejects(bus.publishBatch([first, ...rest]), refused);
      assert.throws(() => bus.schedule(event, { after: 1 }), { code: 'event' });
      if (event?.type !== 'x') await assert.rejects(bus.execute(event), { code: 'no_handler' });
    }
    assert.throws(() => bus.schedule({ type: 'x' }, undefined as never), { code: 'plan' });
    for (const pattern of [undefined, 5, {}] as never[]) {
      assert.throws(() => bus.subscribe(pattern, () => 0), { code: 'pattern', message: /string/ });
    }
    for (const pattern of ['', 'a..b', 'a.>.b', 'a.b*', '/(/']) {
      assert.throws(() => bus.subscribe(pattern, () => 0), { code: 'pattern' });
    }
    const options = [
      { timeout: 0 },
      { retryIf: () => true },
      { concurrency: 0 },
      { breaker: 'off' as const, breakerConfig: {} },
      { loopGuard: { maxVisits: 0 } },
      { breakerConfig: { probes: 0 } },
    ];
    for (const nonsense of options) {
      assert.throws(() => bus.subscribe('x', () => 0, nonsense), { code: 'setting' });
    }
  });
});
