/** Delays are core's, and settings are checked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Backoff } from 'swarmbus';

test('the defaults are those of Rust', () => {
  const { first, growth, cap, jitter, maxTries } = Backoff.RETRY;
  assert.deepEqual(
    { first, growth, cap, jitter, maxTries },
    { first: 100, growth: 'exponential', cap: 10_000, jitter: { spread: 25 }, maxTries: 3 },
  );
  assert.equal(Backoff.PATIENT.maxTries, 5);
});

test('each growth', () => {
  const delays = (backoff: Backoff) => [...backoff.with({ maxTries: 6 }).delays()];
  assert.deepEqual(delays(Backoff.fixed(5)), [5, 5, 5, 5, 5, 5]);
  assert.deepEqual(delays(Backoff.linear(5)), [5, 10, 15, 20, 25, 30]);
  assert.deepEqual(delays(Backoff.fibonacci(5)), [5, 5, 10, 15, 25, 40]);
  assert.deepEqual(delays(Backoff.exponential(5)), [5, 10, 20, 40, 80, 160]);
  assert.equal(Backoff.exponential(5).delay(2 ** 40), 10_000);
});

test('jitter stays within its bounds', () => {
  const spread = Backoff.fixed(1000).with({ jitter: { spread: 25 } });
  assert.equal(
    spread.delay(0, () => 0),
    750,
  );
  for (let i = 0; i < 100; i += 1) {
    assert.ok(spread.delay(i) >= 750 && spread.delay(i) <= 1250);
    assert.ok(spread.with({ jitter: 'full' }).delay(i) <= 1000);
  }
});

test('settings that cannot be meant are refused', () => {
  assert.throws(() => Backoff.fixed(-1), RangeError);
  assert.throws(() => Backoff.fixed(NaN), RangeError);
  assert.throws(() => Backoff.fixed(1).with({ maxTries: 1.5 }), RangeError);
  assert.throws(() => Backoff.fixed(1).with({ jitter: { spread: -1 } }), RangeError);
  assert.throws(() => new Backoff({ first: 1, growth: 'cubic' as never }), RangeError);
});
