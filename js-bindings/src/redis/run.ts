/**
 * {@link runOf}: which run of which server answers on a connection. A run ends when the server is
 * started again or another takes over.
 */

import { ConnectionError } from './connection-error.js';
import type { Arg, Connection, Reply } from './driver.js';
import type { Link } from './link.js';

/** 8 bytes as `crates/redis/src/server.rs` makes them; none if it is not known. */
export type Run = Buffer;

export const UNKNOWN: Run = Buffer.alloc(0);

/** Asks who answers. A user that may not ask INFO does without. @throws {@link ConnectionError} */
export async function runOf(link: Link, connection: Connection): Promise<Run> {
  const sections = ['INFO', 'server', 'replication', 'persistence'];
  const reply = await allowed(link, connection, sections);
  const info = new Map<string, string>();
  for (const line of String(reply ?? '').split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) info.set(line.slice(0, colon), line.slice(colon + 1));
  }
  const id = /^[0-9a-f]{16}/.exec(info.get('run_id') ?? '')?.[0];
  if (id === undefined) return UNKNOWN;
  const run = Buffer.from(id, 'hex').reverse();
  // Nobody else has what it has, nor did it get that from anybody while it runs.
  const alone =
    info.get('role') === 'master' &&
    info.get('connected_slaves') === '0' &&
    info.get('second_repl_offset') === '-1';
  const keeps = alone && info.get('aof_enabled') === '1' && (await syncsAlways(link, connection));
  run[0] = ((run[0] as number) & 0xfe) | (keeps ? 1 : 0);
  return run;
}

/** Whether everything is on disk before it is answered. */
async function syncsAlways(link: Link, connection: Connection): Promise<boolean> {
  const names = ['appendfsync', 'no-appendfsync-on-rewrite'];
  const reply = await allowed(link, connection, ['CONFIG', 'GET', ...names]);
  const words = Array.isArray(reply) ? reply.map(String) : [];
  const is = (name: string, value: string): boolean => words[words.indexOf(name) + 1] === value;
  return is('appendfsync', 'always') && is('no-appendfsync-on-rewrite', 'no');
}

/** Asks what not every user may ask and not every server answers; `undefined` without an answer. */
async function allowed(
  link: Link,
  connection: Connection,
  command: readonly Arg[],
): Promise<Reply | undefined> {
  try {
    return await link.ask(connection, command);
  } catch (error) {
    const why = ConnectionError.from(error);
    if (['no_permission', 'too_old', 'protocol'].includes(why.code)) return undefined;
    throw why;
  }
}
