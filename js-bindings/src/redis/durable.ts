/**
 * The durable mode: every subscriber gets every event once and in order, as long as the channel
 * keeps it.
 *
 * A channel is a stream, its log, and a hash with its epoch and offset. An entry of the log is a
 * frame of events; its id is the offset of the last of them. One call of a script appends a frame
 * and publishes it. A subscription listens to what is published, and reads the log where that has a
 * hole. See ADR 0024.
 */

import {
  type Channel,
  type CheckedOptions,
  encode,
  type Event,
  feed,
  type Inbox,
  type Incoming,
  Position,
  type Received,
  TransportError,
} from '../index.js';
import { ConnectionError } from './connection-error.js';
import type { Arg } from './driver.js';
import { Fans } from './durable/fans.js';
import { Header } from './durable/header.js';
import { Reader, last } from './durable/reader.js';
import { APPEND, append, keysOf, readAppended } from './durable/scripts.js';
import { LogReader, Subscription } from './durable/subscription.js';
import { Tap } from './durable/tap.js';
import { fit } from './frames.js';
import { key } from './keys.js';
import type { Run } from './run.js';
import type { Server } from './script.js';
import type { Subscriber } from './subscriber.js';
import { randomWord } from './words.js';

/** Durable channels of one transport. */
export class Durable {
  readonly #fans: Fans;
  readonly #end = new AbortController();

  constructor(
    private readonly server: Server,
    subscriber: Subscriber,
  ) {
    this.#fans = new Fans(subscriber);
  }

  /** See `Transport.subscribe`. */
  async subscribe(channel: Channel, options: CheckedOptions): Promise<Inbox> {
    const log = this.#log(channel);
    const tap = new Tap();
    const name = log.keys.log;
    try {
      // First the live feed, then the log: nothing falls in between.
      await this.#fans.join(name, tap);
      tap.clear();
      const newest = await log.tryRead('newest', 1);
      if (this.#end.signal.aborted) throw TransportError.closed();
      const reader = readerFrom(options, newest);
      const [writing, inbox] = feed(options.capacity);
      const subscription = new Subscription(log, tap, reader, writing, this.#end.signal);
      void subscription.run(!reader.isAt(newest.end)).finally(() => this.#fans.leave(name, tap));
      return inbox;
    } catch (error) {
      this.#fans.leave(name, tap);
      throw error instanceof TransportError ? error : ConnectionError.from(error).toTransport();
    }
  }

  /** See `Transport.history`. */
  async history(channel: Channel, count: number): Promise<Received[]> {
    const log = this.#log(channel);
    for (let frames = Math.min(count, 16); ; frames *= 4) {
      const { entries } = await log.tryRead('newest', frames).catch((error: unknown) => {
        throw ConnectionError.from(error).toTransport();
      });
      const headers = entries.flatMap(({ entry }) => Header.parse(entry) ?? []);
      const events = headers.reduce((sum, { stamp }) => sum + stamp.count, 0);
      if (entries.length >= frames && events < count) continue;
      const all: Incoming[] = [];
      for (const header of headers.reverse()) header.unpack(0, all);
      const received = all.filter((incoming): incoming is Received => incoming.kind === 'event');
      return received.slice(-count);
    }
  }

  /** See `Transport.publishOnce`. */
  async publishOnce(channel: Channel, once: string, event: Event): Promise<boolean> {
    const { settings } = this.server.link;
    const frame = Buffer.from(fit(() => encode(event)));
    const call = {
      frame,
      count: 1,
      publisher: randomWord(),
      record: key(settings.prefix, channel, `idem:log:${once}`),
      number: 0,
      reached: undefined,
    };
    const keys = keysOf(settings.prefix, channel);
    const command = (server: Run): readonly Arg[] => append({ ...call, server }, keys, settings);
    try {
      // The same call again does nothing, so a broken connection is no reason to give up.
      const reply = await this.server.insist({ command, script: APPEND });
      return readAppended(reply).position !== undefined;
    } catch (error) {
      throw ConnectionError.from(error).toTransport();
    }
  }

  /** Ends all subscriptions. */
  close(): void {
    this.#end.abort();
  }

  #log(channel: Channel): LogReader {
    return new LogReader(this.server, keysOf(this.server.link.settings.prefix, channel));
  }
}

function readerFrom(
  options: CheckedOptions,
  newest: Awaited<ReturnType<LogReader['tryRead']>>,
): Reader {
  const { start = 'new' } = options;
  if (start === 'beginning') return Reader.oldest(newest.end.epoch);
  if (start instanceof Position) return Reader.after(start);
  const entry = newest.entries[0]?.entry;
  const header = entry === undefined ? undefined : Header.parse(entry);
  const isLast = header !== undefined && last(header.stamp) === newest.end.offset;
  return isLast ? Reader.behind(header.stamp, newest.end) : Reader.after(newest.end);
}
