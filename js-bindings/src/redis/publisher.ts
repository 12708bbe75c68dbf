/**
 * {@link Publisher}: takes events, and has them sent in batches that form by themselves.
 *
 * A lone event leaves at once. While batches are on their way, what comes in collects, and the next
 * batch takes all of it: the busier the connection, the larger the batches.
 */

import {
  type Channel,
  CRITICAL_PRIORITY,
  encode,
  DEFAULT_PRIORITY,
  Event,
  type Encodable,
  FrameWriter,
  TransportError,
  TransportPublishError,
} from '../index.js';
import { ACCEPT, Gate, RATE_LIMITED, isAdaptive } from '../bus/overflow.js';
import { Watch, deferred, timeout, type Deferred } from '../messenger/async.js';
import { quietly } from '../quiet.js';
import { HEADROOM, frameIn, type Carrier } from './carrier.js';
import type { ConnectionError } from './connection-error.js';
import type { Arg } from './driver.js';
import { FRAME_HEADER, fit, readRecords } from './frames.js';
import { Lanes, count, type Numbering } from './lanes.js';
import type { Link } from './link.js';
import { Outbox, type Entry } from './outbox.js';
import { Sender } from './sender.js';
import { asBuffer } from './words.js';

/**
 * After so many events without a turn of the event loop, whoever publishes waits for one: so the
 * others begin while more is made, and a frame of small events is read in one piece.
 */
const TURN = 340;

/** Bytes that a frame begins with, if it is not known how many it will have. */
const LEAST_EXPECTED = 1_024;

/** Of entries that take more events. */
const UNSEALED = new Uint8Array(0);

/** Somebody who waits for room. */
interface Waiter {
  readonly channel: Channel;
  readonly events: readonly Event[];
  /** The first that is not accepted yet. */
  at: number;
  /** By the clock that only goes forward. */
  readonly until: number;
  readonly done: Deferred<void>;
}

const DONE = Promise.resolve();

