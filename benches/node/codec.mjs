/**
 * The codec against JSON and its rivals: `node codec.mjs [--json FILE] [--quick]
 * [--only OPERATION] [--processes N]`. Each codec runs in a process of its own, interleaved with JSON
 * (`codec-cell.mjs`); a cell is the median of 3 processes. Prints tables of ratios, how
 * often JSON's time a codec's goes into, and what falls short of the goals.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { execPath } from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { RIVALS } from './codec-rivals.mjs';
import { REAL, SIZES } from './codec-workloads.mjs';

const { values: options } = parseArgs({
  options: { json: { type: 'string' }, quick: { type: 'boolean' },
    processes: { type: 'string' }, only: { type: 'string' } },
});
const processes = options.quick ? 1 : Number(options.processes ?? 3);
const milliseconds = options.quick ? 300 : 3000;

/** The least ratio to JSON, and to `msgpackr plain` at every size. */
const GOALS = {
  encode: { '200B': 2, '1KB': 2.8, '10KB': 3.3, '100KB': 3.5, poly: 1.5 },
  decode: { '200B': 2.5, '1KB': 2.5, '10KB': 2.5, '100KB': 2.5, poly: 2.5 },
  route: { '200B': 40, '1KB': 40, '10KB': 40, '100KB': 40 },
  forward: { '1KB': 60, '10KB': 60, '100KB': 60 },
  float32: { encode: 50, decode: 30 },
};
const OVER_MSGPACKR = { encode: 1.3, decode: 2 };

/** Each cell: operation, workload, codec. */
function cells() {
  const all = [];
  for (const operation of ['encode', 'decode']) {
    for (const name of [...SIZES, ...REAL]) {
      for (const rival of RIVALS) {
        // Writing is the same, lazy or not.
        if (operation === 'decode' || rival !== 'swarmbus lazy') all.push([operation, name, rival]);
      }
    }
  }
  for (const size of ['200B', '1KB', '10KB', '100KB']) {
    all.push(['route', size, 'swarmbus']);
    for (const change of ['priority', 'priority, hop', 'priority, target, hop']) {
      all.push(['forward', size, change], ['forward', size, `${change}, cut`]);
    }
  }
  all.push(['float32', 'encode', 'swarmbus'], ['float32', 'decode', 'swarmbus']);
  return all.filter(([operation]) => options.only === undefined || operation === options.only);
}

function run(script, ...args) {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const flags = ['--expose-gc', path, ...args.map(String)];
  const { status, stdout, stderr } = spawnSync(execPath, flags, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${script} ${args.join(' ')} failed:\n${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

const rows = new Map();
const order = cells();
for (let round = 0; round < processes; round++) {
  for (const cell of order) {
    const row = run('codec-cell.mjs', ...cell, milliseconds);
    const key = cell.join('|');
    rows.set(key, [...(rows.get(key) ?? []), row]);
  }
}
const results = [...rows.values()].map((runs) => ({
  ...runs[0],
  ratio: median(runs.map(({ ratio }) => ratio)),
  best_ratio: median(runs.map(({ best_ratio }) => best_ratio)),
  nanoseconds: median(runs.map(({ nanoseconds }) => nanoseconds)),
  json_nanoseconds: median(runs.map(({ json_nanoseconds }) => json_nanoseconds)),
  least: Math.min(...runs.map(({ ratio }) => ratio)),
  most: Math.max(...runs.map(({ ratio }) => ratio)),
}));
const ratioOf = (operation, name, rival) =>
  results.find((row) => row.operation === operation && row.workload === name && row.codec === rival)
    ?.ratio;

for (const operation of new Set(results.map((row) => row.operation))) {
  const mine = results.filter((row) => row.operation === operation);
  const names = [...new Set(mine.map(({ workload }) => workload))];
  console.log(`\n${operation}: times as quick as JSON\n`);
  console.log(`| codec | ${names.join(' | ')} |`);
  console.log(`| --- |${' --- |'.repeat(names.length)}`);
  for (const rival of new Set(mine.map(({ codec }) => codec))) {
    const line = names.map((name) => ratioOf(operation, name, rival)?.toPrecision(3) ?? '');
    console.log(`| ${rival} | ${line.join(' | ')} |`);
  }
}

const short = [];
for (const { operation, workload, codec, ratio } of results) {
  const asked = operation === 'forward' ? !codec.endsWith(', cut') : codec === 'swarmbus';
  const goal = asked ? GOALS[operation]?.[workload] : undefined;
  if (goal !== undefined && ratio < goal) short.push({ operation, workload, codec, ratio, goal });
  const rival = ratioOf(operation, workload, 'msgpackr plain');
  if (codec === 'swarmbus' && SIZES.includes(workload) && rival !== undefined) {
    const over = ratio / rival;
    if (over < OVER_MSGPACKR[operation]) {
      short.push({
        operation,
        workload,
        codec: 'over msgpackr',
        ratio: over,
        goal: OVER_MSGPACKR[operation],
      });
    }
  }
}
console.log(short.length === 0 ? '\nall goals are reached' : '\nbelow the goal:');
for (const { operation, workload, codec, ratio, goal } of short) {
  console.log(`  ${operation} ${workload} (${codec}): ${ratio.toPrecision(3)}, goal ${goal}`);
}

const trips = options.quick ? 50_000 : 1_000_000;
const memory =
  options.only === undefined
    ? { few: run('codec-memory.mjs', trips), many: run('codec-memory.mjs', trips, 'poly') }
    : undefined;
const cold = options.only === undefined ? run('codec-cold.mjs', options.quick ? 3 : 15) : undefined;
if (memory !== undefined) {
  console.log(`\nmemory of ${trips} round trips, every tenth failing, of few and of many shapes:`, memory);
}
if (cold !== undefined) console.log('\nimport and first call in milliseconds:', cold);
if (options.json !== undefined) {
  writeFileSync(
    options.json,
    `${JSON.stringify({ rows: results, short, memory, cold }, null, 1)}\n`,
  );
}
