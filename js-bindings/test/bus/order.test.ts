import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Event } from 'swarmbus';

import { Hand, forSeeds, settle, withBus } from './support.js';

const SHARE = [8, 8, 8, 16, 16, 16, 32, 32, 64, 64];

test('patterns want what they say', async () => {
  const types = ['task', 'task.created', 'task.a.b', 'agent.7.inbox', 'agent.7.a.b', 'agent.7'];
  const wants: [string | RegExp, string[]][] = [
    ['task.created', ['task.created']],
    ['task.*', ['task.created']],
    ['task.>', ['task.created', 'task.a.b']],
    ['agent.7.>', ['agent.7.inbox', 'agent.7.a.b']],
    ['*.7.*', ['agent.7.inbox']],
    ['>', types],
    [/task\.(created|deleted)/, ['task.created']],
    [/TASK/i, ['task']],
    ['/agent.*/', ['agent.7.inbox', 'agent.7.a.b', 'agent.7']],
  ];
  await withBus({}, async (bus) => {
    const seen = wants.map(() => [] as string[]);
    wants.forEach(([pattern], i) => {
      bus.subscribe(pattern, ({ type }) => void seen[i]?.push(type));
    });
    for (const type of types) bus.tryPublish({ type });
    await bus.drain();
    assert.deepEqual(
      seen,
      wants.map(([, types]) => types),
    );
  });
});

test('handlers are called by priority, then by age', async () => {
  await withBus({}, async (bus) => {
    const seen: string[] = [];
    const add = (name: string, priority: number): void => {
      bus.subscribe('a.*', () => void seen.push(name), { priority });
    };
    add('first', 0);
    add('late', -1);
    add('early', 7);
    add('second', 0);
    await bus.publish({ type: 'a.b' });
    await bus.drain();
    assert.deepEqual(seen, ['early', 'first', 'second', 'late']);
  });
});

test('events that wait are taken by the fairness rule, whatever comes and goes', async () => {
  await forSeeds(30, async (random) => {
    await withBus({ workers: 1 }, async (bus) => {
      const hand = new Hand();
      bus.subscribe('x', hand.handle);
      const model = new Model();
      const expected: number[] = [];
      let number = 0;
      for (let step = 0; step < 150; step++) {
        if (random.below(5) < 2) {
          for (let n = random.below(12); n > 0; n--) {
            const priority = random.below(10);
            number++;
            bus.tryPublish({ type: 'x', priority, payload: number, source: `s${random.below(3)}` });
            model.add(priority, number);
          }
          await settleOnce();
        } else if (hand.calls.length > 0) {
          hand.calls.shift()?.done();
          await settleOnce();
        }
        // One is in the worker's hands if any waits.
        while (expected.length < hand.seen.length) expected.push(model.take());
        assert.deepEqual(hand.seen, expected);
      }
      await hand.all();
      while (expected.length < number) expected.push(model.take());
      assert.deepEqual(hand.seen, expected);
    });
  });
});