/** Sends events of one mode over one connection. */
export class Publisher {
  readonly outbox: Outbox;
  /** Every event with a lower ticket has arrived or is lost. */
  readonly settled = new Watch(0);
  /** Why the server does not take what it is sent, while that lasts. */
  trouble: ConnectionError | undefined;
  /** Events that were handed back to who published them. */
  refused = 0;
  readonly #lanes: Lanes;
  readonly #sender: Sender;
  readonly #end = new AbortController();
  #waiters: Waiter[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #turn: Promise<void> | undefined;
  #sinceTurn = 0;
  #lost = 0;
  #everLost = 0;
  #cause: TransportError | undefined;
  #positionsDue = false;
  #closed = false;
  /** What takes more events until it is full or leaves. */
  #open: { readonly entry: Entry; readonly writer: FrameWriter } | undefined;
  #isWriting = false;
  #expected = LEAST_EXPECTED;
  /** Slows publishers down before the outbox is full, if that is the policy. */
  readonly #gate: Gate | undefined;
  /** Milliseconds after which it is asked again, if it has said to wait. */
  #retryAfter: number | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly link: Link,
    readonly carrier: Carrier,
  ) {
    const { overflow, bufferEvents, bufferBytes } = link.settings;
    this.#lanes = new Lanes(link.settings.prefix);
    const isLimited = isAdaptive(overflow);
    this.#gate = isLimited ? new Gate(overflow, bufferEvents) : undefined;
    this.outbox = new Outbox(isLimited ? 'reject' : overflow, bufferEvents, bufferBytes);
    this.#sender = new Sender(this, this.#end.signal);
  }

  /** See `Transport.publish`. An object becomes an event only if it is not sent at once. */
  publish(channel: Channel, init: Encodable): Promise<void> {
    if (this.#isBehind(init)) return this.publishBatch(channel, [Event.of(init)]);
    const wasEmpty = this.outbox.length === 0;
    try {
      if (!this.#accept(this.#lanes.of(channel), init)) {
        return this.publishBatch(channel, [Event.of(init)]);
      }
    } catch (error) {
      return this.#refusal([Event.of(init)], error as TransportError);
    }
    if (wasEmpty) this.#sender.work();
    return this.#sinceTurn > TURN ? this.#nextTurn() : DONE;
  }

  /** See `Transport.publishBatch`. */
  publishBatch(channel: Channel, events: readonly Encodable[]): Promise<void> {
    const wasEmpty = this.outbox.length === 0;
    let at = 0;
    try {
      const numbering = this.#lanes.of(channel);
      for (; at < events.length; at += 1) {
        const event = events[at] as Encodable;
        if (this.#isBehind(event) || !this.#accept(numbering, event)) break;
      }
      if (at < events.length) return this.#wait(channel, eventsOf(events, at), 0);
    } catch (error) {
      return this.#refusal(eventsOf(events, at), error as TransportError);
    } finally {
      if (wasEmpty && this.outbox.length > 0) this.#sender.work();
    }
    return this.#sinceTurn > TURN ? this.#nextTurn() : DONE;
  }

  /**
   * See `Transport.publishConfirmed`. What is lost meanwhile may be of these events, whoever
   * published it: then they are all handed back. Whoever flushes is told of it all the same.
   */
  async publishConfirmed(channel: Channel, inits: readonly Encodable[]): Promise<void> {
    const events = eventsOf(inits, 0);
    const before = this.#everLost;
    try {
      await this.publishBatch(channel, events);
      await this.drained();
    } catch (error) {
      throw new TransportPublishError(events, error as TransportError);
    }
    const lost = this.#everLost - before;
    if (lost > 0) {
      const cause = this.#cause ?? TransportError.timedOut();
      throw new TransportPublishError(events, TransportError.lost(lost, cause));
    }
  }

  /** See `Transport.flush`. */
  async flush(): Promise<void> {
    await this.drained();
    const [lost, cause] = [this.#lost, this.#cause ?? TransportError.timedOut()];
    this.#lost = 0;
    if (lost > 0) throw TransportError.lost(lost, cause);
  }

  /** Waits until everything that was published before is settled, well or not. */
  async drained(): Promise<void> {
    if (this.#closed) throw TransportError.closed();
    const waiter = this.#waiters[this.#waiters.length - 1];
    if (waiter !== undefined) await waiter.done.promise.catch(() => undefined);
    const target = this.outbox.nextTicket;
    const signal = this.#end.signal;
    for (;;) {
      const before = this.settled.value;
      if (before >= target) return;
      // As long as it goes on, it may take its time.
      const moved = await this.settled.until(
        (at) => at > before,
        this.link.settings.patience,
        signal,
      );
      if (signal.aborted) throw TransportError.closed();
      if (!moved) throw this.#whyNot() ?? TransportError.timedOut();
    }
  }

  /**
   * Takes nothing more, sends what waits as far as that is possible within `patience`, and returns what
   * is left. What is on its way then is not: it may have arrived.
   */
  async close(patience: number): Promise<{ channel: Channel; event: Event }[]> {
    if (!this.#closed) this.#gate?.free();
    this.#closed = true;
    this.#refuseAll(() => TransportError.closed());
    const target = this.outbox.nextTicket;
    await this.settled.until((at) => at >= target, patience, this.#end.signal);
    this.#end.abort();
    this.#sender.work();
    const left: { channel: Channel; event: Event }[] = [];
    const keep = (channel: Channel, frame: Uint8Array, count: number): void =>
      readRecords(frame, count, (event) => {
        if (event !== undefined) left.push({ channel, event });
      });
    for (const parcel of this.#sender.handBack())
      keep(parcel.lane.channel, frameIn(parcel), parcel.count);
    this.seal();
    for (const { lane, frame, count } of this.outbox.take(Infinity, Infinity))
      keep(lane.channel, frame, count);
    return left;
  }

  /**
   * Has subscribers told where channels are that have fallen silent, so that they notice what they
   * missed at the end, as soon as nothing waits to be sent.
   */
  tellPositions(): void {
    this.#positionsDue = true;
    this.#sender.work();
  }

  /** For the sender: the commands that tell positions, if it is time to. */
  duePositions(): (readonly Arg[])[] {
    const { carrier } = this;
    if (!this.#positionsDue || this.outbox.length > 0) return [];
    this.#positionsDue = false;
    const commands: (readonly Arg[])[] = [];
    for (const { lane, next } of this.#lanes.due()) {
      const command = carrier.position?.(lane, next);
      if (command !== undefined) commands.push(command);
    }
    return commands;
  }

  /** For the sender: events were lost. */
  lose(events: number, cause: TransportError): void {
    this.#lost += events;
    this.#everLost += events;
    this.#cause = cause;
  }

  /** For the sender: something was taken to be sent, so that there is room. */
  room(): void {
    this.#sinceTurn = 0;
    if (this.#waiters.length > 0) this.#serve();
  }

  #serve(): void {
    let served = 0;
    for (const waiter of this.#waiters) {
      try {
        const numbering = this.#lanes.of(waiter.channel);
        while (
          waiter.at < waiter.events.length &&
          this.#accept(numbering, waiter.events[waiter.at] as Event)
        ) {
          waiter.at += 1;
        }
        if (waiter.at < waiter.events.length) break;
        waiter.done.resolve();
      } catch (error) {
        this.#refuse(waiter, error as TransportError);
      }
      served += 1;
    }
    if (served > 0) this.#waiters = this.#waiters.slice(served);
    this.#watchWaiters();
  }

  /** Whether others wait that it may not pass. */
  #isBehind(event: Encodable): boolean {
    if (this.#waiters.length === 0) return false;
    return this.#gate === undefined || (event.priority ?? DEFAULT_PRIORITY) < CRITICAL_PRIORITY;
  }

  /** Whether the rate is limited, and this event is beyond it. */
  #isBeyondRate(event: Encodable, gate: Gate): boolean {
    const priority = event.priority ?? DEFAULT_PRIORITY;
    const answer = gate.decide(priority, this.outbox.length, 0, 0, performance.now());
    this.#retryAfter = answer <= RATE_LIMITED ? RATE_LIMITED - answer : undefined;
    return answer !== ACCEPT;
  }

  #refusal(events: readonly Event[], why: TransportError): Promise<never> {
    this.refused += events.length;
    return quietly(Promise.reject(new TransportPublishError(events, why)));
  }

  #refuse({ events, at, done }: Waiter, why: TransportError): void {
    const rest = events.slice(at);
    this.refused += rest.length;
    done.reject(new TransportPublishError(rest, why));
  }

  #took(numbering: Numbering): void {
    count(numbering);
    this.#sinceTurn += 1;
  }

  /** Takes one event; `false` if there is no room. @throws {@link TransportError} if waiting is no use. */
  #accept(numbering: Numbering, event: Encodable): boolean {
    if (this.#closed) throw TransportError.closed();
    if (this.#gate !== undefined && this.#isBeyondRate(event, this.#gate)) return false;
    const collects = this.outbox.keepsAll && !this.#isWriting;
    return collects ? this.#collect(numbering, event) : this.#acceptAlone(numbering, event);
  }

  /** Where nothing is ever dropped, those of one channel that follow each other are one entry. */
  #collect(numbering: Numbering, event: Encodable): boolean {
    const { batchEvents, batchBytes } = this.link.settings;
    const open = this.#open;
    if (open?.entry.lane === numbering.lane && open.entry.count < batchEvents) {
      const { entry, writer } = open;
      const bytes = this.#write(writer, event);
      // Writing may run a `toJSON` of the program's, which may publish.
      if (this.#open === open && FRAME_HEADER + entry.length + bytes <= batchBytes) {
        const taken = this.outbox.extend(entry, bytes);
        if (taken) this.#took(numbering);
        else writer.undo();
        return taken;
      }
      writer.undo();
    }
    const writer = new FrameWriter(HEADROOM, this.#expected);
    const length = this.#write(writer, event);
    this.seal();
    const { lane, next: number } = numbering;
    const [frame, priority] = [UNSEALED, DEFAULT_PRIORITY];
    const entry: Entry = { lane, frame, length, count: 1, number, priority, ticket: 0 };
    if (this.outbox.offer(entry) === 'full') return false;
    this.#open = { entry, writer };
    this.#took(numbering);
    return true;
  }

  #write(writer: FrameWriter, event: Encodable): number {
    this.#isWriting = true;
    try {
      return writer.add(event);
    } catch (error) {
      throw TransportError.unfit(error as Error);
    } finally {
      this.#isWriting = false;
    }
  }

  /** Makes what is collected ready to leave: nothing is added to it any more. */
  seal(): void {
    if (this.#open === undefined) return;
    const { entry, writer } = this.#open;
    this.#open = undefined;
    entry.message = asBuffer(writer.finish());
    entry.frame = entry.message.subarray(HEADROOM);
    this.#expected = Math.max(LEAST_EXPECTED, entry.length);
  }

  #acceptAlone(numbering: Numbering, event: Encodable): boolean {
    this.seal();
    const frame = fit(() => encode(event));
    const { lane, next: number } = numbering;
    const length = frame.length - FRAME_HEADER;
    const priority = event.priority ?? DEFAULT_PRIORITY;
    const entry = { lane, frame, length, count: 1, number, priority, ticket: 0 };
    const offered = this.outbox.offer(entry);
    if (offered === 'full') return false;
    if (offered === 'outranked') throw TransportError.full();
    this.#took(numbering);
    if (offered > 0) this.lose(offered, TransportError.full());
    return true;
  }

  #wait(channel: Channel, events: readonly Event[], at: number): Promise<void> {
    // Whoever does not wait for what it publishes cannot fill the memory either.
    if (this.#closed) throw TransportError.closed();
    if (this.#waiters.length >= this.link.settings.bufferEvents) throw TransportError.full();
    const until = performance.now() + this.link.settings.patience;
    const waiter = { channel, events, at, until, done: deferred<void>() };
    this.#waiters.push(waiter);
    this.#watchWaiters();
    return quietly(waiter.done.promise);
  }

  /** One timer for all: those who came first have waited longest. */
  #watchWaiters(): void {
    const first = this.#waiters[0];
    if (first === undefined) {
      clearTimeout(this.#timer);
      clearTimeout(this.#retry);
      this.#timer = this.#retry = undefined;
    } else {
      if (this.#retryAfter !== undefined) {
        this.#retry ??= timeout(this.#askAgain, Math.ceil(this.#retryAfter));
      }
      this.#timer ??= timeout(
        () => {
          this.#timer = undefined;
          const now = performance.now();
          while (this.#waiters[0] !== undefined && this.#waiters[0].until <= now) {
            const waiter = this.#waiters.shift() as Waiter;
            this.#refuse(waiter, this.#whyNot() ?? TransportError.full());
          }
          this.#watchWaiters();
        },
        Math.max(1, Math.ceil(first.until - performance.now())),
      );
    }
  }

  readonly #askAgain = (): void => {
    this.#retry = undefined;
    this.#serve();
    this.#sender.work();
  };

  #refuseAll(why: () => TransportError): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    this.#watchWaiters();
    for (const waiter of waiters) this.#refuse(waiter, why());
  }

  /** Lets what was read and answered have its turn. */
  #nextTurn(): Promise<void> {
    this.#turn ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#turn = undefined;
        this.#sinceTurn = 0;
        resolve();
      });
    });
    return this.#turn;
  }

  /** What keeps events from being sent, as far as is known. */
  #whyNot(): TransportError | undefined {
    if (this.trouble !== undefined) return TransportError.refused(this.trouble);
    return this.link.error?.toTransport();
  }
}

/** All from one on, as events. */
function eventsOf(inits: readonly Encodable[], from: number): Event[] {
  return inits.slice(from).map((init) => Event.of(init));
}
