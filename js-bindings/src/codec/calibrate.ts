/**
 * Measures what {@link pick} decides by, at once instead of by and by.
 */

import { decode } from './decode.js';
import { encode } from './encode.js';
import { counts } from './metrics.js';
import { picker, SHAPES, type Format, type Shape } from './pick.js';

/** Payloads of each shape, of about so many bytes. */
const SIZES = [200, 2_000, 20_000];

/** Milliseconds of one measurement at least, as clocks of browsers are coarse. */
const TURN = 0.2;

/**
 * Measures how fast payloads of each shape are written here as MessagePack and as JSON, and how
 * fast they are read. {@link pick} and the format `auto` go by it at once, and `metrics()` tells
 * it. Without this they learn from what they write.
 *
 * It keeps the thread for about so many milliseconds, of which the first half only makes the engine
 * compile what is measured in the second. At start, when nothing else runs, is the time for it.
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { calibrate, metrics } from 'swarmbus';
 *
 * calibrate();
 * const { write, read } = metrics().performance;
 * assert.ok(write !== undefined && read !== undefined); // 2.5 and 1.4, say
 * ```
 */
export function calibrate(milliseconds = 250): void {
  const kept = { ...counts };
  const kinds = SHAPES.flatMap((shape) => SIZES.map((size) => ({ shape, size })));
  const each = milliseconds / kinds.length / 2;
  try {
    for (const { shape, size } of kinds) measure(shape, size, each);
    const ratios = kinds.map(({ shape, size }) => {
      const best = measure(shape, size, each);
      picker.observe('msgpack', size, shape, best.msgpack);
      picker.observe('json', size, shape, best.json);
      return best.parse / best.read;
    });
    picker.observeRead(ratios);
  } finally {
    // Nobody asked for these events.
    Object.assign(counts, kept);
  }
}

/** Nanoseconds: of writing in both forms, of reading MessagePack, and of JSON. */
type Times = Record<Format | 'read' | 'parse', number>;

/** The shortest times that were seen. */
function measure(shape: Shape, size: number, milliseconds: number): Times {
  const payload = sample(shape, size);
  const event = { type: `swarmbus.calibration.${shape}`, payload };
  const frame = encode(event).slice();
  const json = JSON.stringify(event);
  const bytes = new TextEncoder().encode(json);
  const decoder = new TextDecoder();
  const turns: Record<keyof Times, () => unknown> = {
    msgpack: () => encode(event),
    json: () => new TextEncoder().encode(JSON.stringify(event)),
    read: () => decode(frame),
    parse: () => JSON.parse(decoder.decode(bytes)) as unknown,
  };
  const best: Times = { msgpack: Infinity, json: Infinity, read: Infinity, parse: Infinity };
  const end = performance.now() + milliseconds;
  do {
    for (const name of Object.keys(turns) as (keyof Times)[]) {
      best[name] = Math.min(best[name], time(turns[name]));
    }
  } while (performance.now() < end);
  return best;
}

/** Nanoseconds of a call. */
function time(run: () => unknown): number {
  const start = performance.now();
  let [count, now] = [0, start];
  for (; now - start < TURN; now = performance.now()) {
    run();
    count++;
  }
  return ((now - start) / count) * 1e6;
}

/** A value of a shape, of about so many bytes. */
function sample(shape: Shape, size: number): unknown {
  const list = <T>(each: number, make: (n: number) => T): T[] =>
    Array.from({ length: Math.max(1, Math.round(size / each)) }, (_, n) => make(n));
  switch (shape) {
    case 'records':
      return list(40, (n) => ({ id: n, name: `agent-${n}`, ok: n % 2 === 0, score: n / 8 }));
    case 'numbers':
      return list(5, (n) => n * 37);
    case 'text':
      return { text: 'lorem ipsum '.repeat(Math.ceil(size / 12)) };
    case 'dictionary':
      return Object.fromEntries(list(20, (n) => [`key-${n}-${n * 7}`, n]));
  }
}
