/** The live mode: PUBLISH, at most once, with numbers that show what is missing. */

import {
  type Channel,
  type CheckedOptions,
  feed,
  type Feed,
  Gap,
  type Inbox,
  type Incoming,
  Received,
  TransportError,
} from '../index.js';
import type { Carrier, Judgement, Parcel } from './carrier.js';
import { ConnectionError } from './connection-error.js';
import type { Arg, Outcome } from './driver.js';
import { ENVELOPE_LEN, readEnvelope, writeEnvelope } from './envelope.js';
import { frameCount, readRecords } from './frames.js';
import { key } from './keys.js';
import { Numbers } from './numbers.js';
import type { Lane } from './outbox.js';
import type { Listener, Subscriber } from './subscriber.js';

/** Sends parcels as PUBLISH. One whose answer did not come is not sent again: a gap shows. */
export const liveCarrier: Carrier = {
  name: 'live',
  numbered: true,
  resends: false,

  command({ lane, message, first, count }: Parcel): readonly Arg[] {
    writeEnvelope(
      { kind: 'live', origin: lane.publisher, first, count, age: ageOf(lane) },
      message,
    );
    return ['PUBLISH', lane.key, message];
  },

  position(lane: Lane, next: number): readonly Arg[] {
    const message = Buffer.alloc(ENVELOPE_LEN);
    writeEnvelope(
      { kind: 'position', origin: lane.publisher, first: next, count: 0, age: ageOf(lane) },
      message,
    );
    return ['PUBLISH', lane.key, message];
  },

  judge(outcome: Outcome): Judgement {
    return 'reply' in outcome
      ? 'taken'
      : { refused: ConnectionError.answered(outcome.refused, 'PUBLISH') };
  },
};

function ageOf(lane: Lane): number {
  return Math.floor(performance.now() - lane.born);
}

/** Live channels that one transport listens to. */
const MAX_CHANNELS = 100_000;

/** Inboxes of one channel in one process. */
const MAX_INBOXES = 10_000;

/** A message may have been on its way for this long, so that its publisher is so much older than it says. */
const MARGIN = 20;

/** The live channels of one transport. */
export class Live {
  readonly #topics = new Map<string, Topic>();
  #closed = false;

  constructor(private readonly subscriber: Subscriber) {}

  /** See `Transport.subscribe`. */
  async subscribe(channel: Channel, options: CheckedOptions): Promise<Inbox> {
    if (this.#closed) throw TransportError.closed();
    const name = this.#key(channel);
    let topic = this.#topics.get(name);
    if (topic === undefined) {
      if (this.#topics.size >= MAX_CHANNELS) throw TransportError.tooMany(MAX_CHANNELS);
      topic = new Topic();
      this.#topics.set(name, topic);
    }
    const [writing, inbox] = feed(options.capacity);
    topic.sweep();
    if (topic.feeds.length >= MAX_INBOXES) throw TransportError.tooMany(MAX_INBOXES);
    topic.feeds.push(writing);
    try {
      await this.subscriber.listen(name, topic);
    } catch (error) {
      inbox.close();
      this.sweep();
      // Why there was no answer says more than that there was none.
      throw (this.subscriber.link.error ?? ConnectionError.from(error)).toTransport();
    }
    void writing.gone.then(() => this.#leave(name));
    return inbox;
  }

  /** Leaves channels that nobody reads any more. */
  sweep(): void {
    for (const name of [...this.#topics.keys()]) this.#leave(name);
  }

  /** Ends all inboxes. */
  close(): void {
    this.#closed = true;
    for (const topic of this.#topics.values()) topic.end();
    this.#topics.clear();
  }

  #leave(name: string): void {
    const topic = this.#topics.get(name);
    topic?.sweep();
    if (topic === undefined || topic.feeds.length > 0) return;
    this.#topics.delete(name);
    this.subscriber.forget(name);
  }

  #key(channel: Channel): string {
    return key(this.subscriber.link.settings.prefix, channel, 'live');
  }
}

/** All inboxes of one live channel. They share a subscription, and what comes is decoded once. */
class Topic implements Listener {
  feeds: Feed[] = [];
  readonly #numbers = new Numbers();
  readonly #since = performance.now();

  message(payload: Buffer): void {
    const batch: Incoming[] = [];
    readLive(payload, this.#numbers, this.#since, batch);
    this.feeds.forEach((feed, n) => {
      const rest = feed.deliver(n === 0 ? batch : copies(batch));
      if (rest < batch.length) feed.dropRest(batch, rest);
    });
  }

  interrupted(): void {
    this.#numbers.interrupted();
  }

  refused(error: ConnectionError): void {
    this.end(error.toTransport());
  }

  sweep(): void {
    this.feeds = this.feeds.filter((feed) => !feed.isGone);
  }

  end(error?: TransportError): void {
    for (const feed of this.feeds) feed.end(error);
    this.feeds = [];
  }
}

/** Gaps are joined where they end up, so each inbox has its own. */
function copies(batch: readonly Incoming[]): Incoming[] {
  return batch.map((incoming) =>
    incoming.kind === 'gap' ? new Gap(incoming.missed, incoming.reason) : incoming,
  );
}

/** What a message brings: events that are new, and gaps in their place. */
export function readLive(
  message: Buffer,
  numbers: Numbers,
  since: number,
  batch: Incoming[],
): void {
  const envelope = readEnvelope(message);
  if (envelope === undefined || envelope.kind === 'durable') {
    batch.push(new Gap(undefined, 'unreadable'));
    return;
  }
  const { origin, first, count } = envelope;
  const beganLater = (): boolean => envelope.age + MARGIN < performance.now() - since;
  const { gap, skip } = numbers.came(origin, first, count, beganLater);
  if (gap !== undefined) batch.push(gap);
  const fresh = count - skip;
  if (fresh === 0) return;
  const frame = message.subarray(ENVELOPE_LEN);
  if (frameCount(frame) !== count) {
    batch.push(new Gap(fresh, 'unreadable'));
    return;
  }
  let [seen, good] = [0, 0];
  readRecords(frame, count, (event) => {
    seen += 1;
    if (seen <= skip) return;
    good += 1;
    batch.push(event === undefined ? new Gap(1, 'unreadable') : Received.live(event));
  });
  if (good < fresh) batch.push(new Gap(fresh - good, 'unreadable'));
}
