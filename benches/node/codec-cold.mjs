/**
 * `node codec-cold.mjs TIMES`: milliseconds of importing a codec and writing and reading
 * the first event, in new processes, without what Node itself takes. Prints JSON.
 */
import { spawnSync } from 'node:child_process';
import { argv, execPath } from 'node:process';

const EVENT = `{ type: 'task.done', source: 'agent-1', payload: { id: 17, ok: true, note: 'first' } }`;
const PROGRAMS = {
  swarmbus: `const { encode, decode } = await import('swarmbus'); decode(encode(${EVENT}));`,
  msgpackr: `const { pack, unpack } = await import('msgpackr'); unpack(pack(${EVENT}));`,
};

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
const times = Object.fromEntries(Object.keys(PROGRAMS).map((name) => [name, []]));
for (let n = 0; n < Number(argv[2]); n++) {
  for (const [name, program] of Object.entries(PROGRAMS)) {
    const code = `const start = performance.now(); ${program} console.log(performance.now() - start);`;
    const args = ['--input-type=module', '-e', code];
    const { stdout, stderr, status } = spawnSync(execPath, args, {
      encoding: 'utf8',
      cwd: import.meta.dirname,
    });
    if (status !== 0) throw new Error(stderr);
    times[name].push(Number(stdout));
  }
}
console.log(
  JSON.stringify(
    Object.fromEntries(
      Object.entries(times).map(([name, list]) => [name, Number(median(list).toFixed(1))]),
    ),
  ),
);
