/** Names of agents and swarms, which are kept as bytes when they come again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { decode, encode, EncodeError, type Target } from 'swarmbus';

function comesBack(source: string, target: Target): void {
  const event = decode(encode({ type: 'a', source, target }));
  assert.deepEqual([event.source, event.target], [source, target]);
}

test('names come back the first time and each time after', () => {
  const names = ['', 'a', 'abcd', 'agent-17', 'größe', '任务', 'x'.repeat(64), 'x'.repeat(65)];
  for (let turn = 0; turn < 3; turn++) {
    for (const name of names) {
      comesBack(name, `agent:${name}`);
      // The same text means another name here.
      comesBack(`swarm:${name}`, `swarm:${name}`);
    }
  }
});

test('more names than are kept', () => {
  for (let turn = 0; turn < 3; turn++) {
    for (let n = 0; n < 2000; n++) comesBack(`agent-${n}`, `swarm:${n % 700}`);
  }
  for (let turn = 0; turn < 300; turn++) comesBack('agent-1', 'swarm:one');
});

test('a known name is measured by each limit', () => {
  const event = { type: 'a', source: 'a-long-name' };
  for (let turn = 0; turn < 3; turn++) encode(event);
  assert.throws(
    () => encode(event, { limits: { stringLen: 5 } }),
    (error) => error instanceof EncodeError && error.code === 'field_too_long',
  );
  assert.equal(decode(encode(event)).source, 'a-long-name');
});

test('a lone surrogate in a known name is replaced each time', () => {
  for (let turn = 0; turn < 3; turn++) {
    assert.equal(decode(encode({ type: 'a', source: 'x\ud800' })).source, 'x\ufffd');
  }
});

test('what is no name is refused', () => {
  for (const source of [null, 5, {}] as unknown as string[]) {
    for (let turn = 0; turn < 2; turn++) {
      assert.throws(
        () => encode({ type: 'a', source }),
        (error) => error instanceof EncodeError && error.code === 'field',
      );
    }
  }
});