/** One worker needs no more than that. */
async function settleOnce(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** The fairness rule, one event at a time, as its documentation says it. */
class Model {
  #waiting: [priority: number, number: number][] = [];
  #taken = SHARE.map(() => 0);

  add(priority: number, number: number): void {
    this.#waiting.push([priority, number]);
  }

  take(): number {
    const priorities = [...new Set(this.#waiting.map(([priority]) => priority))];
    priorities.sort((a, b) => b - a);
    const hasShare = (p: number): boolean => (this.#taken[p] ?? 0) < (SHARE[p] ?? 0);
    let priority = priorities.find(hasShare);
    if (priority === undefined) {
      this.#taken.fill(0);
      priority = priorities[0] as number;
    }
    if (priorities.length === 1) this.#taken.fill(0);
    else this.#taken[priority] = (this.#taken[priority] ?? 0) + 1;
    const at = this.#waiting.findIndex(([p]) => p === priority);
    const [[, number]] = this.#waiting.splice(at, 1) as [[number, number]];
    return number;
  }
}

test('a source waits for its own handlers and for no others', async () => {
  await withBus({}, async (bus) => {
    const hand = new Hand();
    bus.subscribe('x', hand.handle);
    for (const payload of ['a1', 'b1', 'a2', 'b2', 'a3']) {
      bus.tryPublish({ type: 'x', source: payload.charAt(0), payload });
    }
    await settle();
    assert.deepEqual(hand.seen, ['a1', 'b1']);
    hand.calls.shift()?.done();
    await settle();
    assert.deepEqual(hand.seen, ['a1', 'b1', 'a2']);
    await hand.all();
    assert.deepEqual(
      hand.seen.filter((p) => String(p).startsWith('a')),
      ['a1', 'a2', 'a3'],
    );
  });
});

test('order within a source holds, however long handlers take', async () => {
  await forSeeds(20, async (random) => {
    await withBus({ workers: 1 + random.below(4) }, async (bus) => {
      const seen = new Map<string, number[]>();
      bus.subscribe('x', async ({ source, payload }) => {
        if (random.below(2) === 0) await turns(random.below(5));
        const list = seen.get(source) ?? [];
        seen.set(source, list);
        list.push(payload);
      });
      for (let i = 0; i < 300; i++) {
        await bus.publish({ type: 'x', source: `s${random.below(5)}`, payload: i });
        if (random.below(10) === 0) await turns(1);
      }
      await bus.drain();
      for (const list of seen.values()) {
        assert.deepEqual(
          list,
          [...list].sort((a, b) => a - b),
        );
      }
    });
  });
});

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

test('unsubscribed in the middle of an event, a handler is not called', async () => {
  await withBus({}, async (bus) => {
    const seen: string[] = [];
    bus.subscribe('x', () => {
      seen.push('first');
      second.unsubscribe();
      second.unsubscribe();
    });
    const second = bus.subscribe('x', () => void seen.push('second'));
    bus.subscribe('x', () => {
      seen.push('third');
      // One that comes now sees the next event.
      bus.subscribe('x', () => void seen.push('late'));
    });
    await bus.publish({ type: 'x' });
    await bus.drain();
    assert.deepEqual(seen, ['first', 'third']);
    await bus.publish({ type: 'x' });
    await bus.drain();
    assert.deepEqual(seen, ['first', 'third', 'first', 'third', 'late']);
  });
});

test('a subscription ends by a signal or by `using`', async () => {
  await withBus({}, async (bus) => {
    let count = 0;
    const controller = new AbortController();
    bus.subscribe('x', () => count++, { signal: controller.signal });
    {
      using _once = bus.subscribe('x', () => (count += 10));
      await bus.publish({ type: 'x' });
      await bus.drain();
    }
    assert.equal(count, 11);
    await bus.publish({ type: 'x' });
    await bus.drain();
    assert.equal(count, 12);
    controller.abort();
    bus.subscribe('x', () => (count += 100), { signal: controller.signal });
    await bus.publish({ type: 'x' });
    await bus.drain();
    assert.equal(count, 12);
    assert.equal(bus.ledger().unmatched, 1);
  });
});

test('a dispatch runs here and now, and without a promise if it can', async () => {
  await withBus({}, async (bus) => {
    const seen: unknown[] = [];
    bus.subscribe('x', ({ payload }) => void seen.push(payload));
    assert.deepEqual(bus.dispatch({ type: 'x', payload: 1 }), { matched: 1, delivered: 1 });
    assert.deepEqual(seen, [1]);
    bus.subscribe('x', async () => {
      await Promise.resolve();
      throw new Error('no');
    });
    const delivery = bus.dispatch({ type: 'x', payload: 2 });
    assert.ok(delivery instanceof Promise);
    assert.deepEqual(await delivery, { matched: 2, delivered: 1 });
    assert.equal(bus.deadLetters.size, 1);
  });
});

test('what is published has a time and an id', async () => {
  await withBus({}, async (bus) => {
    const ids = new Set<unknown>();
    bus.subscribe('x', (event) => {
      assert.ok(event.isStamped);
      ids.add(event.id);
    });
    for (let i = 0; i < 100; i++) await bus.publish({ type: 'x' });
    await bus.drain();
    assert.equal(ids.size, 100);
  });
});

test('the time of an event is that of its publishing, give or take a few events', async (t) => {
  let clock = 1_000;
  t.mock.method(Date, 'now', () => clock);
  await withBus({}, (bus) => {
    const ids = new Set<unknown>();
    const late = (): number => {
      const event = Event.of({ type: 'x' });
      bus.tryPublish(event);
      ids.add(event.id);
      return clock - Number(event.timestamp) / 1_000;
    };
    for (let i = 0; i < 1_000; i++) assert.equal(late(), 0);
    // Those that follow fast ones share the clock's reading with them; slow ones have their own.
    for (let i = 0; i < 200; i++) {
      clock++;
      const by = late();
      assert.ok(i < 64 ? by < 64 : by === 0, `event ${i} is ${by} ms late`);
    }
    assert.equal(ids.size, 1_200);
  });
});
