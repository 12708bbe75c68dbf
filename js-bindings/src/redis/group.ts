/**
 * The group mode: a work queue. In each group of consumers one gets a task, and it comes again
 * until it is acknowledged or given up. A channel is a stream, of which an entry is one event. See
 * ADR 0024.
 */

import {
  type Channel,
  type CheckedOptions,
  type DeadTask,
  encode,
  type Event,
  feed,
  Gap,
  type Inbox,
  TransportError,
} from '../index.js';
import { ConnectionError } from './connection-error.js';
import type { Arg } from './driver.js';
import { fit, readFrame } from './frames.js';
import { Desk } from './group/desk.js';
import { Member } from './group/member.js';
import { APPEND, Place, append, keysOf, readAppended } from './group/scripts.js';
import { key } from './keys.js';
import { Link } from './link.js';
import { Answer, numberOf, type Server } from './script.js';
import type { Run } from './run.js';
import { randomWord } from './words.js';

/** Members of one transport, each of which has a connection of its own. */
const MAX_MEMBERS = 1_024;

/** Group channels of one transport. */
export class Groups {
  /** Of all members at work. */
  readonly #desks = new Set<Desk>();
  readonly #end = new AbortController();

  constructor(
    /** For answers and claims. */
    private readonly server: Server,
  ) {}

  /** See `Transport.subscribe`. */
  async subscribe(channel: Channel, options: CheckedOptions): Promise<Inbox> {
    const { settings, instance } = this.server.link;
    if (this.#desks.size >= MAX_MEMBERS) throw TransportError.tooMany(MAX_MEMBERS);
    const consumer = options.consumer ?? `${instance}:${randomWord()}`;
    const { group, maxDeliveries, redeliverAfter } = options;
    const place = new Place(settings, channel, group, consumer, maxDeliveries, redeliverAfter);
    const desk = new Desk(options.capacity);
    const waiting = new Link(settings, { name: 'worker', unchecked: true }, instance);
    // Gaps take room, too.
    const [writing, inbox] = feed(options.capacity + 4);
    const member = new Member(this.server, waiting, place, desk, writing);
    this.#desks.add(desk);
    try {
      const { missed } = await member.join(options.start !== 'new');
      if (this.#end.signal.aborted) throw TransportError.closed();
      if (missed > 0) writing.gap(new Gap(missed, 'trimmed'));
    } catch (error) {
      this.#desks.delete(desk);
      waiting.close();
      throw error instanceof TransportError ? error : ConnectionError.from(error).toTransport();
    }
    void member.run(this.#end.signal).finally(() => this.#desks.delete(desk));
    return inbox;
  }

  /** Waits until the server has every answer to a task that was given before. @throws {@link TransportError} */
  async flush(patience = this.server.link.settings.responseTimeout): Promise<void> {
    const deadline = performance.now() + patience;
    for (const desk of this.#desks) {
      if (!(await desk.flushed(Math.max(1, deadline - performance.now())))) {
        throw this.server.link.error?.toTransport() ?? TransportError.timedOut();
      }
    }
    if (this.#end.signal.aborted) throw TransportError.closed();
  }

  /** See `Transport.publishOnce`. */
  async publishOnce(channel: Channel, once: string, event: Event): Promise<boolean> {
    const { settings } = this.server.link;
    const call = {
      frame: Buffer.from(fit(() => encode(event))),
      count: 1,
      publisher: randomWord(),
      record: key(settings.prefix, channel, `idem:tasks:${once}`),
      number: 0,
      reached: undefined,
      again: false,
    };
    const keys = keysOf(settings.prefix, channel);
    const command = (server: Run): readonly Arg[] => append({ ...call, server }, keys, settings);
    try {
      const { appended } = readAppended(await this.server.insist({ command, script: APPEND }));
      if (appended === 'full') throw TransportError.full();
      return appended !== 'key_used';
    } catch (error) {
      throw error instanceof TransportError ? error : ConnectionError.from(error).toTransport();
    }
  }

  /** See `Transport.deadLetters`. */
  async deadLetters(channel: Channel, count: number): Promise<DeadTask[]> {
    const stream = key(this.server.link.settings.prefix, channel, 'dead');
    try {
      const reply = await this.server.insist({
        command: ['XREVRANGE', stream, '+', '-', 'COUNT', count],
      });
      return readDead(new Answer(reply)).reverse();
    } catch (error) {
      throw ConnectionError.from(error).toTransport();
    }
  }

  /** Ends all subscriptions. */
  close(): void {
    this.#end.abort();
  }
}

/** Reads dead letters. One whose event nobody can read is left out: it stays on the server. */
function readDead(entries: Answer): DeadTask[] {
  const dead: DeadTask[] = [];
  while (!entries.isEmpty) {
    const entry = entries.array();
    // The id that the server gives has its clock's milliseconds.
    const at = new Date(numberOf(entry.id()));
    let event: Event | undefined;
    let [group, deliveries] = ['', 0];
    for (const fields = entry.array(); !fields.isEmpty;) {
      const name = fields.text();
      const value = fields.bytes();
      if (name === 'e') event = readFrame(value);
      if (name === 'group') group = value.toString();
      if (name === 'deliveries') deliveries = Number(value.toString()) || 0;
    }
    if (event !== undefined) dead.push({ event, group, deliveries, at });
  }
  return dead;
}
