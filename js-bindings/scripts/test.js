/**
 * `npm test [NAME…]`: runs the tests in `test` and the examples of the documentation on
 * the built package: all, or those whose file name holds one of the words (`examples`
 * for those). Twice: as it is, and without WebAssembly.
 *
 * `npm test -- --in KIND=PROGRAM…`: once in each of these engines instead; a kind is `node`, `deno`
 * or `bun`. `cargo xtask engines` gets them and does that.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { argv, chdir, env, exit, versions } from 'node:process';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

import { writeExamples } from './examples.js';

chdir(fileURLToPath(new URL('..', import.meta.url)));
/** @type {Record<string, string[]>} */
const FLAGS = {
  node: ['--enable-source-maps', '--expose-gc', '--test', ...concurrently()],
  deno: ['test', '--quiet', '--allow-all', '--no-check', '--v8-flags=--expose-gc'],
  bun: ['test'],
};
/** What starts Node.js or Rust beside itself, or goes by the order of turns of the event loop. */
const ONCE = /fuzz|rust|interop|load-test|redis.transport/;

const words = argv.slice(2).filter((word) => word !== '--in' && !word.includes('='));
const engines = argv.slice(2).filter((word) => word.includes('='));
const wanted = readdirSync('test', { recursive: true, encoding: 'utf8' }).filter(
  (name) =>
    name.endsWith('.test.ts') &&
    (words.length === 0 || words.some((word) => name.includes(word))) &&
    (engines.length === 0 || !ONCE.test(name)),
);
const all = words.length === 0 && engines.length === 0;
const examples = all || words.includes('examples') ? writeExamples() : [];
if (wanted.length + examples.length === 0) {
  console.error('error: no test file has such a name');
  exit(1);
}

// `swarmbus` itself stays an import: the package is found by its own name. What a test takes from
// inside of `src/redis` has its events from there too.
const face = resolve('src/index.js');
/** @type {import('esbuild').Plugin} */
const built = {
  name: 'built',
  setup: (on) =>
    on.onResolve({ filter: /\/index\.js$/ }, ({ resolveDir, path }) =>
      resolve(resolveDir, path) === face ? { path: 'swarmbus', external: true } : undefined,
    ),
};
rmSync('build/test', { recursive: true, force: true });
await build({
  entryPoints: wanted.map((name) => `test/${name}`),
  outdir: 'build/test',
  outbase: 'test',
  outExtension: { '.js': '.mjs' },
  bundle: true,
  packages: 'external',
  plugins: [built],
  format: 'esm',
  platform: 'node',
  target: 'node20',
  sourcemap: 'inline',
  logLevel: 'warning',
});
const files = wanted.map((name) => `./build/test/${name.replace(/\.ts$/, '.mjs')}`);

if (examples.length > 0) {
  const tsc = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.examples.json'];
  if (spawnSync('node', tsc, { stdio: 'inherit' }).status !== 0) exit(1);
  await build({
    entryPoints: examples,
    outdir: 'build/examples',
    outExtension: { '.js': '.mjs' },
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
  });
  // To the runner a file without tests is a test by itself.
  files.push(...examples.map((name) => name.replace(/\.ts$/, '.mjs')));
}

for (const engine of engines) {
  const [kind = '', ...path] = engine.split('=');
  console.log(`# ${engine}`);
  run(path.join('='), FLAGS[kind] ?? [], 'wasm');
}
if (engines.length > 0) exit();
for (const form of ['wasm', 'js']) {
  console.log(`# engine: ${form}`);
  run('node', [...(form === 'js' ? ['--no-expose-wasm'] : []), ...(FLAGS['node'] ?? [])], form);
}

/** Most files wait for a server or a clock. Node.js is told since 20.10 how many run at a time. */
function concurrently() {
  const [major = 0, minor = 0] = versions.node.split('.').map(Number);
  return major > 20 || minor >= 10 ? [`--test-concurrency=${2 * availableParallelism()}`] : [];
}

/** @param {string} program @param {string[]} flags @param {string} form */
function run(program, flags, form) {
  const { status, error } = spawnSync(program, [...flags, ...files], {
    stdio: 'inherit',
    // A test that hangs is one that fails.
    timeout: 15 * 60_000,
    env: { ...env, SWARMBUS_TEST_ENGINE: form },
  });
  if (error !== undefined) console.error(`error: ${program}: ${error.message}`);
  if (status !== 0) exit(1);
}
