/**
 * What agents send to each other: a header that every place on the way can read,
 * and a payload that stays bytes until somebody touches it.
 */

import { plainOf } from './codec/header.js';
import { Payload, type Content } from './codec/payload.js';
import { uuidV7 } from './codec/uuid.js';

export { Payload, type Content } from './codec/payload.js';

/**
 * Microseconds since 1970: a number while that is exact (until the year 2255),
 * a bigint after that.
 */
export type Micros = number | bigint;

/** The one agent, or the swarm, that an event is for. */
export type Target = `agent:${string}` | `swarm:${string}`;

/** What an event is made of. Everything but the type has a default. */
export interface EventInit<T extends string = string, P = unknown> {
  /** What happened, as dotted tokens: `task.created`. At most 255 bytes of UTF-8. */
  readonly type: T;
  /**
   * A string travels as text, bytes as bytes, nothing as nothing, every other
   * value as MessagePack; a {@link Payload} says for itself.
   */
  readonly payload?: P | Payload | undefined;
  /** Who publishes. Default: nobody in particular, the empty string. */
  readonly source?: string | undefined;
  /** 0 lowest to 9 highest. Default 5; from 8 on it passes an open breaker. */
  readonly priority?: number | undefined;
  /** An id of the caller's choice, in place of the one made from the stamp. */
  readonly id?: string | undefined;
  /** The one agent or swarm that it is for. Default: everybody. */
  readonly target?: Target | undefined;
  /** The session that it belongs to. Default: none. */
  readonly session?: string | undefined;
  /** What all events of one conversation share. */
  readonly correlationId?: string | undefined;
  /** The id of the event that caused this one. */
  readonly causationId?: string | undefined;
  /** The `traceparent` header of W3C Trace Context. */
  readonly traceparent?: string | undefined;
  /** When it happened. A bus fills it in. */
  readonly timestamp?: Micros | undefined;
  /** After this the event is worth nothing. */
  readonly deadline?: Micros | undefined;
  /** The places that forwarded it, first to last. */
  readonly hops?: readonly string[] | undefined;
  /** Extension attributes of CloudEvents. */
  readonly attributes?: Readonly<Record<string, string>> | undefined;
  /** What the id is made of together with the timestamp; 64 bits, 0 for none. */
  readonly nonce?: bigint | undefined;
}

/** Of events that state none. */
export const DEFAULT_PRIORITY = 5;
/** From this priority on, an event passes an open circuit breaker. */
export const CRITICAL_PRIORITY = 8;

const NO_HOPS: readonly string[] = Object.freeze([]);
const NO_ATTRIBUTES: Readonly<Record<string, string>> = Object.freeze(
  Object.create(null) as Record<string, string>,
);

const NOTHING: Partial<EventInit> = Object.freeze({});

/** @internal The payload of an event to be; that of an {@link Event} if it is a spread copy of one. */
export function payloadOf(init: EventInit): unknown {
  const { payload } = init;
  if (payload !== undefined) return payload;
  const copy = init as { readonly nonceLow?: unknown; readonly body?: unknown };
  return copy.nonceLow === undefined || Object.hasOwn(init, 'payload') ? undefined : copy.body;
}

/**
 * One event. Take its fields as read-only, its payload too: who needs another
 * makes a copy {@link with} changes.
 *
 * `{ ...event, type: 'other' }` has the payload too, and becomes an event with an id of its own.
 * `JSON.stringify(event)` writes all fields, `id` and `payload` among them.
 */
export class Event<T extends string = string, P = unknown> {
  // Declared alone: fields that are defined would be stored twice for each event.
  /** What happened, as dotted tokens. */
  declare readonly type: T;
  /** Who published it; empty when nobody said. */
  declare readonly source: string;
  /** 0 lowest to 9 highest. */
  declare readonly priority: number;
  /** Whom it is for; undefined for everybody. */
  declare readonly target: Target | undefined;
  /** The session that it belongs to. */
  declare readonly session: string | undefined;
  /** What all events of one conversation share. */
  declare readonly correlationId: string | undefined;
  /** The id of the event that caused it. */
  declare readonly causationId: string | undefined;
  /** The `traceparent` header of W3C Trace Context. */
  declare readonly traceparent: string | undefined;
  /** When it is worth nothing any more. */
  declare readonly deadline: Micros | undefined;
  /** The places that forwarded it, first to last. */
  declare readonly hops: readonly string[];
  /** Extension attributes of CloudEvents. */
  declare readonly attributes: Readonly<Record<string, string>>;
  /** When it happened; undefined until set or published. */
  declare timestamp: Micros | undefined;
  /** The id of the caller's choice, without the one made from the stamp. */
  declare readonly ownId: string | undefined;
  /** The nonce's halves: a bigint for each event would cost more than the rest of it. */
  declare private nonceLow: number;
  declare private nonceHigh: number;
  /** The payload as it came. A copy by spreading has this in its place. */
  declare private body: unknown;

