/** Chains and trees of events against what they must keep: the cases of `core/src/hops/tests.rs`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  budgetOf,
  causedBy,
  decode,
  encode,
  Event,
  fromCloudEvent,
  isReplayed,
  MAX_HOPS,
  replayed,
  spend,
  splitBudget,
  toCloudEvent,
  withBudget,
  type EventInit,
} from 'swarmbus';

const U64_MAX = 2n ** 64n - 1n;
const a = { type: 'a' } as const;
const b = { type: 'b' } as const;
const stamped = (init?: Partial<EventInit>): Event =>
  new Event({ ...a, timestamp: 1_000_000, nonce: 7n, ...init });

/** The same in each run. */
let state = 0x2545_f491;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

test('an effect takes over what ties it to its cause', () => {
  const cause = replayed(
    stamped({ session: 's', traceparent: '00-1-2-01', deadline: 50, hops: ['edge'] }),
  );
  const effect = causedBy(b, cause, 'x');
  assert.equal(effect.causationId, cause.id);
  assert.equal(effect.correlationId, cause.id);
  assert.equal(effect.session, 's');
  assert.equal(effect.traceparent, '00-1-2-01');
  assert.equal(effect.deadline, 50);
  assert.deepEqual(effect.hops, ['edge', 'x']);
  assert.equal(budgetOf(effect), undefined);
  assert.ok(isReplayed(effect));
  assert.equal(effect.id, undefined, 'an id of its own comes with the stamp');
});

test('an effect keeps what it says itself', () => {
  const cause = stamped({
    session: 's',
    traceparent: 'outer',
    correlationId: 'talk',
    deadline: 50,
  });
  const own = { session: 't', traceparent: 'inner', correlationId: 'aside', deadline: 40 };
  const { session, traceparent, correlationId, deadline } = causedBy({ ...b, ...own }, cause, 'x');
  assert.deepEqual({ session, traceparent, correlationId, deadline }, own);
  const plain = causedBy({ ...b, deadline: 60 }, cause, 'x');
  assert.equal(plain.correlationId, 'talk');
  assert.equal(plain.deadline, 50);
  assert.ok(!isReplayed(plain));
});

test('a forwarded copy does not double its path', () => {
  const event = stamped({ hops: ['x'] });
  assert.deepEqual(causedBy(event, event, 'y').hops, ['x', 'y']);
});

test('a cause without an id gives none', () => {
  const effect = causedBy(b, new Event(a), 'x');
  assert.deepEqual([effect.causationId, effect.correlationId], [undefined, undefined]);
});

test('places have names that a frame can hold', () => {
  const by = (name: string) => causedBy(b, new Event(a), name);
  assert.throws(() => by(''), { code: 'place_name' });
  by('x'.repeat(255));
  assert.throws(() => by('x'.repeat(256)), { code: 'place_name' });
  assert.throws(() => by('é'.repeat(128)), { code: 'place_name' });
});

test('the longest path can be encoded and no longer one be made', () => {
  let event = new Event(a);
  for (let hop = 0; hop < MAX_HOPS; hop++) event = causedBy(a, event, 'x');
  encode(event);
  assert.throws(() => causedBy(a, event, 'x'), { code: 'too_many_hops' });
});

test('no budget of the wire is more than it says', () => {
  const withText = (budget: string) => new Event({ ...a, attributes: { budget } });
  for (const broken of [
    '',
    '-1',
    '+5',
    '5 ',
    '0x10',
    '1e9',
    '18446744073709551616',
    'unlimited',
    '9'.repeat(5000),
  ]) {
    assert.equal(budgetOf(withText(broken)), 0n, broken);
  }
  assert.equal(budgetOf(withText('007')), 7n);
  assert.equal(budgetOf(withText('0'.repeat(100) + '7')), 7n);
  assert.equal(budgetOf(withText(String(U64_MAX))), U64_MAX);
  assert.throws(() => causedBy(b, withText('many'), 'x'), { code: 'budget_spent' });
});

test('a spent budget arrives and causes nothing', () => {
  const last = causedBy(b, withBudget(a, 1), 'x');
  assert.equal(budgetOf(last), 0n);
  assert.throws(() => causedBy({ type: 'c' }, last, 'y'), { code: 'budget_spent' });
  assert.equal(budgetOf(causedBy({ type: 'c' }, last, 'y', 0)), 0n);
});

