/**
 * What channels are called on the server: the table is in `crates/redis/src/channel.rs`. The braces
 * are a hash tag, which keeps all keys of a channel in one slot.
 */

import type { Channel, Mode } from '../index.js';

/** What a channel is called on the server, for one purpose: `live`, `log`, … */
export function key(prefix: string, channel: Channel, purpose: string): string {
  return `${prefix}:{${channel.name}}:${purpose}`;
}

/** The purpose of what events of a channel are published to. */
export const MAIN_PURPOSE: Readonly<Record<Mode, string>> = {
  live: 'live',
  durable: 'log',
  group: 'tasks',
};

/** Where one transport tries whether what it publishes arrives. */
export function probeKey(prefix: string, instance: string): string {
  return `${prefix}:{probe}:${instance}`;
}
