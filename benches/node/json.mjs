// JSON as Node reads and writes it, for the group `state` of the comparison.
//
//   node json.mjs FILE
//
// Reads the JSON in FILE. Then reads numbers, a line each, and answers with a line: the
// nanoseconds that so many rounds of writing and reading it took.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const state = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const thereAndBack = () => JSON.parse(JSON.stringify(state));
assert.deepEqual(thereAndBack(), state);

for await (const line of createInterface({ input: process.stdin })) {
  const began = process.hrtime.bigint();
  for (let round = Number(line); round > 0; round--) thereAndBack();
  console.log(String(process.hrtime.bigint() - began));
}