test('what cannot be paid is refused', () => {
  const event = withBudget(stamped({ source: 's' }), 3);
  assert.throws(() => spend(event, 4), { code: 'budget_spent' });
  assert.equal(budgetOf(event), 3n);
  const paid = spend(event, 3n);
  assert.deepEqual([budgetOf(paid), paid.source, paid.id], [0n, 's', event.id]);
  const unlimited = new Event(a);
  assert.equal(spend(unlimited, U64_MAX), unlimited);
  for (const wrong of [-1, 0.5, NaN, -1n, U64_MAX + 1n]) {
    assert.throws(() => spend(event, wrong), RangeError);
    assert.throws(() => withBudget(a, wrong), RangeError);
    assert.throws(() => causedBy(b, event, 'x', wrong), RangeError);
  }
});

test('the marks survive the wire', () => {
  const event = replayed(withBudget(stamped(), 12));
  for (const back of [decode(encode(event)), fromCloudEvent(toCloudEvent(event))]) {
    assert.equal(budgetOf(back), 12n);
    assert.ok(isReplayed(back));
  }
  assert.ok(!isReplayed(new Event({ ...a, attributes: { replayed: 'false' } })));
});

test('no hop gives more than it took', () => {
  const amounts = [undefined, 0n, 1n, 2n, 5n, 1000n, U64_MAX];
  const some = () => amounts[random(amounts.length)];
  const least = (x: bigint | undefined, y: bigint | undefined) =>
    x === undefined || y === undefined ? (x ?? y) : x < y ? x : y;
  for (let round = 0; round < 2000; round++) {
    const [has, own, cost] = [some(), some(), some() ?? 3n];
    const deadlines = [some(), some()].map((at) => (at === 0n ? undefined : at));
    const event = (budget: bigint | undefined, deadline: bigint | undefined) => {
      const plain = new Event({ ...a, deadline });
      return budget === undefined ? plain : withBudget(plain, budget);
    };
    const [cause, effect] = [event(has, deadlines[0]), event(own, deadlines[1])];
    if (has !== undefined && has < cost) {
      assert.throws(() => causedBy(effect, cause, 'x', cost), { code: 'budget_spent' });
      continue;
    }
    const made = causedBy(effect, cause, 'x', cost);
    assert.equal(budgetOf(made), least(has === undefined ? undefined : has - cost, own));
    assert.equal(made.deadline, least(deadlines[0], deadlines[1]));
  }
});

test('shares are even and add up', () => {
  for (const budget of [0n, 1n, 7n, 49n, 50n, 51n, U64_MAX]) {
    for (let ways = 0; ways < 50; ways++) {
      const event = withBudget({ ...a, deadline: 9 }, budget);
      const shares = splitBudget(event, ways).map((share) => budgetOf(share)!);
      assert.equal(shares.length, ways);
      if (ways === 0) continue;
      assert.equal(
        shares.reduce((sum, share) => sum + share),
        budget,
      );
      assert.ok(shares.every((share, way) => way === 0 || share <= shares[way - 1]!));
      assert.ok(shares[0]! - shares[ways - 1]! <= 1n);
      assert.ok(splitBudget(event, ways).every(({ deadline }) => deadline === 9));
    }
  }
  assert.ok(splitBudget(new Event(a), 3).every((share) => budgetOf(share) === undefined));
});

test('a tree is never larger than its budget', () => {
  for (let round = 0; round < 100; round++) {
    const budget = random(200);
    const waiting: Event[] = [withBudget(a, budget)];
    let made = 0;
    for (let event = waiting.pop(); event !== undefined; event = waiting.pop()) {
      for (const share of splitBudget(event, random(6))) {
        if (budgetOf(share) === 0n) continue;
        waiting.push(causedBy(a, share, 'x'));
        made++;
      }
      assert.ok(made <= budget);
    }
  }
});

test('a deadline is not lengthened by a long chain', () => {
  let event = new Event({ ...a, deadline: 1_001_000 });
  for (let hop = 0; hop < 10; hop++) event = causedBy({ ...a, deadline: 61_001_000 }, event, 'x');
  assert.equal(event.deadline, 1_001_000);
});
