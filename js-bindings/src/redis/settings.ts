/** {@link RedisOptions}: where the server is, how patient to be, and what is kept. */

import { checkOverflow } from '../bus/overflow.js';
import type { Overflow } from '../index.js';
import { kindFault, type Kinds } from '../kinds.js';
import { positive } from '../messenger/number.js';
import { addressOf } from './address.js';
import type { Address, Driver } from './driver.js';
import { nodeRedis } from './drivers/node-redis.js';
import { SettingsError } from './settings-error.js';

/** Settings of a transport. All times are milliseconds. */
export interface RedisOptions {
  /** Which client makes the connections. Default {@link nodeRedis}. */
  driver?: Driver;
  /** What all names on the server begin with. Default `swarmbus`. */
  prefix?: string;
  /** Options for TLS, as `tls.connect` takes them, with a `rediss://` URL. */
  tls?: Readonly<Record<string, unknown>>;
  /** How long making a connection may take, log-in included. Default 5,000. */
  connectTimeout?: number;
  /** How long an answer may take before the connection counts as broken. Default 5,000. */
  responseTimeout?: number;
  /** How often it is tried whether a published event still arrives. Default 5,000. */
  probeEvery?: number;
  /** The delays between tries to connect, which double from `base` to `cap`, with full jitter. Default 100 and 1,000. */
  backoff?: { readonly base: number; readonly cap: number };
  /** The most events in one message on the way. Default 512. */
  batchEvents?: number;
  /** The most bytes in one message that has more than one event. Default 128 KiB. */
  batchBytes?: number;
  /** How long a message that is not full waits for more events when nothing else is on its way. Default 0. */
  batchDelay?: number;
  /** The most events that wait to be sent in each mode. Default 65,536. */
  bufferEvents?: number;
  /** The most bytes that wait to be sent in each mode. Default 64 MiB. */
  bufferBytes?: number;
  /**
   * What happens to events that find the buffer full. Default `reject`: publishers wait.
   * `drop_lowest_priority` refuses an event that is no more urgent than what waits. With
   * `adaptive_rate`, publishers of less than priority 8 wait already when the buffer fills up, and
   * the more urgent ones pass them.
   */
  overflow?: Overflow;
  /** How long `publish` waits for room, and `flush` for a sign of progress. Default 30,000. */
  patience?: number;
  /** How many events a durable channel keeps. Default 1,000,000. */
  retention?: number;
  /** How long a durable channel to which nothing is published keeps its events. Default a day. */
  retentionTime?: number;
  /** How many tasks a group channel holds that some group has yet to do. Default 1,000,000. */
  maxTasks?: number;
  /** How many dead letters of each group channel are kept. Default 1,000. */
  deadLetters?: number;
  /** A group that nobody worked for this long holds no tasks back any more. Default 7 days. */
  groupTtl?: number;
  /** How long the server remembers what was published, to know it when it is sent again. Default a day. */
  remember?: number;
  /** How often a quiet durable subscription asks whether it really has all. Default 40,000. */
  checkEvery?: number;
}

/** {@link RedisOptions} without holes. */
export interface Settings extends Required<Omit<RedisOptions, 'tls'>> {
  readonly address: Address;
  /** Host and port, or the path of a socket. */
  readonly place: string;
  readonly tls: Readonly<Record<string, unknown>> | undefined;
  /** How long epoch and offset of a durable channel are kept. */
  readonly metaTtl: number;
  /** A consumer that was silent this long and has nothing in hand is removed. */
  readonly consumerTtl: number;
  /** How often a member of a group looks for what can be removed. */
  readonly tidyEvery: number;
}

const DAY = 24 * 3_600_000;

/** Clients set a timer for it. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** Redis refuses times that overflow when they are added to its clock's. */
const LONGEST = 2 ** 42;

const KINDS: Kinds<RedisOptions> = {
  driver: 'object',
  prefix: 'string',
  tls: 'object',
  connectTimeout: 'number',
  responseTimeout: 'number',
  probeEvery: 'number',
  backoff: 'object',
  batchEvents: 'number',
  batchBytes: 'number',
  batchDelay: 'number',
  bufferEvents: 'number',
  bufferBytes: 'number',
  overflow: 'string object',
  patience: 'number',
  retention: 'number',
  retentionTime: 'number',
  maxTasks: 'number',
  deadLetters: 'number',
  groupTtl: 'number',
  remember: 'number',
  checkEvery: 'number',
};

/** @throws {@link SettingsError} */
export function settingsOf(url: string, options: RedisOptions = {}): Settings {
  const wrong = kindFault(options, KINDS);
  if (wrong !== undefined)
    throw new SettingsError('setting', `${wrong.name} must be ${wrong.must}`);
  if (options.driver !== undefined && typeof options.driver.connect !== 'function') {
    throw new SettingsError('setting', 'driver must be nodeRedis() or ioredis()');
  }
  const number = (
    name: keyof RedisOptions,
    fallback: number,
    most = Number.MAX_SAFE_INTEGER,
  ): number => {
    try {
      return Math.min(positive(name, (options[name] as number | undefined) ?? fallback), most);
    } catch (error) {
      throw new SettingsError('number', (error as Error).message);
    }
  };
  const address = addressOf(url);
  const retentionTime = number('retentionTime', DAY, LONGEST);
  const backoff = options.backoff ?? { base: 100, cap: 1_000 };
  const batchDelay = options.batchDelay ?? 0;
  const times = { batchDelay, 'backoff.base': backoff.base, 'backoff.cap': backoff.cap };
  for (const [name, time] of Object.entries(times)) {
    if (!(time >= 0 && time < Infinity))
      throw new SettingsError('number', `${name} is a number of milliseconds, not ${time}`);
  }
  return {
    address,
    place: address.path ?? `${address.host}:${address.port}`,
    driver: options.driver ?? nodeRedis(),
    prefix: checkedPrefix(options.prefix ?? 'swarmbus'),
    tls: options.tls,
    connectTimeout: number('connectTimeout', 5_000, LONGEST_TIMER),
    responseTimeout: number('responseTimeout', 5_000),
    probeEvery: number('probeEvery', 5_000),
    backoff,
    batchEvents: number('batchEvents', 512, 65_536),
    batchBytes: number('batchBytes', 128 << 10, 16 << 20),
    batchDelay,
    bufferEvents: number('bufferEvents', 65_536),
    bufferBytes: number('bufferBytes', 64 << 20),
    overflow: checkedOverflow(options.overflow ?? 'reject'),
    patience: number('patience', 30_000),
    retention: number('retention', 1_000_000),
    retentionTime,
    metaTtl: Math.min(retentionTime * 30, LONGEST),
    maxTasks: number('maxTasks', 1_000_000),
    deadLetters: number('deadLetters', 1_000),
    groupTtl: number('groupTtl', 7 * DAY, LONGEST),
    remember: number('remember', DAY, LONGEST),
    checkEvery: number('checkEvery', 40_000),
    consumerTtl: 300_000,
    tidyEvery: 5_000,
  };
}

function checkedPrefix(prefix: string): string {
  const length = Buffer.byteLength(prefix);
  if (length >= 1 && length <= 64 && !/[\s\p{Cc}\p{Cs}{}]/u.test(prefix)) return prefix;
  const rule = '1 to 64 bytes without braces, white space and control characters';
  throw new SettingsError('prefix', `${JSON.stringify(prefix)} is no prefix: ${rule}`);
}

function checkedOverflow(overflow: Overflow): Overflow {
  try {
    checkOverflow(overflow);
    return overflow;
  } catch (error) {
    throw new SettingsError('overflow', (error as Error).message);
  }
}
