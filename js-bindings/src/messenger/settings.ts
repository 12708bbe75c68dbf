/** {@link MessengerOptions}: how messages are delivered, and how much of everything there may be. */

import type { Channel, Mode } from './channel.js';
import type { Gap } from './incoming.js';
import type { Message } from './message.js';
import { natural, positive } from './number.js';

/** Where a messenger is in its durable channels, by their names: to be saved as JSON. */
export type Positions = Record<string, string>;

/** Settings of a messenger. */
export interface MessengerOptions {
  /**
   * Sends messages through durable channels, and reads such: none is missed while there is no
   * connection. All messengers that talk to each other must agree on this. Answers stay live.
   */
  durable?: boolean;
  /** Goes on in the durable channels where an earlier messenger was: see `positions`. */
  resume?: Positions;
  /**
   * How many milliseconds a request without a deadline waits for its answer; also how long
   * answering one without a deadline may take. Default 30,000.
   */
  requestTimeout?: number;
  /** How many requests may wait for their answers at once. Default 1,024. */
  maxRequests?: number;
  /** How many requests of others are answered at once. Those beyond are refused as `busy`. Default 64. */
  maxAnswers?: number;
  /** How many of the last messages are kept; at most 100,000. Default 100. */
  history?: number;
  /** How many events wait in each inbox while handlers are at work. Default 8,192. */
  capacity?: number;
  /** Told of each gap in what is received. What it throws is ignored. */
  onGap?: (channel: Channel, gap: Gap) => void;
  /** Told of what handlers and tasks fail with, which is counted as well. What it throws is ignored. */
  onError?: (error: unknown, message: Message) => void;
}

/** {@link MessengerOptions} without holes. */
export interface MessengerSettings extends Required<
  Omit<MessengerOptions, 'durable' | 'onGap' | 'onError'>
> {
  /** How messages are delivered; tasks and answers have a mode of their own. */
  readonly mode: Mode;
  readonly onGap: MessengerOptions['onGap'] | undefined;
  readonly onError: MessengerOptions['onError'] | undefined;
}

/** The most messages that a history keeps. */
const MAX_HISTORY = 100_000;

/** @throws RangeError */
export function settingsOf(options: MessengerOptions): MessengerSettings {
  return {
    mode: options.durable === true ? 'durable' : 'live',
    resume: options.resume ?? {},
    requestTimeout: positive('requestTimeout', options.requestTimeout ?? 30_000),
    maxRequests: natural('maxRequests', options.maxRequests ?? 1_024),
    maxAnswers: natural('maxAnswers', options.maxAnswers ?? 64),
    history: Math.min(natural('history', options.history ?? 100), MAX_HISTORY),
    capacity: positive('capacity', options.capacity ?? 8_192),
    onGap: options.onGap,
    onError: options.onError,
  };
}
