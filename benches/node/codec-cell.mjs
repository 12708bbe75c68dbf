/**
 * One codec, one direction, one workload, interleaved with JSON, in a process of its
 * own: `node codec-cell.mjs OPERATION WORKLOAD CODEC MILLISECONDS`. Prints one line
 * of JSON. Results are compared with what went in, before and after.
 */
import assert from 'node:assert/strict';
import { argv } from 'node:process';

import { cases } from './codec-cases.mjs';

const [operation, name, rival, milliseconds] = argv.slice(2);
const budget = Number(milliseconds);
const { json, other, verify, events } = await cases(operation, name, rival);
/** Milliseconds of one measurement: short, so that other programs seldom come between. */
const SLICE = 2;
const ROUNDS = Math.max(15, Math.round(budget / 2 / SLICE));

const now = () => Number(process.hrtime.bigint());
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

/** How many calls take about so many milliseconds. */
function calls(run, target) {
  let count = 0;
  const start = now();
  while (now() - start < target * 1e6) {
    run();
    count++;
  }
  return Math.max(1, Math.round(count));
}

/** Nanoseconds for one event. */
function time(run, count) {
  const start = now();
  for (let i = 0; i < count; i++) run();
  return (now() - start) / count / events;
}

verify();
// What V8 compiles takes the same time in a short run.
const warm = Math.max(budget / 4, 250);
for (let i = 0; i < 2; i++) {
  calls(json, warm);
  calls(other, warm);
}
const [jsonCalls, otherCalls] = [calls(json, SLICE), calls(other, SLICE)];
const [ratios, ours, theirs] = [[], [], []];
for (let round = 0; round < ROUNDS; round++) {
  let [a, b] = [0, 0];
  if (round % 2) {
    a = time(json, jsonCalls);
    b = time(other, otherCalls);
  } else {
    b = time(other, otherCalls);
    a = time(json, jsonCalls);
  }
  ratios.push(a / b);
  theirs.push(a);
  ours.push(b);
}
verify();
assert.equal(ratios.length, ROUNDS);
const round3 = (x) => Number(x.toPrecision(4));
console.log(
  JSON.stringify({
    operation,
    workload: name,
    codec: rival,
    ratio: round3(median(ratios)),
    // Of the quickest slices: what is left when other programs disturb.
    best_ratio: round3(Math.min(...theirs) / Math.min(...ours)),
    nanoseconds: round3(median(ours)),
    json_nanoseconds: round3(median(theirs)),
  }),
);
