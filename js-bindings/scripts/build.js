/**
 * `npm run build`: from `src` and `generated` to `dist`.
 *
 * The code is in the package once: `core.cjs` and `module.cjs` are scripts, without
 * imports and exports, which Node, browsers and bundlers run alike. They leave what they
 * make in the global object, and small files give it the names of an ES module and of
 * CommonJS. Node loads CommonJS whichever way the package is imported, so that a program
 * which mixes both ways has one instance of the module; `node*.js` only name the exports.
 * Types are written for CommonJS; those of the ES modules name them.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { chdir, exit } from 'node:process';
import { fileURLToPath } from 'node:url';

import { build, transform } from 'esbuild';

import './lua.js';
import { roll } from './types.js';

chdir(fileURLToPath(new URL('..', import.meta.url)));
if (!existsSync('generated/module.js')) {
  console.error('error: generated/ is missing; run `cargo xtask wasm`');
  exit(1);
}
rmSync('dist', { recursive: true, force: true });
rmSync('build/parts', { recursive: true, force: true });
mkdirSync('build', { recursive: true });

const TARGET = ['es2022', 'node20'];
const small = { target: TARGET, minify: true };

/** @satisfies {import('esbuild').BuildOptions} */
const common = {
  bundle: true,
  format: 'esm',
  ...small,
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
  entryPoints: { fallback: 'src/fallback.ts' },
  outdir: 'dist',
  outExtension: { '.js': '.cjs' },
  format: 'iife',
});
copyFileSync('generated/module.js', 'dist/module.cjs');

// Of Node alone is `redis`, as it names Node's own modules. It imports the whole of `index`, so
// that all of that is in the part which both share.
writeFileSync(
  'build/redis.ts',
  "import '../src/index.js';\nexport * from '../src/redis/index.js';\n",
);
const parts = await build({
  ...common,
  entryPoints: { index: 'src/index.ts', redis: 'build/redis.ts' },
  outdir: 'build/parts',
  chunkNames: 'core',
  platform: 'node',
  packages: 'external',
  splitting: true,
  metafile: true,
});
const key = await core();
cjs('redis', await transform(read('redis'), { ...small, format: 'cjs', platform: 'node' }));
appendFileSync(
  'dist/redis.cjs',
  named(
    'module.exports',
    exported('redis').map((name) => [name, name]),
  ),
);
index();
for (const [name, face] of [
  ['index', 'node'],
  ['redis', 'node-redis'],
]) {
  const list = exported(name).map((it) => `  ${it},\n`);
  writeFileSync(`dist/${face}.js`, `export {\n${list.join('')}} from './${name}.cjs';\n`);
}
types();

/** @param {string} part */
function read(part) {
  return readFileSync(`build/parts/${part}.js`, 'utf8');
}

/** @param {string | undefined} part */
function exported(part) {
  return parts.metafile.outputs[`build/parts/${part}.js`]?.exports ?? [];
}

/**
 * Writes what both entries share as a script, and for CommonJS a file that gives it. The key has
 * a hash of the code: several copies of the package share it, several versions do not.
 */
async function core() {
  const code = read('core').replaceAll(/import\s*"\.\/module\.cjs";/g, '');
  const hash = createHash('sha256').update(code).digest('hex').slice(0, 12);
  const key = `globalThis[Symbol.for('swarmbus.core.${hash}')]`;
  const script = await transform(code, { ...small, format: 'iife', globalName: 'core' });
  const expression = script.code.trim().replace(/^(?:"use strict";)?var core=/, '');
  if (expression === script.code.trim() || /\bimport\b\s*["{*]/.test(code)) {
    throw new Error('esbuild writes the shared part in another way');
  }
  writeFileSync('dist/core.cjs', `${key} ??= ${expression}\n`);
  writeFileSync(
    'dist/shared.cjs',
    `globalThis[Symbol.for('swarmbus.load')] = () => require('./fallback.cjs');\n` +
      `require('./module.cjs');\nrequire('./core.cjs');\nmodule.exports = ${key};\n`,
  );
  return key;
}

/** Writes the two faces of the core. */
function index() {
  const list = /export\s*\{([^}]*)\}/.exec(read('index'))?.[1] ?? '';
  const locals = new Map(pairs(/import\s*\{([^}]*)\}/.exec(read('index'))?.[1] ?? '', true));
  const names = pairs(list).map(
    ([local, name]) => /** @type {const} */ ([name, locals.get(local) ?? local]),
  );
  if (names.length !== exported('index').length) throw new Error('index.js has code of its own');
  const esm = names.map(([name, inner]) => `  ${inner}: ${name},\n`);
  writeFileSync(
    'dist/index.js',
    `import './module.cjs';\nimport './core.cjs';\nexport const {\n${esm.join('')}} = ${key};\n`,
  );
  appendFileSync('dist/core.cjs', named(key, names));
  const code = names.map(([name, inner]) => `exports.${name} = core.${inner};\n`);
  cjs('index', { code: `const core = require('./core.js');\n${code.join('')}` });
}

/**
 * Code that gives classes their names again, which making the code small takes from them, and
 * errors what their stack begins with.
 *
 * @param {string} from the object that holds them
 * @param {(readonly [name: string, key: string])[]} exported
 */
function named(from, exported) {
  const list = exported.filter(([name]) => /^[A-Z]+[a-z]/.test(name));
  const keys = list.map(([name, key]) => `${key}:${JSON.stringify(name)}`).join();
  return (
    `for(const[key,value]of Object.entries({${keys}})){const it=${from}[key];` +
    `if(typeof it==='function'){Object.defineProperty(it,'name',{value});` +
    `if(it.prototype instanceof Error)Object.defineProperty(it.prototype,'name',{value})}}\n`
  );
}

/**
 * The names in the braces of an import or export.
 *
 * @param {string} list
 * @param {boolean} [swapped]
 * @returns {[string, string][]}
 */
function pairs(list, swapped = false) {
  return list.split(',').map((item) => {
    const [from = '', to = from] = item.trim().split(/\s+as\s+/);
    return swapped ? [to, from] : [from, to];
  });
}

/**
 * @param {string} name
 * @param {{ code: string }} part
 */
function cjs(name, { code }) {
  const shared = code.replaceAll(/require\((["'])\.\/core\.js\1\)/g, "require('./shared.cjs')");
  writeFileSync(`dist/${name}.cjs`, shared);
}

/** Writes the types, one file for each entry. */
function types() {
  const args = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.types.json'];
  if (spawnSync('node', args, { stdio: 'inherit' }).status !== 0) exit(1);
  roll('dist/types', ['index.d.ts', 'redis/index.d.ts']);
  writeFileSync('dist/types/package.json', '{ "type": "commonjs" }\n');
  writeFileSync('dist/types/fallback.d.ts', 'export {};\n');
  writeFileSync('dist/index.d.ts', "export * from './types/index.js';\n");
  writeFileSync('dist/redis.d.ts', "export * from './types/redis/index.js';\n");
}
