/** The choice between MessagePack and JSON, and what `metrics` tells of it. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import {
  calibrate,
  configurePick,
  decode,
  encode,
  metrics,
  Payload,
  pick,
  Picker,
  shapeOf,
} from 'swarmbus';

beforeEach(() => configurePick({}));

test('the quicker form is taken, JSON only by a margin', () => {
  const picker = new Picker({ margin: 2 });
  assert.equal(picker.pick(1000, 'records'), 'msgpack');
  picker.observe('msgpack', 1000, 'records', 1000);
  picker.observe('json', 1000, 'records', 600);
  assert.equal(picker.pick(1000, 'records'), 'msgpack');
  for (let turn = 0; turn < 20; turn++) picker.observe('json', 1000, 'records', 400);
  assert.equal(picker.pick(1000, 'records'), 'json');
  // Of other sizes and shapes nothing is known.
  assert.equal(picker.pick(100_000, 'records'), 'msgpack');
  assert.equal(picker.pick(1000, 'numbers'), 'msgpack');
});

test('a form may be fixed', () => {
  const picker = new Picker({ always: 'json' });
  assert.equal(picker.pick(10, 'numbers'), 'json');
  assert.equal(picker.isDue(10, 'numbers'), false);
  configurePick({ always: 'json' });
  assert.equal(pick(10, 'numbers'), 'json');
  const event = decode(encode({ type: 'a', payload: { a: 1 } }, { format: 'auto' }));
  assert.equal(event.content, 'json');
  assert.throws(() => new Picker({ margin: 0 }), RangeError);
});

test('what is measured is a ratio for each size and shape, and their mean', () => {
  const picker = new Picker();
  assert.deepEqual(picker.performance(), { write: undefined, read: undefined, classes: [] });
  picker.observe('msgpack', 500, 'records', 100);
  assert.deepEqual(picker.performance().classes, []);
  picker.observe('json', 500, 'records', 400);
  picker.observe('msgpack', 5000, 'numbers', 100);
  picker.observe('json', 5000, 'numbers', 900);
  picker.observeRead([2, 8]);
  const { write, read, classes } = picker.performance();
  assert.deepEqual(
    classes.map(({ shape, upTo, ratio }) => [shape, upTo, Math.round(ratio)]),
    [
      ['records', 512, 4],
      ['numbers', 32_768, 9],
    ],
  );
  assert.ok(Math.abs(write! - 6) < 1e-9 && Math.abs(read! - 4) < 1e-9);
});

test('calibration measures all, and counts as nothing', () => {
  const before = metrics();
  assert.deepEqual(before.performance, { write: undefined, read: undefined, classes: [] });
  calibrate(30);
  const { performance, encoded, decoded, shares } = metrics();
  assert.deepEqual({ encoded, decoded, shares }, pickCounts(before));
  assert.ok(performance.classes.length >= 12);
  // How large they are is for benches: other programs may run.
  assert.ok(performance.classes.every(({ ratio }) => ratio > 0));
  assert.ok(performance.write! > 0 && performance.read! > 0);
});

test('the format auto measures what it writes', () => {
  for (let turn = 0; turn < 3; turn++) {
    encode({ type: 'a', payload: { a: 1, b: 'x' } }, { format: 'auto' });
  }
  assert.deepEqual(
    metrics().performance.classes.map(({ shape }) => shape),
    ['records'],
  );
});

test('shares are parts of all that was decoded', () => {
  const before = metrics().decoded;
  decode(encode({ type: 'a', payload: { a: 1 } }));
  decode(encode({ type: 'a', payload: Payload.json({ a: 1 }) }));
  const { decoded, shares } = metrics();
  assert.equal(decoded.json, before.json + 1);
  assert.equal(decoded.wasm + decoded.js, before.wasm + before.js + 1);
  const all = decoded.wasm + decoded.js + decoded.json + decoded.other;
  assert.ok(Math.abs(shares.json - decoded.json / all) < 1e-9);
  assert.ok(shares.wasm + shares.js + shares.json <= 1 + 1e-9);
});

test('a shape is told by a glance', () => {
  assert.equal(shapeOf({ a: 1 }), 'records');
  assert.equal(shapeOf([1, 2]), 'numbers');
  assert.equal(shapeOf({ list: Array.from({ length: 20 }, Number) }), 'numbers');
  assert.equal(shapeOf('x'), 'text');
  assert.equal(shapeOf({ a: 'x'.repeat(300) }), 'text');
  const keys = Array.from({ length: 65 }, (_, n) => [`k${n}`, n]);
  assert.equal(shapeOf(Object.fromEntries(keys)), 'dictionary');
});

function pickCounts({ encoded, decoded, shares }: ReturnType<typeof metrics>): object {
  return { encoded, decoded, shares };
}
