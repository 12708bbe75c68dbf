/**
 * What can go wrong on a bus: one class for each operation, told apart by `code`.
 * The texts are for people and may change.
 */

import type { EventInit } from '../event.js';
import type { OutcomeName } from './ledger.js';

/**
 * Why an event was not published.
 *
 * | code | meaning |
 * | --- | --- |
 * | `full` | the queue is full. From `publish` this comes only to a handler of the same bus, which may not wait and has used up the reserve, or when `maxWaiting` publishers wait already |
 * | `outranked` | all that waits is at least as urgent, and the queue is full (`drop_lowest_priority`) |
 * | `rate_limited` | the rate is limited while an overload lasts (`adaptive_rate`); see `retryAfter`. `publish` waits instead, except in a handler |
 * | `closed` | the bus is closing |
 * | `aborted` | the publisher's `signal` was aborted while it waited |
 * | `invalid` | it is not an event: see the message |
 */
export type PublishCode = 'full' | 'outranked' | 'rate_limited' | 'closed' | 'aborted' | 'invalid';

const PUBLISH_TEXT: Record<PublishCode, string> = {
  full: 'the queue is full',
  outranked: 'the queue is full of events that are at least as urgent',
  rate_limited: 'the rate is limited while the overload lasts',
  closed: 'the bus is closed',
  aborted: 'the publisher stopped waiting',
  invalid: 'it is not an event',
};

/** An event was not published. It is handed back in {@link event}. */
export class PublishError extends Error {
  override readonly name = 'PublishError';

  constructor(
    /** What stood in the way. */
    readonly code: PublishCode,
    /** The event, as it was given. */
    readonly event: EventInit,
    /** For `rate_limited`: in how many milliseconds the answer would be yes. */
    readonly retryAfter?: number,
    detail: string = PUBLISH_TEXT[code],
  ) {
    super(`${String(event?.type)} was not published: ${detail}`);
  }
}

/** A batch was not published whole. */
export class BatchError extends Error {
  override readonly name = 'BatchError';

  constructor(
    /** What stood in the way of the next event. */
    readonly code: PublishCode,
    /** How many events from the front were accepted. */
    readonly accepted: number,
    /** Those that were not, in order. */
    readonly rest: readonly EventInit[],
    /** As {@link PublishError.retryAfter}, in milliseconds. */
    readonly retryAfter?: number,
    detail: string = PUBLISH_TEXT[code],
  ) {
    super(`${accepted} events were published, then: ${detail}`);
  }
}

/**
 * An event was not dispatched, and no handler has run: the bus is `closed`, handlers dispatch
 * inside each other more than 64 deep (`too_deep`), or it is no event (`invalid`).
 */
export class DispatchError extends Error {
  override readonly name = 'DispatchError';

  constructor(
    /** What stood in the way. */
    readonly code: 'closed' | 'too_deep' | 'invalid',
    message: string,
  ) {
    super(message);
  }
}

/**
 * A subscription was not made: the `pattern` is none, the bus has `too_many` handlers, the command
 * is `taken` by another handler, a `setting` makes no sense, or the bus or session has `ended`.
 */
export class SubscribeError extends Error {
  override readonly name = 'SubscribeError';

  constructor(
    /** What stood in the way. */
    readonly code: 'pattern' | 'too_many' | 'taken' | 'setting' | 'ended',
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/**
 * A command has no result.
 *
 * | code | meaning |
 * | --- | --- |
 * | `no_handler` | neither the session nor the bus handles it |
 * | `rejected` | the handler's breaker is open: try again in `retryAfter` ms |
 * | `failed` | the handler failed; `cause` is what it threw |
 * | `expired` | its deadline has passed |
 * | `closed` | the bus is closing |
 * | `too_deep` | handlers call each other more than 64 deep |
 */
export class CommandError extends Error {
  override readonly name = 'CommandError';

  constructor(
    /** What stood in the way. */
    readonly code: 'no_handler' | 'rejected' | 'failed' | 'expired' | 'closed' | 'too_deep',
    /** The command's type. */
    readonly command: string,
    message: string,
    options?: ErrorOptions & { retryAfter?: number },
  ) {
    super(message, options);
    this.retryAfter = options?.retryAfter;
  }

  /** For `rejected`: in how many milliseconds the breaker lets the next call through. */
  readonly retryAfter: number | undefined;
}

/**
 * A retry did not deliver a dead letter.
 *
 * | code | meaning |
 * | --- | --- |
 * | `not_found` | it was purged, retried or evicted |
 * | `busy` | somebody else retries it at this moment |
 * | `handler_gone` | no handler of that name is subscribed |
 * | `not_delivered` | the pipeline had it, and it came back: see `outcome` |
 * | `closed` | the bus is closing |
 * | `too_deep` | handlers call each other more than 64 deep |
 */
export class RetryError extends Error {
  override readonly name = 'RetryError';

  constructor(
    /** What stood in the way. */
    readonly code: 'not_found' | 'busy' | 'handler_gone' | 'not_delivered' | 'closed' | 'too_deep',
    /** The letter's number. */
    readonly id: number,
    message: string,
    /** What became of it, for `not_delivered`. */
    readonly outcome?: OutcomeName,
  ) {
    super(message);
  }
}

/**
 * A schedule was not made: its `name` is none, the bus has `too_many`, its `plan` or `fire_all_limit`
 * makes no sense, what it is to publish is no `event`, or the bus is `closed`.
 */
export class ScheduleError extends Error {
  override readonly name = 'ScheduleError';

  constructor(
    /** What stood in the way. */
    readonly code: 'name' | 'too_many' | 'plan' | 'fire_all_limit' | 'event' | 'closed',
    message: string,
  ) {
    super(message);
  }
}

/** A handler took longer than its time limit. */
export class HandlerTimeoutError extends Error {
  override readonly name = 'HandlerTimeoutError';
  readonly code = 'timed_out';

  constructor(
    /** The limit, in milliseconds. */
    readonly limit: number,
    /** It did not stop when it was asked to, and nobody waits for it any more. */
    readonly abandoned: boolean,
  ) {
    super(`timed out after ${limit} ms${abandoned ? ' and was given up' : ''}`);
  }
}

/** A setting of a bus makes no sense. */
export class SettingError extends Error {
  override readonly name = 'SettingError';
  readonly code = 'setting';

  constructor(
    /** Its name. */
    readonly setting: string,
    /** What it must be. */
    readonly must: string,
  ) {
    super(`${setting} must be ${must}`);
  }
}
