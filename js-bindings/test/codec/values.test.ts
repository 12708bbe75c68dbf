/** What becomes of each kind of value, and of values that cannot be written. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { before, describe, test } from 'node:test';

import {
  configureCodec,
  decode,
  encode,
  encodeBatch,
  EncodeError,
  Extension,
  Payload,
  typedArray,
  type EncodeErrorCode,
} from 'swarmbus';

const back = (payload: unknown): unknown => decode(encode({ type: 'a.b', payload })).payload;

/** Often enough that shapes are compiled. */
function comesBack(value: unknown, as = value): void {
  for (let round = 0; round < 8; round++) {
    assert.deepStrictEqual(back({ value, list: [value, { value }] }), {
      value: as,
      list: [as, { value: as }],
    });
  }
}

function refused(payload: unknown, code: EncodeErrorCode): void {
  const event = { type: 'a.b', payload };
  assert.throws(
    () => encode(event),
    (error) => error instanceof EncodeError && error.code === code,
  );
  // The codec goes on.
  comesBack({ fine: true });
}

const MODES = [
  { tokeniser: true, codeGeneration: true },
  { tokeniser: false, codeGeneration: true },
  { tokeniser: true, codeGeneration: false },
  { tokeniser: false, codeGeneration: false },
];

for (const mode of MODES) {
  describe(JSON.stringify(mode), () => {
    before(() => configureCodec(mode));

    test('numbers', () => {
      const edges = [7, 8, 15, 16, 31, 32, 53].flatMap((bits) => [
        2 ** bits - 1,
        2 ** bits,
        2 ** bits + 1,
      ]);
      for (const edge of edges) {
        comesBack(edge);
        comesBack(-edge);
      }
      for (const odd of [
        0,
        -0,
        0.1,
        1.5,
        NaN,
        Infinity,
        -Infinity,
        5e-324,
        1.7976931348623157e308,
      ]) {
        comesBack(odd);
      }
      assert.ok(Object.is((back([-0]) as number[])[0], -0));
    });

    test('bigints are kept to 64 bits and become numbers where those are exact', () => {
      comesBack(5n, 5 as never);
      comesBack(2n ** 53n - 1n, (2 ** 53 - 1) as never);
      comesBack(2n ** 53n);
      comesBack(2n ** 64n - 1n);
      comesBack(-(2n ** 63n));
      refused([2n ** 64n], 'unsupported');
      refused([-(2n ** 63n) - 1n], 'unsupported');
    });

    test('strings', () => {
      const ascii = [0, 1, 8, 24, 25, 31, 32, 255, 256, 4095, 5000, 65_535, 65_536].map((n) =>
        'x'.repeat(n),
      );
      for (const text of [
        ...ascii,
        'é',
        '漢字',
        '🐝',
        'é'.repeat(20),
        '漢'.repeat(100),
        '\0\u2028"\\\n',
        '\ufeffx',
      ]) {
        comesBack(text);
      }
    });

    test('a lone surrogate becomes U+FFFD', () => {
      comesBack('a\ud800b', 'a\ufffdb');
      comesBack('\udc00', '\ufffd');
      assert.deepEqual(back({ '\ud800': 1 }), { '\ufffd': 1 });
    });

    test('null, undefined and holes', () => {
      comesBack(null);
      comesBack(true);
      comesBack(false);
      for (let round = 0; round < 8; round++) {
        assert.deepStrictEqual(back({ a: undefined, b: 1, c: undefined }), { b: 1 });
        assert.deepStrictEqual(back([undefined, , 1]), [null, null, 1]);
        assert.deepStrictEqual(back(sixteen(undefined)), sixteen(1, 1));
      }
    });

    test('any name is an own property', () => {
      const names = JSON.parse(
        '{"__proto__":{"x":1},"constructor":2,"toString":3,"":4,"a b":5,"\\u2028":6,"0":7}',
      );
      comesBack(names);
      const read = back([names]) as object[];
      assert.equal(Object.getPrototypeOf(read[0]), Object.prototype);
      assert.equal((read[0] as { x?: number }).x, undefined);
    });

    test('Date and whatever has toJSON become what that returns', () => {
      const date = new Date(0);
      comesBack(date, date.toJSON() as never);
      comesBack(new Date(NaN), null as never);
      class Point {
        constructor(readonly x: number) {}
        toJSON(): unknown {
          return { at: this.x };
        }
      }
      comesBack(new Point(3), { at: 3 } as never);
      // It may write an event of its own meanwhile.
      const nested = {
        toJSON: () => Buffer.from(encode({ type: 'in', payload: { deep: [1] } })).length,
      };
      comesBack(nested, nested.toJSON() as never);
    });

    test('objects of classes become their own properties', () => {
      class Base {
        a = 1;
        get computed(): number {
          return 2;
        }
      }
      class Derived extends Base {
        b = 2;
      }
      comesBack(new Derived(), { a: 1, b: 2 } as never);
      comesBack(Object.assign(Object.create({ inherited: 1 }), { own: 2 }), { own: 2 });
      comesBack(Object.assign(Object.create(null), { own: 2 }), { own: 2 });
      comesBack(new Number(1), 1 as never);
    });

    test('Map and Set', () => {
      comesBack(new Map([['a', 1]]), { a: 1 } as never);
      comesBack(
        new Map<unknown, unknown>([
          [1, 'x'],
          ['b', 2],
        ]),
      );
      comesBack(
        new Map<unknown, unknown>([
          ['b', 2],
          [1, 'x'],
        ]),
      );
      comesBack(new Set([1, 'two']), [1, 'two'] as never);
    });

    test('a Map that changes while it is written is refused', () => {
      const grows = new Map<string, unknown>([['a', { toJSON: () => void grows.set('b', 1) }]]);
      refused([grows], 'payload');
      const shrinks = new Map<string, unknown>([['a', { toJSON: () => shrinks.delete('b') }]]);
      refused([shrinks.set('b', 2)], 'payload');
    });

    test('bytes, and typed arrays as bytes', () => {
      const bytes = Uint8Array.of(0, 1, 255);
      comesBack(bytes);
      comesBack(new Uint8Array(300).fill(7));
      comesBack(new Uint8Array(70_000).fill(7));
      comesBack(bytes.buffer, bytes as never);
      // Not what its toJSON returns.
      comesBack(Buffer.from(bytes), bytes as never);
      for (const array of [
        Float32Array.of(1.5, -2),
        Float64Array.of(NaN, 1),
        Int32Array.of(-1),
        BigUint64Array.of(2n ** 64n - 1n),
      ]) {
        const raw = back([array]) as Uint8Array[];
        const type = array.constructor as Float32ArrayConstructor;
        assert.deepStrictEqual(typedArray(raw[0]!, type), array);
        // And as the whole payload.
        assert.deepStrictEqual(typedArray(back(array) as Uint8Array, type), array);
      }
      const unaligned = new Uint8Array(9).subarray(1);
      assert.deepStrictEqual(typedArray(unaligned, Float32Array), new Float32Array(2));
      assert.throws(() => typedArray(new Uint8Array(3), Float32Array), RangeError);
    });

    test('what comes back does not change with the next payload', () => {
      const first = back({ bytes: Uint8Array.of(1, 2, 3), text: 'one' });
      back({ bytes: Uint8Array.of(9, 9, 9), text: 'two' });
      assert.deepStrictEqual(first, { bytes: Uint8Array.of(1, 2, 3), text: 'one' });
    });

    test('extensions', () => {
      for (const length of [0, 1, 2, 3, 4, 8, 16, 17, 300, 70_000]) {
        comesBack(new Extension(-1, new Uint8Array(length).fill(5)));
      }
      assert.throws(() => new Extension(128, new Uint8Array()), RangeError);
    });

    test('functions and symbols are refused', () => {
      refused({ a: () => 1 }, 'unsupported');
      refused([Symbol('x')], 'unsupported');
    });

    test('what refers to itself, and what lies too deep', () => {
      const cyclic: Record<string, unknown> = { a: 1 };
      cyclic['self'] = [cyclic];
      refused(cyclic, 'cyclic');
      const map = new Map<string, unknown>();
      map.set('map', map);
      refused([map], 'cyclic');
      let deep: unknown = 1;
      for (let level = 0; level < 128; level++) deep = level % 2 ? [deep] : { deep };
      assert.deepStrictEqual(back(deep), deep);
      refused([deep], 'too_deep');
      const shared = { x: 1 };
      comesBack([shared, shared]);
    });

    test('getters and toJSON that throw', () => {
      const cause = new Error('no');
      const fails = {
        get a(): number {
          throw cause;
        },
      };
      assert.throws(
        () => encode({ type: 'a', payload: fails }),
        (error) =>
          error instanceof EncodeError && error.code === 'payload' && error.cause === cause,
      );
      comesBack({ fine: true });
    });

    test('long arrays and objects', () => {
      comesBack(Array.from({ length: 70_000 }, (_, n) => n % 1000));
      const wide = Object.fromEntries(Array.from({ length: 70_000 }, (_, n) => [`key ${n}`, n]));
      assert.deepStrictEqual(back(wide), wide);
      assert.deepStrictEqual(back(sixteen(3)), sixteen(3));
    });

    test('an event beyond a limit, and one of 7 MiB', () => {
      const text = { text: 'x'.repeat(7 << 20) };
      assert.deepStrictEqual(back(text), text);
      refused({ text: 'x'.repeat(9 << 20) }, 'record_too_long');
      refused(new Uint8Array(9 << 20), 'record_too_long');
    });

    test('many shapes at one place', () => {
      for (let round = 0; round < 5; round++) {
        for (let n = 0; n < 700; n++) {
          const value = { [`a${n}`]: n, same: { [`b${n % 50}`]: 'x' }, n: n % 2 ? null : 1.5 };
          assert.deepStrictEqual(back(value), value);
        }
      }
    });
  });
}

