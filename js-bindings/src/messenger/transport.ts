/** {@link Transport}: how events get from one process to another. */

import type { Event } from '../event.js';
import type { Channel, Mode } from './channel.js';
import type { Inbox } from './inbox.js';
import type { Received } from './incoming.js';
import type { SubscribeOptions } from './options.js';

/** How a transport's connection is. */
export type ConnectionState =
  /** It has not been there yet. */
  | { readonly kind: 'connecting' }
  /** All is well. */
  | { readonly kind: 'connected' }
  /** It is gone and being made again: since when, and why the last try failed. */
  | { readonly kind: 'disconnected'; readonly since: Date; readonly error: Error }
  | { readonly kind: 'closed' };

/** In what transports differ. */
export interface Features {
  /** The modes of its channels. */
  readonly modes: readonly Mode[];
  /** Events that a live subscriber missed are told as a `Gap`. */
  readonly reportsGaps: boolean;
  /** Subscribers may be in other processes. */
  readonly crossesProcesses: boolean;
}

/** A task that was given up. */
export interface DeadTask<P = unknown> {
  /** The task, as it was published. */
  readonly event: Event<string, P>;
  /** The group that did not manage it. */
  readonly group: string;
  /** How often it was delivered. */
  readonly deliveries: number;
  /** When it was given up. */
  readonly at: Date;
}

/**
 * Carries events over channels.
 *
 * - **Who gets it.** Live and durable: every subscriber, once each. Group: one of each group, and
 *   again until it is acknowledged.
 * - **From when.** A subscriber gets what is published after `subscribe` has returned, and before
 *   that what `start` asks for.
 * - **Order.** Events that are published to one channel one after the other arrive in that order.
 *   A task that comes again comes out of order.
 * - **How often.** Live: at most once. Durable: once. Group: at least once, marked as `redelivered`
 *   if more.
 * - **Losses show** as a `Gap` in the place where something is missing.
 * - **Accepted is not sent.** `publish` returns when the transport has the event; `flush` when the
 *   other side has it.
 * - **Errors.** A failed publish hands the event back. A `publish` or `publishBatch` that nobody
 *   awaits is no unhandled rejection when it fails, which would end Node.js: a transport counts it,
 *   and a messenger does. What is called for its answer (`publishConfirmed`, `flush`, …) is awaited,
 *   or it is one.
 * - **Close.** After `close` everything fails with `closed`; inboxes give what they hold and end.
 */
export interface Transport {
  /** What it can do. */
  readonly features: Features;
  /** How the connection is. */
  readonly state: ConnectionState;
  /** Calls `listener` when that changes; what it throws is ignored. The returned function ends it. */
  onState(listener: (state: ConnectionState) => void): () => void;
  /**
   * Publishes an event. Waits while as much waits to be sent as may.
   *
   * @throws {@link TransportPublishError} with the event and the cause.
   */
  publish(channel: Channel, event: Event): Promise<void>;
  /**
   * Publishes all of them, in order and as few packets as possible.
   *
   * @throws {@link TransportPublishError} with those that were not accepted.
   */
  publishBatch(channel: Channel, events: readonly Event[]): Promise<void>;
  /**
   * Publishes events and waits until the other side has them.
   *
   * @throws {@link TransportPublishError} with those of which that is not certain. Some of them may
   * have got there.
   */
  publishConfirmed(channel: Channel, events: readonly Event[]): Promise<void>;
  /**
   * Publishes an event to a durable or group channel unless it was published with this key before;
   * `false` if it was. Returns when the other side has it, so that one who got no answer may ask
   * again with the same key.
   *
   * @throws {@link TransportPublishError}
   */
  publishOnce(channel: Channel, key: string, event: Event): Promise<boolean>;
  /**
   * Waits until the other side has everything that was accepted before, and every answer to a task.
   *
   * @throws {@link TransportError} `lost` if events did not get there since the last flush, or what
   * keeps them from it.
   */
  flush(): Promise<void>;
  /** Begins to listen to a channel. @throws {@link TransportError} */
  subscribe<P = unknown>(channel: Channel, options?: SubscribeOptions): Promise<Inbox<P>>;
  /** The last `count` events of a durable channel, oldest first. @throws {@link TransportError} */
  history<P = unknown>(channel: Channel, count: number): Promise<Received<P>[]>;
  /** The last `count` tasks of a group channel that were given up. @throws {@link TransportError} */
  deadLetters<P = unknown>(channel: Channel, count: number): Promise<DeadTask<P>[]>;
  /** Sends what waits, as far as that is possible at once, and ends all subscriptions. */
  close(): Promise<void>;
}
