/** The router finds what core finds, and its cache never tells what was. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FreedError, liveHandles, PatternError, Router, type PatternErrorCode } from 'swarmbus';

test('exact, wildcards and regex, in the order of insertion', () => {
  using router = new Router<string>();
  router.insert('>', 'all');
  router.insert('task.*', 'one token');
  router.insert('task.created', 'exact');
  router.insert(/task\.(created|done)/, 'regex');
  router.insert('task.>', 'rest');
  assert.deepEqual(router.matches('task.created'), ['all', 'one token', 'exact', 'regex', 'rest']);
  assert.deepEqual(router.matches('task.a.b'), ['all', 'rest']);
  assert.deepEqual(router.matches('task'), ['all']);
  // From end to end.
  assert.deepEqual(router.matches('xtask.created'), ['all']);
});

test('what comes and goes is seen at once', () => {
  using router = new Router<number>();
  const first = router.insert('a', 1);
  assert.deepEqual(router.matches('a'), [1]);
  const second = router.insert('a', 2);
  assert.deepEqual(router.matches('a'), [1, 2]);
  first.remove();
  assert.deepEqual(router.matches('a'), [2]);
  // The freed id is taken by another, which the first must not remove.
  router.insert('a', 3);
  first.remove();
  assert.deepEqual(router.matches('a'), [2, 3]);
  second.remove();
  assert.deepEqual([router.matches('a'), router.length], [[3], 1]);
});

test('a cache of one type is right, only slow', () => {
  using router = new Router<number>({ cacheCapacity: 1 });
  router.insert('a.*', 1);
  for (const type of ['a.a', 'a.b', 'a.a', 'b']) {
    assert.deepEqual(router.matches(type), type === 'b' ? [] : [1]);
  }
  assert.throws(() => new Router({ cacheCapacity: 0 }), RangeError);
});

test('types are whatever the network sends', () => {
  using router = new Router<number>();
  router.insert('a', 1);
  for (const type of ['', '.', '..a', '__proto__', '\ud800', 'ü'.repeat(100_000), '\0']) {
    assert.deepEqual(router.matches(type), []);
  }
  router.insert('__proto__', 2);
  assert.deepEqual(router.matches('__proto__'), [2]);
});

test('each error has its code', () => {
  using router = new Router<number>();
  const cases: [string | RegExp, PatternErrorCode][] = [
    ['', 'empty_token'],
    ['a..b', 'empty_token'],
    ['a b', 'character'],
    ['a*', 'part_of_token'],
    ['>.a', 'rest_not_last'],
    ['a'.repeat(300), 'too_long'],
    [new RegExp('a'.repeat(2000)), 'too_long'],
  ];
  for (const [pattern, code] of cases) {
    assert.throws(
      () => router.insert(pattern, 1),
      (error) => error instanceof PatternError && error.code === code,
      String(pattern),
    );
  }
  assert.equal(router.length, 0);
});

test('a regex is from end to end, and keeps no position', () => {
  using router = new Router<number>({ cacheCapacity: 1 });
  const route = router.insert(/a|ab/gmy, 1);
  router.insert(/TASK/i, 2);
  for (const type of ['ab', 'b', 'ab', 'b', 'ab']) {
    assert.deepEqual(router.matches(type), type === 'ab' ? [1] : []);
  }
  assert.deepEqual(router.matches('x\nab'), []);
  assert.deepEqual(router.matches('task'), [2]);
  route.remove();
  route.remove();
  assert.deepEqual([router.matches('ab'), router.length], [[], 1]);
});

test('freed is freed', () => {
  const before = liveHandles();
  const router = new Router<number>();
  const route = router.insert('a', 1);
  router.free();
  router.free();
  assert.equal(liveHandles(), before);
  route.remove();
  assert.throws(() => router.insert('a', 1), FreedError);
  assert.throws(() => router.matches('a'), FreedError);
});