test('what is no event is refused', () => {
  for (const event of [undefined, {}, { type: 5 }] as never[]) {
    assert.throws(() => encode(event), { code: 'type' });
    assert.throws(() => encodeBatch([{ type: 'a' }, event]), { code: 'type' });
  }
});

test('payloads by themselves', () => {
  assert.equal(back(undefined), undefined);
  assert.equal(back('text'), 'text');
  assert.equal(back(null), null);
  assert.equal(back(5), 5);
  assert.deepEqual(back(Uint8Array.of(1)), Uint8Array.of(1));
  assert.deepEqual(back(Payload.json({ a: [1] })), { a: [1] });
  assert.equal(back(Payload.msgpack('text')), 'text');
  assert.equal(decode(encode({ type: 'a', payload: Payload.json(1) })).content, 'json');
  assert.throws(() => Payload.json(undefined), TypeError);
});

const skip = ('deno' in process.versions || 'bun' in process.versions) && 'the flag is of Node.js';
test('without code generation all is the same', { skip }, () => {
  const code = `
    import assert from 'node:assert/strict';
    import { decode, encode, metrics } from 'swarmbus';
    assert.equal(metrics().codeGeneration, false);
    const payload = { a: 1, b: ['x', { c: null }] };
    for (let i = 0; i < 9; i++) assert.deepEqual(decode(encode({ type: 'a', payload })).payload, payload);
  `;
  const flags = ['--disallow-code-generation-from-strings', '--input-type=module', '-e', code];
  const { status, stderr } = spawnSync(process.execPath, flags, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
});

/** 16 keys, one of them perhaps without a value: where the form of a map's head changes. */
function sixteen(last: unknown, from = 0): Record<string, unknown> {
  const keys = Array.from({ length: 16 - from }, (_, n) => [`k${n + from}`, n + from]);
  return {
    ...(from === 0 ? { k0: last } : {}),
    ...Object.fromEntries(keys.filter(([key]) => key !== 'k0')),
  };
}
