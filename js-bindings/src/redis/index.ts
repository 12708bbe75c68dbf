/**
 * `swarmbus/redis`: joins processes through a Redis or Valkey server, over the package `redis` or
 * `ioredis`.
 */
/// <reference types="node" preserve="true" />

export { ConnectionError, type ConnectionErrorCode } from './connection-error.js';
export type { Address, Arg, Call, Connection, Driver, Outcome, Reply } from './driver.js';
export { ioredis } from './drivers/ioredis.js';
export { nodeRedis } from './drivers/node-redis.js';
export type { AdaptiveRate, Overflow } from '../index.js';
export { SettingsError } from './settings-error.js';
export type { RedisOptions } from './settings.js';
export { RedisTransport } from './transport.js';
