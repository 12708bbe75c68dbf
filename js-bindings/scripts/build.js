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

chdir(fileURLToPath(new URL('..', import.meta.url)));
if (!existsSync('generated/module.js')) {
  console.error('error: generated/ is missing; run `cargo xtask wasm`');
  exit(1);
}
rmSync('dist', { recursive: true, force: true });

const common = {
  bundle: true,
  target: ['es2022', 'node20'],
  external: ['./fallback.cjs', 'node:*'],
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

const names = esm.metafile.outputs['dist/index.js']?.exports ?? [];
writeFileSync('dist/node.js', `export {\n  ${names.join(',\n  ')},\n} from './index.cjs';\n`);

const tsc = spawnSync('node', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.types.json'], {
  stdio: 'inherit',
});
if (tsc.status !== 0) exit(1);
cpSync('dist/esm', 'dist/cjs', { recursive: true });
writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n');
