/**
 * `node --expose-gc codec-memory.mjs COUNT [poly]`: so many round trips of which every tenth
 * fails, half of those in writing and half in reading. Linear memory and the heap after
 * collection must be as large at the end as after the first half, in which code is compiled. With
 * `poly` there are 40 more shapes of payloads, for which that takes some 8 million. Prints JSON.
 */
import assert from 'node:assert/strict';
import { argv } from 'node:process';

import { decode, DecodeError, encode, EncodeError, status } from 'swarmbus';

import { workload } from './codec-workloads.mjs';

const count = Number(argv[2]);
const events = ['200B', '1KB', ...argv.slice(3)].flatMap((name) => workload(name));
const failing = { type: 'will.fail', payload: { good: 1, bad: () => 1 } };
const cut = encode({ type: 'is.cut', payload: { list: [1, 2, 3], text: 'abc' } }).slice();
cut[cut.length - 4] = 0xff;

let failures = 0;
function roundTrip(n) {
  try {
    if (n % 20 === 0) encode(failing);
    else if (n % 20 === 10) decode(cut);
    else
      assert.equal(decode(encode(events[n % events.length])).type, events[n % events.length].type);
  } catch (error) {
    if (!(error instanceof EncodeError || error instanceof DecodeError)) throw error;
    failures++;
  }
}

function measured() {
  // Twice: what the first leaves to finalisers, the second collects.
  for (let i = 0; i < 4; i++) globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return { linear: status().memory, heap: heapUsed, external };
}

let first;
for (let n = 0; n < count; n++) {
  roundTrip(n);
  if (n === Math.floor(count / 2)) first = measured();
}
const last = measured();
assert.equal(failures, Math.ceil(count / 10));
const change = (name) => Number(((100 * (last[name] - first[name])) / first[name]).toFixed(2));
console.log(
  JSON.stringify({
    count,
    failures,
    linear_bytes: last.linear,
    heap_bytes: last.heap,
    linear_percent: change('linear'),
    heap_percent: change('heap'),
  }),
);
