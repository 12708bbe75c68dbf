/**
 * `npm test [NAME…]`: runs the tests in `test` and the examples of the documentation on
 * the built package: all, or those whose file name holds one of the words (`examples`
 * for those). Twice: as it is, and without WebAssembly.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { argv, chdir, env, exit } from 'node:process';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

import { writeExamples } from './examples.js';

chdir(fileURLToPath(new URL('..', import.meta.url)));
const words = argv.slice(2);
const wanted = readdirSync('test', { recursive: true, encoding: 'utf8' }).filter(
  (name) =>
    name.endsWith('.test.ts') && (words.length === 0 || words.some((word) => name.includes(word))),
);
const examples = words.length === 0 || words.includes('examples') ? writeExamples() : [];
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
const files = wanted.map((name) => `build/test/${name.replace(/\.ts$/, '.mjs')}`);

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

for (const engine of ['wasm', 'js']) {
  console.log(`# engine: ${engine}`);
  const flags = engine === 'js' ? ['--no-expose-wasm'] : [];
  const run = spawnSync(
    'node',
    [...flags, '--enable-source-maps', '--expose-gc', '--test', ...files],
    {
      stdio: 'inherit',
      env: { ...env, SWARMBUS_TEST_ENGINE: engine },
    },
  );
  if (run.status !== 0) exit(1);
}
