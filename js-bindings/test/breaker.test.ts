/** The breaker decides as core does; a permit counts once; nothing is left behind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  Backoff,
  BreakerConfigError,
  BreakerRejectedError,
  CircuitBreaker,
  FreedError,
  liveHandles,
  PermitUsedError,
  type BreakerConfigErrorCode,
  type BreakerSettings,
} from 'swarmbus';

import { collect } from './support/collect.js';

function invented(settings: BreakerSettings = {}) {
  const time = { now: 1000 };
  return { time, breaker: new CircuitBreaker({ ...settings, clock: () => time.now }) };
}

function fail(breaker: CircuitBreaker, times: number): void {
  for (let i = 0; i < times; i += 1) breaker.acquire().failure();
}

test('the defaults are those of Rust', () => {
  const { time, breaker } = invented();
  fail(breaker, 4);
  assert.equal(breaker.state, 'closed');
  assert.deepEqual(breaker.acquire().failure(), {
    from: 'closed',
    to: 'open',
    cause: 'consecutive_failures',
  });
  assert.throws(
    () => breaker.acquire(),
    (error) =>
      error instanceof BreakerRejectedError &&
      error.state === 'open' &&
      error.retryAfter === 30_000,
  );
  time.now += 30_000;
  const probe = breaker.acquire();
  assert.deepEqual(probe.transition, { from: 'open', to: 'half_open', cause: 'open_time_over' });
  assert.ok(probe.isProbe);
  const others = [breaker.acquire(), breaker.acquire()];
  assert.throws(() => breaker.acquire(), { state: 'half_open', transition: undefined });
  probe.success();
  others[0]?.success();
  assert.deepEqual(others[1]?.success(), { from: 'half_open', to: 'closed', cause: 'recovered' });
  breaker.free();
});

test('a success ends the streak', () => {
  const { breaker } = invented();
  fail(breaker, 4);
  breaker.acquire().success();
  fail(breaker, 4);
  assert.equal(breaker.state, 'closed');
  assert.equal(breaker.stats().streak, 4);
  breaker.free();
});

test('a failure rate opens it, by calls and by time', () => {
  for (const window of [{ calls: 10 }, { time: 10_000 }]) {
    const { breaker } = invented({ consecutiveFailures: null, window });
    for (let i = 0; i < 5; i += 1) {
      breaker.acquire().success();
      breaker.acquire().failure();
    }
    assert.equal(breaker.state, 'open', JSON.stringify(window));
    assert.equal(breaker.stats().openedBy, 'failure_rate');
    breaker.free();
  }
});

test('a window by time forgets', () => {
  const { time, breaker } = invented({ consecutiveFailures: null, window: { time: 10_000 } });
  fail(breaker, 9);
  time.now += 20_000;
  fail(breaker, 1);
  assert.equal(breaker.state, 'closed');
  assert.equal(breaker.stats().window.calls, 1);
  breaker.free();
});

test('slow calls open it', () => {
  const { time, breaker } = invented({
    window: { calls: 10, slowCalls: { after: 50, rate: 0.5 } },
  });
  for (let i = 0; i < 10; i += 1) {
    const permit = breaker.acquire();
    time.now += i % 2 === 0 ? 10 : 60;
    permit.success();
  }
  assert.equal(breaker.state, 'open');
  assert.equal(breaker.stats().openedBy, 'slow_call_rate');
  assert.equal(breaker.stats().slow, 5);
  breaker.free();
});

test('the open time grows with each opening in a row', () => {
  const { time, breaker } = invented({ openBackoff: Backoff.exponential(100), probes: 1 });
  fail(breaker, 5);
  const waits: number[] = [];
  for (let i = 0; i < 3; i += 1) {
    const wait = breaker.stats().remaining ?? 0;
    waits.push(wait);
    time.now += wait;
    breaker.acquire().failure();
  }
  assert.deepEqual(waits, [100, 200, 400]);
  breaker.free();
});

test('probes that hang open it again', () => {
  const { time, breaker } = invented({ probes: 1, probeTimeout: 500 });
  breaker.trip();
  time.now += 30_000;
  breaker.acquire();
  time.now += 501;
  assert.throws(() => breaker.acquire(), {
    transition: { from: 'half_open', to: 'open', cause: 'probes_hung' },
  });
  breaker.free();
});

test('states by hand', () => {
  const { breaker } = invented();
  assert.deepEqual(breaker.forceOpen(), { from: 'closed', to: 'forced_open', cause: 'manual' });
  assert.throws(() => breaker.acquire(), { state: 'forced_open', retryAfter: Infinity });
  breaker.disable();
  fail(breaker, 50);
  assert.equal(breaker.stats().failures, 0);
  breaker.metricsOnly();
  fail(breaker, 50);
  assert.deepEqual([breaker.state, breaker.stats().wouldOpen], ['metrics_only', 10]);
  breaker.isolate();
  assert.equal(breaker.disable(), undefined);
  assert.throws(() => breaker.acquire(), { state: 'isolated' });
  breaker.reset();
  assert.equal(breaker.state, 'closed');
  assert.equal(breaker.keepOpen(70)?.to, 'open');
  assert.equal(breaker.stats().remaining, 70);
  breaker.free();
});

test('what bypasses counts only while closed', () => {
  const { time, breaker } = invented();
  breaker.trip();
  time.now += 10;
  breaker.bypass().success();
  assert.equal(breaker.state, 'open');
  breaker.reset();
  for (let i = 0; i < 5; i += 1) breaker.bypass().failure();
  assert.equal(breaker.state, 'open');
  assert.equal(breaker.stats().bypassed, 6);
  breaker.free();
});

test('a permit is resolved once, and belongs to its state', () => {
  const { breaker } = invented();
  const permit = breaker.acquire();
  const late = breaker.acquire();
  permit.failure();
  assert.throws(() => permit.success(), PermitUsedError);
  permit.release();
  breaker.trip();
  breaker.reset();
  late.failure();
  assert.equal(breaker.stats().failures, 1);
  breaker.free();
});

test('a permit that is left frees its slot', () => {
  const { time, breaker } = invented({ probes: 1 });
  breaker.trip();
  time.now += 30_000;
  {
    using probe = breaker.acquire();
    assert.ok(probe.isProbe);
    assert.throws(() => breaker.acquire(), BreakerRejectedError);
  }
  breaker.acquire().release();
  assert.equal(breaker.stats().probesInFlight, 0);
  breaker.free();
});

test('a probe that is lost is released when it is collected', async () => {
  const { time, breaker } = invented({ probes: 1 });
  breaker.trip();
  time.now += 30_000;
  (() => void breaker.acquire())();
  for (let i = 0; i < 100 && breaker.stats().probesInFlight !== 0; i += 1) {
    await collect();
  }
  assert.equal(breaker.stats().probesInFlight, 0);
  breaker.free();
});

test('run resolves by how the work ended', async () => {
  using breaker = new CircuitBreaker({ consecutiveFailures: 1, countSuccesses: true });
  assert.equal(await breaker.run(async () => 7), 7);
  await assert.rejects(
    breaker.run(() => {
      throw new Error('no');
    }),
    /no/,
  );
  await assert.rejects(
    breaker.run(() => 1),
    BreakerRejectedError,
  );
  assert.deepEqual([breaker.stats().successes, breaker.stats().failures], [1, 1]);
});

test('a snapshot goes on in another breaker', () => {
  const { time, breaker } = invented();
  breaker.trip();
  time.now += 10_000;
  const saved = JSON.parse(JSON.stringify(breaker.snapshot()));
  assert.deepEqual(saved.state.open.remaining, { secs: 20, nanos: 0 });
  const after = CircuitBreaker.restore(saved, { clock: () => 5 });
  assert.equal(after.stats().remaining, 20_000);
  assert.equal(after.stats().opens, 1);
  breaker.free();
  after.free();
  assert.throws(() => CircuitBreaker.restore({} as never), { code: 'snapshot' });
});

test('settings that cannot be meant have their codes', () => {
  const before = liveHandles();
  const cases: [BreakerSettings, BreakerConfigErrorCode][] = [
    [{ probes: 0 }, 'zero'],
    [{ consecutiveFailures: 0 }, 'zero'],
    [{ window: { calls: 5, failureRate: 0 } }, 'rate'],
    [{ window: { calls: 70_000 } }, 'window_calls'],
    [{ window: { time: 1 } }, 'window_time'],
    [{ window: { calls: 5, minimumCalls: 6 } }, 'minimum_calls'],
    [{ openFor: 0 }, 'open_time'],
    [{ window: {} }, 'settings'],
    [{ window: { calls: 5, time: 5 } }, 'settings'],
    [{ probes: 1.5 }, 'settings'],
    [{ consecutiveFailures: NaN }, 'settings'],
    [{ probes: -1 }, 'settings'],
    [{ probes: '3' } as never, 'settings'],
  ];
  for (const [settings, code] of cases) {
    assert.throws(
      () => new CircuitBreaker(settings),
      (error) => error instanceof BreakerConfigError && error.code === code,
      JSON.stringify(settings),
    );
  }
  assert.equal(liveHandles(), before);
});

test('a clock that throws or goes back breaks nothing', () => {
  let now: () => number = () => {
    throw new Error('no time');
  };
  const breaker = new CircuitBreaker({ clock: () => now() });
  assert.throws(() => breaker.trip(), /no time/);
  now = () => 1000;
  breaker.trip();
  now = () => NaN;
  assert.throws(() => breaker.acquire(), RangeError);
  now = () => 31_000;
  assert.ok(breaker.acquire().isProbe);
  breaker.free();
});

test('freed is freed, twice is once', () => {
  const before = liveHandles();
  const breaker = new CircuitBreaker();
  assert.equal(liveHandles(), before + 1);
  const permit = breaker.acquire();
  breaker.free();
  breaker.free();
  assert.equal(liveHandles(), before);
  assert.throws(() => breaker.acquire(), FreedError);
  assert.throws(() => breaker.state, FreedError);
  assert.throws(() => permit.success(), FreedError);
});

test('what nobody frees is freed by the collector', async () => {
  const before = liveHandles();
  (() => {
    for (let i = 0; i < 50; i += 1) new CircuitBreaker();
  })();
  assert.equal(liveHandles(), before + 50);
  for (let i = 0; i < 100 && liveHandles() !== before; i += 1) {
    await collect();
  }
  assert.equal(liveHandles(), before);
});
