/** The loops that read a messenger's inboxes. */

import type { Event } from '../event.js';
import type { Channel } from './channel.js';
import type { Table } from './handlers.js';
import type { Handler, Hub } from './hub.js';
import { isLate } from './hub.js';
import type { Inbox } from './inbox.js';
import { Gap, type Incoming } from './incoming.js';
import { MARK, Message, senderOf, type Scope } from './message.js';
import type { SubscribeOptions } from './options.js';
import type { Position } from './position.js';
import { asked } from './respond.js';
import { TransportError } from './transport-error.js';

/** One channel that a messenger listens to. */
export class Receiver {
  #inbox: Inbox | undefined;

  constructor(
    private readonly hub: Hub,
    private readonly channel: Channel,
    private readonly scope: Scope,
    private readonly table: Table<Handler>,
    private readonly options: SubscribeOptions,
    /** Ends it, when it is done with what it has. */
    private readonly ending: AbortSignal,
  ) {}

  /** Subscribes, and reads until `ending`. @throws {@link TransportError} */
  async start(): Promise<void> {
    this.#inbox = await this.#subscribe(undefined);
    this.hub.spawn(this.#run(this.#inbox, (incoming) => this.#take(incoming)));
  }

  /** The same for the answers to this messenger's requests. */
  async startAnswers(): Promise<void> {
    this.#inbox = await this.#subscribe(undefined);
    const take = async (incoming: Incoming): Promise<undefined> => {
      if (incoming.kind === 'gap') this.hub.gap(this.channel, incoming);
      else this.#takeAnswer(incoming.event);
    };
    // Nobody will answer any more after that.
    this.hub.spawn(this.#run(this.#inbox, take).finally(() => this.hub.pending.close()));
  }

  async #subscribe(last: Position | undefined): Promise<Inbox> {
    const start = last ?? this.options.start;
    const inbox = await this.hub.transport.subscribe(this.channel, { ...this.options, start });
    if (this.ending.aborted) inbox.close();
    return inbox;
  }

  async #run(
    first: Inbox,
    take: (incoming: Incoming) => Promise<Position | undefined>,
  ): Promise<void> {
    const close = (): void => this.#inbox?.close();
    this.ending.addEventListener('abort', close);
    let last: Position | undefined;
    for (let inbox: Inbox | undefined = first; inbox !== undefined;) {
      this.#inbox = inbox;
      for await (const batch of inbox.batches()) {
        for (const incoming of batch) {
          if (this.ending.aborted) break;
          last = (await take(incoming)) ?? last;
        }
      }
      inbox = await this.#openAgain(inbox, last);
      if (inbox !== undefined && this.channel.mode === 'live') {
        this.hub.gap(this.channel, new Gap(undefined, 'disconnected'));
      }
    }
    this.ending.removeEventListener('abort', close);
  }

  /** After a failure, tries for as long as the transport is open. */
  async #openAgain(failed: Inbox, last: Position | undefined): Promise<Inbox | undefined> {
    if (failed.error === undefined) return undefined;
    for (let attempt = 0; !this.ending.aborted; attempt += 1) {
      await this.hub.pause(attempt);
      if (this.ending.aborted) return undefined;
      try {
        return await this.#subscribe(last);
      } catch (error) {
        if (error instanceof TransportError && error.code === 'closed') return undefined;
      }
    }
    return undefined;
  }

  /** Deals with one thing and returns where that was. */
  async #take(incoming: Incoming): Promise<Position | undefined> {
    if (incoming.kind === 'gap') this.hub.gap(this.channel, incoming);
    else await this.#dealWith(incoming.event);
    const { position } = incoming;
    this.hub.arrivedAt(this.channel, position);
    return position;
  }

  async #dealWith(event: Event): Promise<void> {
    const { counts } = this.hub;
    if (this.#isOwn(event)) {
      counts.own += 1;
      return;
    }
    this.hub.history.note(false, this.channel, event);
    counts.received += 1;
    const message = new Message(event, this.scope);
    const number = event.attributes[MARK.request];
    if (number !== undefined) return asked(this.hub, message, number);
    if (isLate(event)) {
      counts.expired += 1;
      return;
    }
    const found = this.table.find(event.type, this.scope);
    if (found.length === 0) counts.unhandled += 1;
    for (const entry of found) {
      if (!entry.active) continue;
      try {
        await entry.handle(message);
      } catch (error) {
        counts.failed += 1;
        this.hub.failed(error, message);
      }
    }
  }

  /** Whether it comes from here; a broadcast also from another of the swarm. */
  #isOwn(event: Event): boolean {
    const sender = senderOf(event);
    if (sender === undefined) return false;
    return this.scope === 'broadcast'
      ? sender.swarm === this.hub.identity.swarm
      : sender.node === this.hub.node;
  }

  #takeAnswer(answer: Event): void {
    this.hub.history.note(false, this.channel, answer);
    if (!this.hub.pending.answer(answer)) this.hub.counts.lateAnswers += 1;
  }
}
