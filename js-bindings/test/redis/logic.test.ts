/** What the transport decides, without a server, against naive models and random input. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Channel, encodeBatch, Event } from '../../src/index.js';

import { HEADROOM } from '../../src/redis/carrier.js';
import { ENVELOPE_LEN, readEnvelope, writeEnvelope } from '../../src/redis/envelope.js';
import { Desk } from '../../src/redis/group/desk.js';
import { readNew } from '../../src/redis/group/scripts.js';
import { readLive } from '../../src/redis/live.js';
import { Numbers } from '../../src/redis/numbers.js';
import { Outbox, type Entry, type Lane, type RoomPolicy } from '../../src/redis/outbox.js';
import { pack } from '../../src/redis/pack.js';
import { wordAt } from '../../src/redis/words.js';
import { random } from '../support/random.js';

const WORD = (n: number): string => n.toString(16).padStart(16, '0');
const lane = (publisher: string): Lane => ({
  channel: Channel.live('a'),
  key: 'a',
  publisher,
  born: 0,
});

test('live events are delivered or missing, whatever is lost, repeated or cut', () => {
  for (let seed = 0; seed < 500; seed += 1) {
    const next = random(seed);
    const numbers = new Numbers();
    let [at, sum, end, start] = [1, 0, 0, 0];
    for (let n = 1 + next(50); n > 0; n -= 1) {
      const count = 1 + next(4);
      for (let times = [0, 1, 1, 2][next(4)] as number; times > 0; times -= 1) {
        const { gap, skip } = numbers.came('p', at, count, () => false);
        start ||= at;
        sum += (gap?.missed ?? 0) + count - skip;
        end = at + count;
      }
      at += count;
    }
    assert.equal(sum, end - Math.min(start || end, end), `seed ${seed}`);
  }
});

test('an envelope has the bytes that Rust writes', () => {
  const bytes = Buffer.alloc(ENVELOPE_LEN);
  const live = { kind: 'live', origin: WORD(7), first: 41, count: 2, age: 9 } as const;
  writeEnvelope(live, bytes);
  const expected =
    'c153575201010000' + '0700000000000000' + '2900000000000000' + '0200000009000000';
  assert.equal(bytes.toString('hex'), expected);
  assert.deepEqual(readEnvelope(Buffer.concat([bytes, Buffer.alloc(9)])), live);
  assert.equal(wordAt(bytes, 8), WORD(7));
  const bad: [number, number][] = [
    [0, 0],
    [4, 2],
    [5, 9],
    [6, 1],
    [16, 0],
    [23, 0xff],
    [24, 0],
  ];
  for (const [offset, value] of bad) {
    const other = Buffer.from(bytes);
    other[offset] = value;
    assert.equal(readEnvelope(other), undefined, `byte ${offset}`);
  }
  assert.equal(readEnvelope(bytes.subarray(0, 31)), undefined);
});

test('what cannot be read is a gap in its place', () => {
  const message = (first: number, texts: string[]): Buffer => {
    const frame = encodeBatch(texts.map((payload) => new Event({ type: 'x', payload })));
    const bytes = Buffer.alloc(ENVELOPE_LEN + frame.length);
    writeEnvelope({ kind: 'live', origin: WORD(1), first, count: texts.length, age: 0 }, bytes);
    bytes.set(frame, ENVELOPE_LEN);
    return bytes;
  };
  const numbers = new Numbers();
  const read = (bytes: Buffer): string[] => {
    const batch: Parameters<typeof readLive>[3] = [];
    readLive(bytes, numbers, performance.now(), batch);
    return batch.map((incoming) =>
      incoming.kind === 'gap'
        ? `-${incoming.missed} ${incoming.reason}`
        : String(incoming.event.payload),
    );
  };
  assert.deepEqual(read(message(1, ['1', '2'])), ['1', '2']);
  assert.deepEqual(read(message(2, ['2', '3'])), ['3']);
  assert.deepEqual(read(message(6, ['6'])), ['-2 lost', '6']);
  assert.deepEqual(read(Buffer.from('hello')), ['-undefined unreadable']);
  const cut = message(7, ['7', '8']);
  assert.deepEqual(read(cut.subarray(0, -1)), ['-2 unreadable']);
  const bad = message(9, ['a', 'b', 'c']);
  const record = (bad.length - 32 - 16) / 3;
  bad[32 + 16 + record + 6] = 77; // its priority
  assert.deepEqual(read(bad), ['a', '-1 unreadable', 'c']);
  const nowhere = message(12, ['a', 'b', 'c']);
  nowhere[32 + 16] = 3;
  assert.deepEqual(read(nowhere), ['-3 unreadable']);
  assert.deepEqual(read(message(15, ['15'])), ['15']);
  for (let seed = 0; seed < 2_000; seed += 1) {
    const next = random(seed);
    const bytes = message(16, ['1', '2']);
    for (let n = next(6); n > 0; n -= 1) bytes[next(bytes.length)] = next(256);
    readLive(bytes.subarray(0, next(bytes.length + 1)), new Numbers(), 0, []);
  }
});

test('the outbox does what a list does', () => {
  const [EVENTS, BYTES] = [8, 60];
  for (const policy of ['reject', 'drop_oldest', 'drop_lowest_priority'] as RoomPolicy[]) {
    for (let seed = 0; seed < 500; seed += 1) {
      const next = random(seed);
      const outbox = new Outbox(policy, EVENTS, BYTES);
      let model: Entry[] = [];
      const bytes = (): number => model.reduce((sum, { length }) => sum + length, 0);
      for (let number = 0; number < 80; number += 1) {
        if (next(3) === 0) {
          const [most, limit] = [next(5), next(60)];
          const expected: Entry[] = [];
          let sum = 0;
          while (expected.length < most && model[0] !== undefined) {
            sum += model[0].length;
            if (expected.length > 0 && sum > limit) break;
            expected.push(model.shift() as Entry);
          }
          assert.deepEqual(outbox.take(most, limit), expected);
        } else {
          const entry: Entry = {
            lane: lane('1'),
            frame: new Uint8Array(),
            length: 1 + next(79),
            count: 1,
            number,
            priority: next(10),
            ticket: 0,
          };
          const before = [...model];
          let dropped = 0;
          let refused = false;
          while (model.length > 0 && (model.length >= EVENTS || bytes() + entry.length > BYTES)) {
            const lowest = Math.min(...model.map(({ priority }) => priority));
            let victim = policy === 'drop_oldest' ? 0 : -1;
            if (policy === 'drop_lowest_priority' && lowest < entry.priority) {
              victim = model.findIndex(({ priority }) => priority === lowest);
            }
            if (victim < 0) {
              model = before;
              refused = true;
              break;
            }
            model.splice(victim, 1);
            dropped += 1;
          }
          if (!refused) model.push(entry);
          const offered = outbox.offer(entry);
          // An event that only part of the room would be made for must not cost anything.
          assert.equal(
            typeof offered === 'number' ? offered : 'refused',
            refused ? 'refused' : dropped,
            `seed ${seed}`,
          );
        }
        assert.deepEqual([outbox.length, outbox.bytes], [model.length, bytes()]);
        assert.equal(outbox.oldestTicket, model[0]?.ticket ?? outbox.nextTicket);
      }
    }
  }
});

test('an entry of the outbox takes more events while there is room', () => {
  const outbox = new Outbox('reject', 3, 60);
  const entry = { lane: lane('1'), frame: new Uint8Array(), length: 20, count: 1, number: 1 };
  const first: Entry = { ...entry, priority: 5, ticket: 0 };
  assert.equal(outbox.offer(first), 0);
  assert.ok(outbox.extend(first, 30));
  assert.deepEqual([outbox.length, outbox.bytes, first.count, first.length], [2, 50, 2, 50]);
  assert.ok(!outbox.extend(first, 11), 'bytes');
  assert.ok(outbox.extend(first, 10));
  assert.ok(!outbox.extend(first, 0), 'events');
  assert.deepEqual(outbox.take(9, 99), [first]);
  assert.deepEqual([outbox.length, outbox.bytes], [0, 0]);
});

test('a task that a server gives as new, and has given before, is marked', () => {
  const desk = new Desk(9);
  const deliveries = (life: number, numbers: number[]): number[] => {
    const id = (number: number): string => `${number}-${life * 2 ** 32 + 7}`;
    const tasks = numbers.map((number) => ({ id: id(number), deliveries: 1 }));
    desk.recognise(tasks);
    return tasks.map((task) => task.deliveries);
  };
  assert.deepEqual(deliveries(1, [1, 2, 5]), [1, 1, 1]);
  assert.deepEqual(deliveries(1, [4, 5, 6, 7]), [2, 2, 1, 1]);
  assert.deepEqual(deliveries(2, [1, 2]), [1, 1], 'of another life');
  desk.doubt(`4-${2 * 2 ** 32 + 9}`);
  assert.deepEqual(deliveries(2, [3, 4, 5]), [2, 2, 1], 'another server may have given them');

  const text = (words: string): Buffer => Buffer.from(words);
  const entry = (id: string, ...fields: string[]) => [text(id), fields.map(text)];
  const entries = [entry('1-1', 'e', 'x'), entry('2-1', 'e', 'y', 'lost', '3', 'again', '1')];
  const tasks = readNew([[text('tasks'), entries]]);
  assert.deepEqual(
    tasks.map((task) => [task.lost, task.deliveries]),
    [
      [0, 1],
      [3, 2],
    ],
  );
});

test('parcels are frames of the codec, in the order of their lanes', () => {
  const lanes = [lane('0'), lane('1'), lane('2')];
  for (let seed = 0; seed < 300; seed += 1) {
    const next = random(seed);
    const numbers = [0, 0, 0];
    const published: Event[][] = [[], [], []];
    const entries: Entry[] = [];
    const limits = { events: 1 + next(5), bytes: 1 + next(500), numbered: next(2) === 0 };
    for (let n = 1 + next(60); n > 0; n -= 1) {
      const at = next(3);
      const number = (numbers[at] as number) + 1 + next(2);
      // Some are published together.
      const count = 1 + next(Math.min(3, limits.events));
      const events = Array.from(
        { length: count },
        (_, n) => new Event({ type: 'x', payload: `${number + n}${' '.repeat(next(40))}` }),
      );
      numbers[at] = number + count - 1;
      const frame = encodeBatch(events);
      published[at]?.push(...events);
      entries.push({
        lane: lanes[at] as Lane,
        frame,
        length: frame.length - 16,
        count,
        number,
        priority: 5,
        ticket: entries.length,
      });
    }
    for (const parcel of pack(entries, limits)) {
      const events = published[Number(parcel.lane.publisher)]?.splice(0, parcel.count) ?? [];
      const first = Number.parseInt(String(events[0]?.payload), 10);
      assert.equal(parcel.first, first);
      const frame = parcel.message.subarray(HEADROOM);
      const one = entries.some(({ count, number }) => count === parcel.count && number === first);
      assert.ok(parcel.count <= limits.events && (one || frame.length <= limits.bytes));
      assert.deepEqual(frame, Buffer.from(encodeBatch(events)), `seed ${seed}`);
    }
    assert.deepEqual(published, [[], [], []]);
  }
});
