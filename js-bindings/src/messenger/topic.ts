/** {@link Topic}: coordination among those who follow it. */

import { Event, type EventInit } from '../event.js';
import type { Channel } from './channel.js';
import { Table, type Listening } from './handlers.js';
import type { Handler, Hub } from './hub.js';
import { channelOf } from './identity.js';
import type { Message } from './message.js';
import { Receiver } from './receive.js';
import { quietly } from '../quiet.js';

/** A topic that a messenger follows, to elect, to vote, to agree. `close`, or a `using`, ends that. */
export class Topic {
  readonly #table = new Table<Handler>();
  readonly #ending = new AbortController();

  private constructor(
    private readonly hub: Hub,
    private readonly channel: Channel,
  ) {}

  /** @internal For messengers. */
  static async follow(hub: Hub, name: string): Promise<Topic> {
    const topic = new Topic(hub, channelOf('topic', name).withMode(hub.mode));
    const { signal } = topic.#ending;
    const close = (): void => topic.close();
    hub.closing.signal.addEventListener('abort', close);
    signal.addEventListener('abort', () => hub.closing.signal.removeEventListener('abort', close));
    if (hub.isClosed) topic.close();
    const receiver = new Receiver(
      hub,
      topic.channel,
      'topic',
      topic.#table,
      hub.subscribing(topic.channel),
      signal,
    );
    try {
      await receiver.start();
      return topic;
    } catch (error) {
      topic.close();
      throw error;
    }
  }

  /**
   * Sends an event to everybody else who follows the topic. As with `Messenger.send`, a failure that
   * nobody awaits is counted, and that is all. @throws {@link TransportPublishError}
   */
  send(init: Event | EventInit): Promise<void> {
    return quietly(this.#send(init));
  }

  async #send(init: Event | EventInit): Promise<void> {
    const event = Event.of(init);
    this.hub.refuseIfClosed(event);
    await this.hub.send(this.channel, event);
  }

  /** Handles what others send whose type a pattern matches. */
  on<P = unknown>(pattern: string | RegExp, handler: (message: Message<P>) => unknown): Listening {
    return this.#table.insert(pattern, ['topic'], handler as Handler);
  }

  /** Follows it no longer. */
  close(): void {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    this.#table.free();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
