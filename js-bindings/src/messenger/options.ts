/** {@link SubscribeOptions}: from where, as whom, and how much at a time. */

import { utf8Length, type Mode } from './channel.js';
import { kindFault, type Kinds } from '../kinds.js';
import { positive } from './number.js';
import { Position } from './position.js';
import { TransportError } from './transport-error.js';

/**
 * Where a subscription begins to read: with what is published after `subscribe` has returned
 * (`new`), with the oldest event that is kept (`beginning`), or after an event whose position was
 * saved.
 */
export type Start = 'new' | 'beginning' | Position;

/** How to subscribe. The default is right for most. */
export interface SubscribeOptions {
  /**
   * A live channel has no past: anything but `new` is refused. A group that exists goes on where it
   * is. Default `new`; of a group that is made, `beginning`.
   */
  start?: Start | undefined;
  /** The group that shares the work; each group gets every event. Default `workers`. */
  group?: string | undefined;
  /**
   * The name of this member of the group, for those who look at the server. No two members at work
   * may have the same. Default: one that nobody else has.
   */
  consumer?: string | undefined;
  /**
   * The most events that wait in the inbox; in a group also the most tasks that this member has
   * and has not answered. Default 8,192 events, in a group 256 tasks.
   */
  capacity?: number | undefined;
  /** A task that was delivered this often without success becomes a dead letter. Default 5. */
  maxDeliveries?: number | undefined;
  /**
   * A task that its member has not answered for this many milliseconds is given to another: longer
   * than a task takes. Default 30,000.
   */
  redeliverAfter?: number | undefined;
}

/** Longest name of a group or consumer in bytes. */
const MAX_NAME_LEN = 200;

/** Options without holes. */
export interface CheckedOptions {
  readonly start: Start | undefined;
  readonly group: string;
  readonly consumer: string | undefined;
  readonly capacity: number;
  readonly maxDeliveries: number;
  readonly redeliverAfter: number;
}

/**
 * For transports: fills in the defaults.
 *
 * @throws {@link TransportError} `unsupported` for what a channel of this mode cannot do, `name`
 * for names that nobody could write down. RangeError for numbers that make no sense.
 */
export function checkOptions(mode: Mode, options: SubscribeOptions = {}): CheckedOptions {
  checkMode(mode);
  const wrong = kindFault(options, KINDS);
  if (wrong !== undefined) throw TransportError.unsupported(`${wrong.name} must be ${wrong.must}`);
  const { start, group = 'workers', consumer } = options;
  const possible =
    start === undefined ||
    start === 'new' ||
    mode === 'durable' ||
    (mode === 'group' && start === 'beginning');
  if (!possible) throw TransportError.unsupported(`a ${mode} channel cannot be read from there`);
  for (const name of [group, consumer]) {
    if (name !== undefined && !isName(name)) {
      throw new TransportError(
        'name',
        `a group or consumer cannot be called ${JSON.stringify(name.slice(0, 64))}`,
      );
    }
  }
  return {
    start,
    group,
    consumer,
    capacity: positive('capacity', options.capacity ?? (mode === 'group' ? 256 : 8_192)),
    maxDeliveries: positive('maxDeliveries', options.maxDeliveries ?? 5),
    redeliverAfter: positive('redeliverAfter', options.redeliverAfter ?? 30_000),
  };
}

const KINDS: Kinds<SubscribeOptions> = {
  start: 'string object',
  group: 'string',
  consumer: 'string',
  capacity: 'number',
  maxDeliveries: 'number',
  redeliverAfter: 'number',
};

/** The mode of a channel, if that is one. @throws TransportError */
export function checkMode<M extends Mode>(mode: M): M {
  if (mode === 'live' || mode === 'durable' || mode === 'group') return mode;
  throw TransportError.unsupported('a channel is made by Channel.live, durable, group or parse');
}

function isName(name: string): boolean {
  const length = utf8Length(name);
  return length >= 1 && length <= MAX_NAME_LEN && !/[\s\p{Cc}\p{Cs}]/u.test(name);
}
