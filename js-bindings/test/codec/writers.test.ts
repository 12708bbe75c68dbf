/**
 * Writers of shapes write what the codec writes that looks at each object anew: the small ones,
 * and the large ones that come after many uses.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { configureCodec, Payload } from 'swarmbus';

/** Numbers that look random and are the same each time. */
let state = 7;
const below = (n: number): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
};

/** UTF-16 units: ASCII mostly, of 2 and 3 bytes, pairs of surrogates and lone ones. */
function text(length: number): string {
  let units = '';
  while (units.length < length) {
    const kind = below(12);
    if (kind < 8) units += String.fromCharCode(below(128));
    else if (kind === 8) units += String.fromCharCode(0x80 + below(0x780));
    else if (kind === 9) units += String.fromCharCode(0x800 + below(0xd000));
    else if (kind === 10) units += String.fromCodePoint(0x10000 + below(0x100000));
    else units += String.fromCharCode(0xd800 + below(0x800));
  }
  return units;
}

const KINDS: (() => unknown)[] = [
  () => text(below(40)),
  () => 'plain',
  () => below(300) - 100,
  () => below(2 ** 32) - 2 ** 31,
  () => below(1000) / 8,
  () => true,
  () => false,
  () => null,
  () => undefined,
  () => [below(9), text(3), { inner: below(9) }],
  () => ({ inner: text(5) }),
  () => BigInt(below(2 ** 31)) ** 2n,
];

/** Objects of one shape: mostly the same kinds of values in a row, and then others. */
function objects(keys: readonly string[], count: number): object[] {
  let makers: (() => unknown)[] = [];
  return Array.from({ length: count }, (_, n) => {
    if (n % 150 === 0) makers = keys.map(() => KINDS[below(KINDS.length)]!);
    const odd = below(8) === 0 ? below(keys.length) : -1;
    return Object.fromEntries(
      keys.map((key, at) => [key, at === odd ? KINDS[below(KINDS.length)]!() : makers[at]!()]),
    );
  });
}

const SHAPES = [
  ['a'],
  ['id', 'name', 'ÿ', 'key of 15 bytes', 'key of 16 bytes!', 'a key of 17 bytes', 'last'],
  Array.from({ length: 15 }, (_, n) => `k${n}`),
  Array.from({ length: 16 }, (_, n) => `${'k'.repeat(n)}é`),
  Array.from({ length: 90 }, (_, n) => `${n} ${'long '.repeat(n % 12)}`),
];

for (const keys of SHAPES) {
  test(`${keys.length} keys`, () => {
    const all = objects(keys, 1500);
    const write = (value: object): string =>
      Buffer.from(Payload.msgpack(value).bytes).toString('hex');
    configureCodec({ codeGeneration: true });
    const written = all.map(write);
    configureCodec({ codeGeneration: false });
    all.forEach((value, n) => assert.equal(written[n], write(value)));
  });
}

test('strings of up to 40 units are those of TextEncoder', () => {
  configureCodec({ codeGeneration: true });
  const encoder = new TextEncoder();
  for (let n = 0; n < 20_000; n++) {
    const one = text(n % 41);
    const utf8 = encoder.encode(one);
    const head = utf8.length < 32 ? [0xa0 | utf8.length] : [0xd9, utf8.length];
    assert.deepEqual([...Payload.msgpack(one).bytes], [...head, ...utf8]);
  }
});
