/** Schedules, in invented time. */

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import { type Event, ScheduleError } from 'swarmbus';

import { pass, settle, stopTime, withBus } from './support.js';

test.beforeEach(() => stopTime());
test.afterEach(() => mock.reset());

/** What came, and when it was due, from the beginning on. */
function firings(): { note: (event: Event) => void; taken: () => [string, number][] } {
  const start = Date.now();
  let seen: [string, number][] = [];
  const note = ({ attributes }: Event): void => {
    seen.push([
      String(attributes['schedule']),
      Date.parse(attributes['scheduledat'] ?? '') - start,
    ]);
  };
  return {
    note,
    taken: () => {
      const all = seen;
      seen = [];
      return all;
    },
  };
}

test('once at a time, once after one, and again and again without drift', async () => {
  await withBus({}, async (bus) => {
    const { note, taken } = firings();
    bus.subscribe('x', note);
    const start = Date.now();
    bus.schedule({ type: 'x' }, { at: new Date(start + 12_000), name: 'at' });
    const id = bus.schedule({ type: 'x' }, { after: 30 });
    bus.schedule({ type: 'x' }, { every: 10_000, name: 'every' });
    assert.deepEqual(
      bus.schedules.list().map(({ id, next }) => [id, next - start]),
      [
        [id, 30],
        ['every', 10_000],
        ['at', 12_000],
      ],
    );
    await pass(29);
    assert.deepEqual(taken(), []);
    await pass(25_000);
    assert.deepEqual(taken(), [
      [id, 30],
      ['every', 10_000],
      ['at', 12_000],
      ['every', 20_000],
    ]);
    assert.deepEqual(
      bus.schedules.list().map(({ id }) => id),
      ['every'],
    );
    assert.ok(bus.schedules.cancel('every'));
    assert.ok(!bus.schedules.cancel('every'));
    await pass(25_000);
    assert.deepEqual(taken(), []);
    assert.deepEqual(bus.schedules.stats(), { fired: 4, missed: 0, refused: 0 });
  });
});

test('times that pass while the process stands still are missed as the schedule says', async () => {
  let ahead = 0;
  await withBus({ now: () => performance.now() + ahead }, async (bus) => {
    const { note, taken } = firings();
    bus.subscribe('x', note);
    bus.schedule({ type: 'x' }, { every: 100_000, name: 'once' });
    bus.schedule({ type: 'x' }, { every: 100_000, name: 'skip', missed: 'skip' });
    bus.schedule({ type: 'x' }, { every: 100_000, name: 'all', missed: { fireAll: 2 } });
    // Only this clock jumps: by the other one, all was due so much earlier.
    await pass(99_990);
    ahead = 280_000;
    await pass(20);
    const inSeconds = taken().map(([id, due]) => `${id} ${Math.round(due / 1_000)}`);
    assert.deepEqual(inSeconds.sort(), ['all -80', 'all 20', 'once 20']);
    await pass(21_000);
    assert.deepEqual(
      taken()
        .map(([id]) => id)
        .sort(),
      ['all', 'once', 'skip'],
    );
    assert.equal(bus.schedules.stats().missed, 9);
  });
});

test('a name that is there goes on, unless its plan is another', async () => {
  await withBus({ maxSchedules: 1 }, async (bus) => {
    const { note, taken } = firings();
    bus.subscribe('x', note);
    bus.schedule({ type: 'x' }, { every: 100, name: 'n' });
    await pass(60);
    bus.schedule({ type: 'x' }, { every: 100, name: 'n' });
    await pass(60);
    assert.deepEqual(taken(), [['n', 100]]);
    bus.schedule({ type: 'x' }, { every: 50, name: 'n' });
    await pass(60);
    assert.deepEqual(taken(), [['n', 170]]);

    const refused = (make: () => unknown, code: string): void =>
      assert.throws(make, (error) => error instanceof ScheduleError && error.code === code);
    refused(() => bus.schedule({ type: 'x' }, { after: 1 }), 'too_many');
    refused(() => bus.schedule({ type: 'x' }, { every: 0 }), 'plan');
    refused(() => bus.schedule({ type: 'x' }, { after: NaN }), 'plan');
    refused(() => bus.schedule({ type: 'x' }, { after: 1, name: '' }), 'name');
    refused(() => bus.schedule({ type: '' }, { after: 1, name: 'n' }), 'event');
    const missed = { fireAll: 0 };
    refused(() => bus.schedule({ type: 'x' }, { after: 1, name: 'n', missed }), 'fire_all_limit');
    await bus.close();
    refused(() => bus.schedule({ type: 'x' }, { after: 1 }), 'closed');
    await pass(1_000);
    assert.deepEqual(taken(), []);
  });
});

test('what a handler schedules waits for room as anybody else', async () => {
  await withBus({ capacity: 1, workers: 1 }, async (bus) => {
    let done = (): void => undefined;
    bus.subscribe('slow', () => new Promise<void>((resolve) => (done = resolve)));
    bus.subscribe('start', async () => {
      await Promise.resolve();
      bus.schedule({ type: 'late' }, { after: 10 });
    });
    await bus.publish({ type: 'start' });
    await pass(1);
    bus.tryPublish({ type: 'slow' });
    await settle();
    bus.tryPublish({ type: 'other' });
    await pass(100);
    assert.equal(bus.schedules.stats().fired, 0);
    done();
    await pass(10);
    assert.deepEqual(bus.schedules.stats(), { fired: 1, missed: 0, refused: 0 });
  });
});
