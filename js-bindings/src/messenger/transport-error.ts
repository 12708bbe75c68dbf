/** What can go wrong with a transport. */

import type { Event } from '../event.js';

/**
 * - `closed`: it was closed.
 * - `disconnected`: there is no connection, and waiting for one is over.
 * - `refused`: the other side is there and does not do it; see `cause`.
 * - `full`: as much waits to be sent as may, or a channel is full of tasks that nobody has done.
 * - `timed_out`: it took too long; what became of it is not known.
 * - `unfit`: the event cannot be carried, by size for example; see `cause`.
 * - `unsupported`: this transport, or this mode, does not do such things.
 * - `name`: the name of a group or consumer is empty, too long, or has white space in it.
 * - `too_many`: subscriptions, channels or groups; see `limit`.
 * - `lost`: events that were taken to be sent were lost on the way; see `events` and `cause`.
 */
export type TransportErrorCode =
  | 'closed'
  | 'disconnected'
  | 'refused'
  | 'full'
  | 'timed_out'
  | 'unfit'
  | 'unsupported'
  | 'name'
  | 'too_many'
  | 'lost';

/** Why a transport did not do what it was asked: see {@link TransportErrorCode}. */
export class TransportError extends Error {
  override readonly name: string = 'TransportError';
  /** Of `lost`: how many events since the last flush. */
  readonly events: number;
  /** Of `too_many`: how many there may be. */
  readonly limit: number;

  constructor(
    /** What went wrong. */
    readonly code: TransportErrorCode,
    message: string,
    more: { cause?: unknown; events?: number; limit?: number } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.events = more.events ?? 0;
    this.limit = more.limit ?? 0;
  }

  /** Whether the same call may succeed later without anybody changing it. */
  get isTemporary(): boolean {
    return ['disconnected', 'full', 'timed_out', 'too_many', 'lost'].includes(this.code);
  }

  static closed(): TransportError {
    return new TransportError('closed', 'the transport is closed');
  }

  static full(): TransportError {
    return new TransportError('full', 'too much is waiting already');
  }

  static timedOut(): TransportError {
    return new TransportError('timed_out', 'there was no answer in time');
  }

  static tooMany(limit: number): TransportError {
    return new TransportError('too_many', `there are ${limit} already, which is the limit`, {
      limit,
    });
  }

  static lost(events: number, cause: TransportError): TransportError {
    const message = `${events} events were not sent: ${cause.message}`;
    return new TransportError('lost', message, { events, cause });
  }

  static refused(cause: Error): TransportError {
    return new TransportError('refused', `refused: ${cause.message}`, { cause });
  }

  static disconnected(cause: Error): TransportError {
    return new TransportError('disconnected', `not connected: ${cause.message}`, { cause });
  }

  static unfit(cause: Error): TransportError {
    return new TransportError('unfit', `the event cannot be carried: ${cause.message}`, { cause });
  }

  static unsupported(message: string): TransportError {
    return new TransportError('unsupported', message);
  }
}

/** Why events were not sent, with the events. */
export class TransportPublishError extends TransportError {
  override readonly name = 'TransportPublishError';

  constructor(
    /** Those that were not accepted, or of which it is not certain that they got there. */
    readonly rest: readonly Event[],
    why: TransportError,
  ) {
    super(why.code, why.message, { cause: why.cause, events: why.events, limit: why.limit });
  }

  /** The first of them, unchanged. */
  get event(): Event | undefined {
    return this.rest[0];
  }
}
