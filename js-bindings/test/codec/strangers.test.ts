/** What programs do that no compiler has checked, and those that take an event for a plain object. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';

import {
  decode,
  encode,
  encodeBatch,
  EncodeError,
  Event,
  forward,
  frameLength,
  peek,
  pick,
  type EventInit,
  type Shape,
} from 'swarmbus';

const INIT: EventInit = {
  type: 'task.created',
  source: 'agent-1',
  target: 'swarm:blue',
  timestamp: 1_700_000_000_000_000,
  nonce: 7n,
  hops: ['edge'],
  attributes: { tenant: 'y' },
  payload: { n: 1 },
};

test('an event and a look at one are written down with all they state', () => {
  const frame = encode(INIT);
  for (const event of [new Event(INIT), decode(frame), decode(frame, { lazy: true })]) {
    const written = JSON.parse(JSON.stringify(event)) as Record<string, unknown>;
    assert.deepEqual(written, {
      id: '018bcfe5-6800-7000-8000-000000000007',
      type: 'task.created',
      source: 'agent-1',
      target: 'swarm:blue',
      priority: 5,
      timestamp: 1_700_000_000_000_000,
      hops: ['edge'],
      attributes: { tenant: 'y' },
      payload: { n: 1 },
    });
    assert.doesNotMatch(inspect(event), /\bn\b/, 'a payload may hold secrets');
  }
  const view = peek(frame);
  const { payload, ...header } = JSON.parse(JSON.stringify(view)) as Record<string, unknown>;
  assert.deepEqual(payload, { content: 'msgpack', length: 4 });
  assert.deepEqual({ ...header, payload: { n: 1 } }, JSON.parse(JSON.stringify(decode(frame))));
  assert.match(inspect(view), /type: 'task.created'/);
  const late = new Event({ type: 'a', deadline: 2n ** 54n });
  assert.match(JSON.stringify(late), /"deadline":"18014398509481984"/);
});

test('a look at a broken header can still be shown', () => {
  const frame = encode({ type: 'abc', source: 's' });
  frame.fill(0xff, frame.length - 4);
  assert.match(inspect(peek(frame)), /DecodeError/);
});

test('a copy by spreading has the payload, and an id of its own', () => {
  const frame = encode(INIT);
  for (const event of [new Event(INIT), decode(frame), decode(frame, { lazy: true })]) {
    const copy = { ...event, type: 'other' } as EventInit;
    for (const made of [new Event(copy), decode(encode(copy))]) {
      assert.deepEqual(made.payload, { n: 1 });
      assert.deepEqual([made.type, made.source, made.id], ['other', 'agent-1', undefined]);
    }
    assert.equal(new Event({ ...copy, payload: undefined }).payload, undefined);
    assert.equal(decode(encode({ ...copy, payload: 'new' })).payload, 'new');
  }
});

test('bytes are a Uint8Array', () => {
  const frame = encode(INIT);
  const { buffer } = frame.slice();
  const others = [undefined, null, 5, 'a string of sixteen', {}, buffer, new DataView(buffer)];
  for (const other of [...others, new Uint32Array(buffer, 0, 8)] as never[]) {
    for (const read of [decode, peek, frameLength, (it: never) => forward(it, { priority: 1 })]) {
      assert.throws(() => read(other), { name: 'TypeError', message: /Uint8Array/ });
    }
  }
  assert.equal(decode(frame).type, 'task.created');
});

test('a cycle is a cycle in JSON too', () => {
  const loop: Record<string, unknown> = { list: [{ n: 1 }] };
  loop['list'] = [{ up: loop }];
  for (const format of ['msgpack', 'json', 'auto'] as const) {
    assert.throws(() => encode({ type: 'a', payload: loop }, { format }), { code: 'cyclic' });
  }
  const broken = { toJSON: () => assert.fail('on purpose') };
  const refused = { code: 'payload' };
  assert.throws(() => encode({ type: 'a', payload: broken }, { format: 'json' }), refused);
  assert.throws(() => encode({ type: 'a', payload: [1n] }, { format: 'json' }), refused);
});

test('what shares its parts without end is soon too long', () => {
  let value: unknown[] = [1];
  for (let i = 0; i < 60; i++) value = [value, value];
  const event = { type: 'a', payload: value };
  assert.throws(() => encode(event), { code: 'record_too_long' });
  const limits = { recordLen: 1 << 20, frameLen: 1 << 16 };
  assert.throws(() => encodeBatch([event], { limits }), { code: 'frame_too_long' });
  assert.throws(() => encode(event, { limits }), { code: 'frame_too_long' });
  // Room for three bytes a character is asked for before it is known what it takes.
  const text = 'x'.repeat((8 << 20) - 200);
  assert.equal(decode(encode({ type: 'a', payload: [text] })).type, 'a');
});

test('what is no target, shape or size is named', () => {
  const frame = encode(INIT);
  for (const target of ['agent-9', 5, null] as never[]) {
    const refused = (error: unknown): boolean =>
      error instanceof EncodeError && error.message.includes(String(target));
    assert.throws(() => encode({ type: 'a', target }), refused);
    if (target !== null) assert.throws(() => forward(frame, { target }), refused);
  }
  assert.throws(() => pick(200, 'object' as Shape), RangeError);
  assert.throws(() => pick(-1, 'text'), RangeError);
  assert.throws(() => pick(NaN, 'text'), RangeError);
});
