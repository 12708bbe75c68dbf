/** Programs of the Rust workspace. */

import { spawnSync } from 'node:child_process';
import { env } from 'node:process';

/** Each, and the variable that may name it. */
const PROGRAMS = {
  codec_peer: 'SWARMBUS_CODEC_PEER',
  peer: 'SWARMBUS_PEER',
  swarmbus: 'SWARMBUS_CLI',
};

/**
 * All at once and with all features: as `cargo test --workspace --all-features` builds them, so that
 * no dependency is built again.
 */
const BUILD =
  'build -q --workspace --all-features --example codec_peer --example peer --bin swarmbus';

/** Its path; it is built, unless its variable names it. `npm test` runs in the package's folder. */
export function programPath(name: keyof typeof PROGRAMS): string {
  const named = env[PROGRAMS[name]];
  if (named !== undefined) return named;
  const args = [...BUILD.split(' '), '--message-format', 'json'];
  const done = spawnSync('cargo', args, { cwd: '..', encoding: 'utf8', maxBuffer: 64 << 20 });
  if (done.status !== 0) throw new Error(`${name} cannot be built:\n${done.stderr}`);
  for (const line of done.stdout.split('\n')) {
    const { target, executable } = JSON.parse(line || '{}') as {
      target?: { name: string };
      executable?: string | null;
    };
    if (target?.name === name && executable != null) return executable;
  }
  throw new Error(`cargo names no program ${name}`);
}