  /** Nothing is checked here: writing an event checks it. */
  constructor(init: EventInit<T, P>) {
    // From JavaScript, anything may come.
    init ??= NOTHING as EventInit<T, P>;
    this.type = init.type;
    this.source = init.source ?? '';
    this.priority = init.priority ?? DEFAULT_PRIORITY;
    this.target = init.target;
    this.session = init.session;
    this.correlationId = init.correlationId;
    this.causationId = init.causationId;
    this.traceparent = init.traceparent;
    this.deadline = init.deadline;
    this.hops = init.hops ?? NO_HOPS;
    this.attributes = init.attributes ?? NO_ATTRIBUTES;
    this.timestamp = init.timestamp;
    this.nonceLow = 0;
    this.nonceHigh = 0;
    if (init instanceof Event) this.share(init);
    else {
      const { id, payload } = init;
      this.ownId = id;
      this.body = payload === undefined ? payloadOf(init) : payload;
      if (init.nonce !== undefined) this.split(init.nonce);
    }
  }

  private share(other: Event): void {
    (this.ownId as string | undefined) = other.ownId;
    this.body = other.body;
    this.setNonce(other.nonceLow, other.nonceHigh);
  }

  private split(nonce: bigint): void {
    this.setNonce(Number(nonce & 0xffff_ffffn), Number(BigInt.asUintN(32, nonce >> 32n)));
  }

  private setNonce(low: number, high: number): void {
    this.nonceLow = low;
    this.nonceHigh = high;
  }

  /** @internal An event as it came: the nonce as two numbers. */
  static restored(init: EventInit, nonceLow: number, nonceHigh: number): Event {
    const event = new Event(init);
    event.setNonce(nonceLow, nonceHigh);
    return event;
  }

  /** @internal Whether this is an event. Here, V8 knows the class and looks at prototypes by itself. */
  static is(init: Event | EventInit): init is Event {
    return init instanceof Event;
  }

  /** The event again if it is one already, else a new one. */
  static of<T extends string, P>(init: Event<T, P> | EventInit<T, P>): Event<T, P> {
    return init instanceof Event ? init : new Event(init);
  }

  /**
   * The id of its own, else the UUIDv7 made from the stamp, else undefined.
   * Copies of one stamped event agree on it.
   */
  get id(): string | undefined {
    if (this.ownId !== undefined) return this.ownId;
    if (this.timestamp === undefined || !this.hasNonce) return undefined;
    return uuidV7(BigInt(this.timestamp), this.nonce);
  }

  /**
   * What it carries. That of a received event is decoded on the first touch.
   *
   * @throws PayloadError when the bytes are not what the event says they are.
   */
  get payload(): P {
    const body = this.body;
    return (body instanceof Payload ? body.value : body) as P;
  }

  /** How the payload travels. */
  get content(): Content {
    return Payload.contentOf(this.body);
  }

  /** The payload as it will be written: a {@link Payload} that was given or came, else the value. */
  get rawPayload(): unknown {
    return this.body;
  }

  /** 64 bits that tell events of one microsecond apart; 0 until it is stamped. */
  get nonce(): bigint {
    return (BigInt(this.nonceHigh) << 32n) | BigInt(this.nonceLow);
  }

  /** Whether it has a nonce other than 0. */
  get hasNonce(): boolean {
    return this.nonceLow !== 0 || this.nonceHigh !== 0;
  }

  /** The lower 32 bits of {@link nonce}, without making a bigint. */
  get nonceLow32(): number {
    return this.nonceLow;
  }

  /** The upper 32 bits of {@link nonce}. */
  get nonceHigh32(): number {
    return this.nonceHigh;
  }

  /** Whether it has a time and a nonce, and so an id made of them. */
  get isStamped(): boolean {
    return this.timestamp !== undefined && this.hasNonce;
  }

  /**
   * Gives the event its time and the number its id is made of, if it has none.
   * A bus does this on publishing.
   */
  stamp(now: Micros, nonceLow: number, nonceHigh: number): void {
    this.timestamp ??= now;
    if (!this.hasNonce) {
      this.nonceLow = nonceLow >>> 0;
      this.nonceHigh = nonceHigh >>> 0;
    }
  }

  /** A copy with other fields. The payload is shared. */
  with<Q = P>(changes: Partial<EventInit<T, Q>>): Event<T, Q> {
    const init: EventInit<T, Q> = {
      type: this.type,
      payload: this.body as Q,
      source: this.source,
      priority: this.priority,
      id: this.ownId,
      target: this.target,
      session: this.session,
      correlationId: this.correlationId,
      causationId: this.causationId,
      traceparent: this.traceparent,
      timestamp: this.timestamp,
      deadline: this.deadline,
      hops: this.hops,
      attributes: this.attributes,
      nonce: this.hasNonce ? this.nonce : undefined,
      ...changes,
    };
    return new Event(init);
  }

  /** The same again as an event of its own: without id and timestamp. */
  unstamped(): Event<T, P> {
    return this.with<P>({ id: undefined, timestamp: undefined, nonce: undefined });
  }

  /** All fields with their values, as `JSON.stringify` asks for them; a time beyond 2255 is text. */
  toJSON(): Record<string, unknown> {
    return plainOf(this, this.payload);
  }

  /** For logs: header and kind of payload, never the payload itself. */
  toString(): string {
    const id = this.id;
    return `Event(${this.type}${id === undefined ? '' : ` ${id}`}, priority ${this.priority}, ${this.content})`;
  }

  /** As {@link toString}: payloads may hold secrets, and logs are forever. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}
