/** Frames that are written event by event. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { decodeBatch, EncodeError, encodeBatch, type EventInit, FrameWriter } from 'swarmbus';

const events: EventInit[] = [
  { type: 'task.done', source: 'a', payload: { id: 7, tags: ['x', 'y'] } },
  { type: 'note', payload: 'text' },
  { type: 'task.done', priority: 9, payload: new Uint8Array(9_000).fill(3) },
  { type: 'empty', hops: ['a', 'b'], attributes: { k: 'v' } },
];

test('the bytes are those of a batch, with the room before them that was asked for', () => {
  for (const headroom of [0, 32]) {
    const writer = new FrameWriter(headroom, 1);
    const lengths = events.map((event) => writer.add(event));
    const expected = encodeBatch(events);
    assert.equal(writer.count, events.length);
    assert.equal(writer.length, expected.length);
    assert.equal(16 + lengths.reduce((sum, length) => sum + length, 0), expected.length);
    assert.deepEqual(Buffer.from(writer.finish().subarray(headroom)), Buffer.from(expected));
  }
});

test('an event that cannot be written, or is taken back, leaves no trace', () => {
  const writer = new FrameWriter();
  writer.add(events[0] as EventInit);
  for (const bad of [{ type: '' }, { type: 'x', payload: () => 1 }, { type: 'x', priority: 11 }]) {
    assert.throws(() => writer.add(bad), EncodeError);
  }
  const length = writer.length;
  writer.add({ type: 'x', payload: 'y'.repeat(5_000) });
  writer.undo();
  writer.undo();
  assert.deepEqual([writer.count, writer.length], [1, length]);
  writer.add(events[1] as EventInit);
  assert.deepEqual(Buffer.from(writer.finish()), Buffer.from(encodeBatch(events.slice(0, 2))));
});

test('a frame ends at its limit', () => {
  const writer = new FrameWriter();
  const event = { type: 'x', payload: new Uint8Array(7 << 20) };
  writer.add(event);
  writer.add(event);
  assert.throws(() => writer.add(event), { name: 'EncodeError', code: 'frame_too_long' });
  assert.equal(decodeBatch(writer.finish()).length, 2);
});
