/**
 * `npm run build`: from `src` and `generated` to `dist`.
 *
 * Node loads CommonJS whichever way the package is imported, so that a program which
 * mixes both ways has one instance of the module; `node*.js` only name the exports.
 * Bundlers and browsers get ES modules. What several entries share is in files of its
 * own. Types are written twice, once for each kind.
 */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { posix } from 'node:path';
import { chdir, exit } from 'node:process';
import { fileURLToPath } from 'node:url';

import { build, transform } from 'esbuild';

import './lua.js';

chdir(fileURLToPath(new URL('..', import.meta.url)));
if (!existsSync('generated/module.js')) {
  console.error('error: generated/ is missing; run `cargo xtask wasm`');
  exit(1);
}
rmSync('dist', { recursive: true, force: true });
rmSync('build/node', { recursive: true, force: true });

const TARGET = ['es2022', 'node20'];
/** Entries of Node alone: they name Node's own modules. */
const NODE_ENTRIES = { redis: 'src/redis/index.ts' };

/** @satisfies {import('esbuild').BuildOptions} */
const common = {
  bundle: true,
  format: 'esm',
  target: TARGET,
  external: ['./fallback.cjs'],
  minify: true,
  plugins: [
    {
      name: 'module',
      setup({ onResolve }) {
        onResolve({ filter: /\/generated\/module\.js$/ }, () => ({
          path: './module.cjs',
          external: true,
        }));
      },
    },
  ],
  legalComments: 'none',
  logLevel: 'warning',
};

await build({
  ...common,
  entryPoints: { index: 'src/index.ts' },
  outdir: 'dist',
  platform: 'browser',
  define: { require: 'undefined' },
});
await build({
  ...common,
  entryPoints: { fallback: 'src/fallback.ts' },
  outdir: 'dist',
  outExtension: { '.js': '.cjs' },
  format: 'iife',
});
copyFileSync('generated/module.js', 'dist/module.cjs');
const node = await build({
  ...common,
  entryPoints: { index: 'src/index.ts', ...NODE_ENTRIES },
  outdir: 'build/node',
  platform: 'node',
  packages: 'external',
  splitting: true,
  metafile: true,
});

// esbuild splits ES modules only, so each part is turned into CommonJS by itself.
for (const file of readdirSync('build/node')) {
  const text = readFileSync(`build/node/${file}`, 'utf8');
  const part = await transform(text, {
    format: 'cjs',
    platform: 'node',
    target: TARGET,
    minify: true,
  });
  const code = part.code.replaceAll(/(require\("\.\/[\w-]+)\.js"\)/g, '$1.cjs")');
  writeFileSync(`dist/${file.replace(/\.js$/, '.cjs')}`, code);
}
for (const entry of ['index', ...Object.keys(NODE_ENTRIES)]) {
  const names = node.metafile.outputs[`build/node/${entry}.js`]?.exports ?? [];
  const face = entry === 'index' ? 'node' : `node-${entry}`;
  const list = names.map((name) => `  ${name},\n`).join('');
  writeFileSync(`dist/${face}.js`, `export {\n${list}} from './${entry}.cjs';\n`);
}

const reached = new Set();
types('esm');
// Documentation once is enough: editors show it to those who import.
types('cjs', '--removeComments');
writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n');

/**
 * Writes the types of one kind, and takes out those that nobody can reach.
 *
 * @param {string} kind
 * @param {string[]} flags
 */
function types(kind, ...flags) {
  const args = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.types.json', ...flags];
  const tsc = spawnSync('node', [...args, '--outDir', `dist/${kind}`], { stdio: 'inherit' });
  if (tsc.status !== 0) exit(1);
  reached.clear();
  for (const source of ['src/index.ts', 'src/fallback.ts', ...Object.values(NODE_ENTRIES)]) {
    reach(kind, source.replace(/^src\//, '').replace(/\.ts$/, '.d.ts'));
  }
  for (const file of readdirSync(`dist/${kind}`, { recursive: true, encoding: 'utf8' })) {
    if (file.endsWith('.d.ts') && !reached.has(file)) rmSync(`dist/${kind}/${file}`);
  }
}

/**
 * Notes a file of types and those that it names.
 *
 * @param {string} kind
 * @param {string} file
 */
function reach(kind, file) {
  if (reached.has(file)) return;
  reached.add(file);
  // An import for what it does says nothing about types.
  const path = `dist/${kind}/${file}`;
  const text = readFileSync(path, 'utf8').replaceAll(/^import ['"][^'"]*['"];\n/gm, '');
  writeFileSync(path, text);
  for (const [, name] of text.matchAll(/['"](\.[^'"]+)\.js['"]/g)) {
    reach(kind, posix.join(posix.dirname(file), `${name}.d.ts`));
  }
}
