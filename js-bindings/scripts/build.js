/**
 * `npm run build`: from `src` and `generated` to `dist`.
 *
 * Node loads one CommonJS file whichever way it is imported, so that a program which
 * mixes both ways has one instance; `node.js` only names its exports. Bundlers and
 * browsers get an ES module. Types are written twice, once for each kind.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { chdir, exit } from 'node:process';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

import './lua.js';

chdir(fileURLToPath(new URL('..', import.meta.url)));
if (!existsSync('generated/module.js')) {
  console.error('error: generated/ is missing; run `cargo xtask wasm`');
  exit(1);
}
rmSync('dist', { recursive: true, force: true });

const common = {
  bundle: true,
  target: ['es2022', 'node20'],
  external: ['./fallback.cjs', 'node:*', 'redis', 'ioredis'],
  legalComments: /** @type {const} */ ('none'),
  logLevel: /** @type {const} */ ('warning'),
};
const esm = await build({
  ...common,
  entryPoints: ['src/index.ts'],
  outfile: 'dist/index.js',
  format: 'esm',
  define: { require: 'undefined' },
  metafile: true,
});
await build({
  ...common,
  entryPoints: ['src/index.ts'],
  outfile: 'dist/index.cjs',
  format: 'cjs',
  platform: 'node',
});
await build({
  ...common,
  entryPoints: ['src/fallback.ts'],
  outfile: 'dist/fallback.cjs',
  format: 'iife',
  minify: true,
});

// It has the same events and errors as the package itself, whose code it leaves there.
const main = { path: './index.cjs', external: true };
await build({
  ...common,
  entryPoints: ['src/redis/index.ts'],
  outfile: 'dist/redis.cjs',
  format: 'cjs',
  platform: 'node',
  plugins: [
    { name: 'main', setup: (on) => on.onResolve({ filter: /^(\.\.\/)+index\.js$/ }, () => main) },
  ],
});
const redisNames = await build({
  ...common,
  entryPoints: ['src/redis/index.ts'],
  format: 'esm',
  platform: 'node',
  write: false,
  metafile: true,
});

/**
 * An ES module that names what a CommonJS file exports.
 * @param {string} file
 * @param {string} from
 * @param {import('esbuild').Metafile} metafile
 */
function nameExports(file, from, metafile) {
  const names = Object.values(metafile.outputs).flatMap((output) => output.exports);
  writeFileSync(`dist/${file}`, `export {\n  ${names.join(',\n  ')},\n} from './${from}';\n`);
}
nameExports('node.js', 'index.cjs', esm.metafile);
nameExports('redis.js', 'redis.cjs', redisNames.metafile);

const tsc = spawnSync('node', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.types.json'], {
  stdio: 'inherit',
});
if (tsc.status !== 0) exit(1);
cpSync('dist/esm', 'dist/cjs', { recursive: true });
writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n');
