/** A changed frame is what writing the changed event would have made. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  decodeBatch,
  encodeBatch,
  EncodeError,
  forward,
  peek,
  routeBatch,
  TypeTable,
  type Changes,
  type EventInit,
} from 'swarmbus';

const EVENTS: EventInit[] = [
  { type: 'a', payload: { n: 1 } },
  { type: 'task.created', target: 'agent:one', hops: ['edge'], payload: 'text', deadline: 5 },
  {
    type: 'état',
    source: 's',
    session: 'x',
    attributes: { tenant: 'y' },
    payload: new Uint8Array(5000),
  },
];

test('every change', () => {
  const all: Changes[] = [
    {},
    { priority: 0 },
    { priority: 9, hop: 'gateway-2' },
    { hop: 'é' },
    { target: 'swarm:blue' },
    { target: 'agent:' },
    { target: null },
    { deadline: 7 },
    { deadline: 2n ** 54n },
    { deadline: null },
    { target: 'agent:é' },
    { target: `swarm:${'x'.repeat(64)}` },
    { target: `agent:${'x'.repeat(65)}`, hop: 'y'.repeat(64) },
    // Shorter by one hop's length than `agent:one`, as long, and longer.
    { target: 'agent:', hop: 'ab' },
    { target: 'agent:t', hop: '' },
    { target: 'agent:planner', hop: 'gateway-2' },
    { target: null, hop: 'h' },
    { hops: [] },
    { hops: ['a', 'é', ''] },
    { hops: ['a'], hop: 'b', target: 'swarm:blue' },
    { priority: 3, deadline: 1, target: 'agent:two', hop: 'h' },
  ];
  for (const changes of all) {
    for (const events of [EVENTS, ...EVENTS.map((event) => [event])]) {
      const frame = encodeBatch(events);
      const kept = Buffer.from(frame);
      const changed = events.map((event) => ({
        ...event,
        priority: changes.priority ?? event.priority,
        target: changes.target === undefined ? event.target : (changes.target ?? undefined),
        deadline: changes.deadline === undefined ? event.deadline : (changes.deadline ?? undefined),
        hops: [
          ...(changes.hops ?? event.hops ?? []),
          ...(changes.hop === undefined ? [] : [changes.hop]),
        ],
      }));
      const passed = Buffer.from(forward(frame, changes));
      assert.deepEqual(passed, Buffer.from(encodeBatch(changed)));
      assert.equal(decodeBatch(passed).length, events.length);
      assert.deepEqual(Buffer.from(frame), kept);
    }
  }
});

test('what cannot be is refused', () => {
  const full = encodeBatch([{ type: 'a', hops: Array.from({ length: 64 }, () => 'h') }]);
  const refused = (frame: Uint8Array, changes: Changes, code: string) =>
    assert.throws(
      () => forward(frame, changes),
      (error) => error instanceof EncodeError && error.code === code,
    );
  refused(full, { hop: 'one more' }, 'too_many_hops');
  refused(full, { hops: Array.from({ length: 65 }, () => 'h') }, 'too_many_hops');
  refused(full, { hop: undefined, priority: 10 }, 'field');
  refused(full, { target: 'blue' as 'agent:' }, 'field');
  refused(full, { deadline: 0 }, 'field');
  assert.deepEqual(peek(forward(full, { hops: [], hop: 'h' })).hops, ['h']);
  const one = encodeBatch([{ type: 'a' }]);
  refused(one, { priority: 10 }, 'field');
  refused(one, { target: 'blue' as 'agent:' }, 'field');
  refused(one, { target: 'somebody' as 'agent:' }, 'field');
  refused(one, { deadline: 0 }, 'field');
  refused(one, { hop: 'x'.repeat(256) }, 'field_too_long');
  refused(one, { hops: ['x'.repeat(256)] }, 'field_too_long');
  refused(one, { hops: Array.from({ length: 65 }, () => 'h') }, 'too_many_hops');
  refused(one, { hops: 'edge' as never }, 'field');
  refused(one, { hops: [5 as never] }, 'field');
  refused(one, { hop: 5 as never }, 'field');
  refused(one, { hop: ['edge'] as never }, 'field');
  refused(one, { target: 5 as never }, 'field');
  refused(one, { target: ['agent:a'] as never }, 'field');
  refused(one, { target: `agent:${'x'.repeat(1025)}` }, 'field_too_long');
});

test('the quick way for one small event finds what the other finds', () => {
  const outcome = (frame: Uint8Array, changes: Changes, limits?: object): unknown => {
    try {
      return Buffer.from(forward(frame, changes, limits === undefined ? {} : { limits }));
    } catch (error) {
      return (error as { code?: string }).code;
    }
  };
  const good = Buffer.from(
    encodeBatch([
      {
        type: 'task.created',
        source: 'agent-1',
        target: 'swarm:blue',
        hops: ['edge'],
        timestamp: 2n ** 40n,
        attributes: { tenant: 'y' },
        payload: { n: 1 },
      },
    ]),
  );
  const changes: Changes[] = [
    {},
    { priority: 1 },
    { hop: 'gateway-2' },
    { priority: 9, hop: 'h' },
    { target: 'agent:a', hop: 'h' },
    { target: 'swarm:colours', deadline: 7 },
  ];
  for (let at = 0; at < 80; at++) {
    for (const value of [0, 1, 2, 4, 9, 10, 63, 64, 127, 128, 254, 255, good[at]!]) {
      const frame = Buffer.from(good);
      frame[at] = value;
      for (const change of changes) {
        // Limits of one's own, though they are the same, are not for the quick way.
        assert.deepEqual(outcome(frame, change), outcome(frame, change, {}), `${at}: ${value}`);
      }
    }
  }
  for (let length = 0; length <= good.length; length++) {
    const frame = good.subarray(0, length);
    assert.deepEqual(outcome(frame, { priority: 1 }), outcome(frame, { priority: 1 }, {}));
  }
});

test('a frame is routed by its headers, and a made-up hash fools nobody', () => {
  const table = new TypeTable();
  const types = Array.from({ length: 100 }, (_, n) => `type.${n}.x${'x'.repeat(n)}`);
  types.forEach((type, n) => table.set(type, n));
  table.set(types[7]!, 1007);
  const events = types.map((type, n) => ({ type, priority: n % 10, payload: [n] }));
  const frame = encodeBatch([...events, { type: 'unknown' }]);
  const [routes, priorities] = [new Int32Array(101), new Uint8Array(101)];
  assert.equal(routeBatch(frame, table, routes, priorities), 101);
  types.forEach((_, n) => {
    assert.equal(routes[n], n === 7 ? 1007 : n);
    assert.equal(priorities[n], n % 10);
  });
  assert.equal(routes[100], -1);

  const one = Buffer.from(encodeBatch([{ type: 'type.0.y' }]));
  new DataView(one.buffer, one.byteOffset).setUint32(
    24,
    peek(encodeBatch(events)).typeHashLow,
    true,
  );
  routeBatch(one, table, routes);
  assert.equal(routes[0], -1);
  assert.throws(() => routeBatch(frame, table, new Int32Array(5)), RangeError);
});
