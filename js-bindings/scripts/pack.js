/**
 * `npm run check:pack`: packs the package as it would be published, installs it into
 * an empty folder, and runs it there as its users would: as an ES module, as CommonJS,
 * without WebAssembly, bundled, and type-checked by a strict TypeScript project that
 * has no other types than TypeScript's own. Prints the packed size, and fails when it is over the limit.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chdir, cwd, exit } from 'node:process';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

/** Of the packed size, in bytes. */
const LIMIT = 250_000;

/** What each program does, with the module in whichever form: core, the codec, and the bus. */
const USE = `
const { Backoff, decode, encode, EventBus, liveHandles, status } = swarmbus;
const bus = new EventBus();
let delay = 0;
bus.subscribe('task.*', (event) => (delay = decode(encode(event)).payload.delay));
const payload = { delay: Backoff.exponential(100).delay(2) };
Promise.resolve(bus.dispatch({ type: 'task.done', payload }))
  .then(() => bus.close())
  .then(() => console.log(status().engine, delay, liveHandles()));
`;

chdir(fileURLToPath(new URL('..', import.meta.url)));
const home = cwd();
let exitCode = 0;
const folder = mkdtempSync(join(tmpdir(), 'swarmbus-pack-'));
try {
  const size = check();
  await bundled();
  types();
  const packed = (size / 1000).toFixed(1);
  console.log(`packed: ${packed} KB, at most ${LIMIT / 1000} KB`);
  if (size > LIMIT) exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
exit(exitCode);

function check() {
  const packed = run(home, 'npm', 'pack', '--silent', '--pack-destination', folder).trim();
  const archive = join(folder, packed.split('\n').at(-1) ?? '');
  write('package.json', '{ "name": "user", "version": "1.0.0", "private": true }');
  run(folder, 'npm', 'install', '--silent', '--no-audit', '--no-fund', '--offline', archive);

  write('esm.mjs', `import * as swarmbus from 'swarmbus';\n${USE}`);
  write('cjs.cjs', `const swarmbus = require('swarmbus');\n${USE}`);
  for (const file of ['esm.mjs', 'cjs.cjs']) {
    expect(file, run(folder, 'node', file), 'wasm 400 0\n');
    expect(
      `${file} without WebAssembly`,
      run(folder, 'node', '--no-expose-wasm', file),
      'js 400 0\n',
    );
    // Settings of a page that forbids code from strings.
    const strict = '--disallow-code-generation-from-strings';
    expect(`${file} without eval`, run(folder, 'node', strict, file), 'wasm 400 0\n');
  }
  write(
    'both.mjs',
    `import { createRequire } from 'node:module';
     import { CircuitBreaker } from 'swarmbus';
     const other = createRequire(import.meta.url)('swarmbus');
     console.log(other.CircuitBreaker === CircuitBreaker);`,
  );
  expect('one instance for both kinds', run(folder, 'node', 'both.mjs'), 'true\n');
  return statSync(archive).size;
}

/** The module of browsers and bundlers, alone and with the fallback before it. */
async function bundled() {
  write('page.mjs', `import * as swarmbus from 'swarmbus';\n${USE}`);
  write('safe.mjs', `import 'swarmbus/fallback';\nimport * as swarmbus from 'swarmbus';\n${USE}`);
  for (const name of ['page', 'safe']) {
    await build({
      entryPoints: [join(folder, `${name}.mjs`)],
      outfile: join(folder, `${name}.bundle.mjs`),
      bundle: true,
      format: 'esm',
      platform: 'browser',
      logLevel: 'warning',
    });
    expect(`${name}, bundled`, run(folder, 'node', `${name}.bundle.mjs`), 'wasm 400 0\n');
  }
  const out = run(folder, 'node', '--no-expose-wasm', 'safe.bundle.mjs');
  expect('safe, bundled, without WebAssembly', out, 'js 400 0\n');
}

/** Strict, with no types but the package's own, and none of its files skipped. */
function types() {
  write(
    'use.ts',
    `import { Backoff, CircuitBreaker, EventBus, Router, decode, status, type Status } from 'swarmbus';
     import 'swarmbus/fallback';
     const now: Status = status();
     using breaker = new CircuitBreaker({ openBackoff: Backoff.exponential(100) });
     using router = new Router<{ readonly name: string }>();
     const names: string[] = router.matches(now.engine).map(({ name }) => name);
     export const state: 'closed' | undefined = breaker.state === 'closed' ? 'closed' : undefined;
     export { names };
     // @ts-expect-error settings are checked
     new CircuitBreaker({ openFor: '5' });
     const bus = new EventBus<{ 'task.done': { id: number } }>();
     bus.subscribe('task.*', ({ payload }): number => payload.id);
     // @ts-expect-error payloads are checked
     bus.tryPublish({ type: 'task.done', payload: { id: '7' } });
     export const id: number = decode<'task.done', { id: number }>(new Uint8Array()).payload.id;`,
  );
  // Of Node.js, whose own types its users have.
  write(
    'redis.ts',
    `import { Messenger } from 'swarmbus';
     import { RedisTransport, type RedisOptions } from 'swarmbus/redis';
     export const join = async (url: string, options: RedisOptions): Promise<Messenger> =>
       Messenger.join(await RedisTransport.connect(url, options), 'swarm', 'agent');`,
  );
  const tsc = join(home, 'node_modules/typescript/bin/tsc');
  const common = ['--strict', '--noEmit', '--skipLibCheck', 'false', '--types', ''];
  const target = ['--target', 'ES2022', '--lib', 'ES2022,DOM'];
  for (const [module, resolution] of [
    ['NodeNext', 'NodeNext'],
    ['ESNext', 'Bundler'],
  ]) {
    const kind = ['--module', String(module), '--moduleResolution', String(resolution)];
    const check = [...common, ...target, ...kind];
    run(folder, 'node', tsc, ...check, 'use.ts');
    const node = join(folder, 'node_modules/@types');
    symlinkSync(join(home, 'node_modules/@types'), node, 'junction');
    run(folder, 'node', tsc, ...check, 'redis.ts');
    rmSync(node);
    console.log(`ok: types, ${resolution}`);
  }
}

/** @param {string} name @param {string} text */
function write(name, text) {
  writeFileSync(join(folder, name), text);
}

/** @param {string} at @param {string} program @param {string[]} args */
function run(at, program, ...args) {
  return execFileSync(program, args, {
    cwd: at,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** @param {string} what @param {string} found @param {string} wanted */
function expect(what, found, wanted) {
  if (found !== wanted) throw new Error(`${what}: ${JSON.stringify(found)}`);
  console.log(`ok: ${what}`);
}
