/** {@link Outbox}: events that wait to be sent, bounded in number and bytes. Pure. */

import type { Channel, Overflow } from '../index.js';

/** The policies that are about room. The other one is about rates: see `publisher.ts`. */
export type RoomPolicy = Extract<Overflow, 'reject' | 'drop_oldest' | 'drop_lowest_priority'>;

/** One channel of one publisher. */
export interface Lane {
  readonly channel: Channel;
  /** What the channel is called on the server. */
  readonly key: string;
  /** Who numbers its events: no other lane of anybody has this number. */
  readonly publisher: string;
  /** When it began to number, in milliseconds of a clock that only goes forward. */
  readonly born: number;
}

/** An event that waits; or several that were published together and stay together. */
export interface Entry {
  readonly lane: Lane;
  /** Encoded: a frame of its own. */
  frame: Uint8Array;
  /** The same with room in front of it, if it has that. */
  message?: Buffer;
  /** Bytes that it takes in a frame of many. */
  length: number;
  /** How many events. */
  count: number;
  /** The number of the first in its lane, from 1. */
  readonly number: number;
  readonly priority: number;
  /** How many entries the outbox took before this one. */
  ticket: number;
}

/**
 * What became of an event that was offered: it waits, and so many were dropped for it; there is no
 * room for it yet; or there will be none for one of its priority.
 */
export type Offered = number | 'full' | 'outranked';

/** Events that leave in the order in which they came. */
class Fifo {
  #entries: Entry[] = [];
  #head = 0;
  bytes = 0;
  /** Events. */
  length = 0;

  get first(): Entry | undefined {
    return this.#entries[this.#head];
  }

  push(entry: Entry): void {
    this.#entries.push(entry);
    this.length += entry.count;
    this.bytes += entry.length;
  }

  /** The last entry has got one event more. */
  extend(bytes: number): void {
    this.length += 1;
    this.bytes += bytes;
  }

  shift(): Entry | undefined {
    const entry = this.#entries[this.#head];
    if (entry === undefined) return undefined;
    this.#head += 1;
    this.length -= entry.count;
    this.bytes -= entry.length;
    // Each place is moved at most once for each event that has left.
    if (this.#head > 1_024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    } else if (this.#head === this.#entries.length) {
      this.#entries = [];
      this.#head = 0;
    }
    return entry;
  }
}

/** Events in the order in which they came. */
export class Outbox {
  /** One, or, for the policy that asks for the lowest, one for each priority. */
  readonly #ranks: Fifo[];
  #length = 0;
  #bytes = 0;
  #nextTicket = 0;

  constructor(
    private readonly policy: RoomPolicy,
    private readonly maxEvents: number,
    private readonly maxBytes: number,
  ) {
    const ranks = policy === 'drop_lowest_priority' ? 10 : 1;
    this.#ranks = Array.from({ length: ranks }, () => new Fifo());
  }

  /** Whether nothing is ever dropped. */
  get keepsAll(): boolean {
    return this.policy === 'reject';
  }

  /** Events that wait. */
  get length(): number {
    return this.#length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** How many entries it has taken in so far: the ticket of the next. */
  get nextTicket(): number {
    return this.#nextTicket;
  }

  /** The ticket of the oldest event that waits, or of the next. */
  get oldestTicket(): number {
    return this.#oldest().first?.ticket ?? this.#nextTicket;
  }

  /**
   * Takes an event in, at the cost of others if the policy says so. One that is larger than the
   * whole outbox is taken when nothing else waits.
   */
  offer(entry: Entry): Offered {
    let dropped = 0;
    if (!this.#hasRoom(entry)) {
      if (this.policy === 'reject') return 'full';
      if (this.policy === 'drop_lowest_priority' && !this.#canYield(entry)) return 'outranked';
      do {
        const rank = this.policy === 'drop_oldest' ? this.#oldest() : this.#lowest();
        dropped += rank.first?.count ?? 0;
        this.#shift(rank);
      } while (!this.#hasRoom(entry));
    }
    entry.ticket = this.#nextTicket;
    this.#nextTicket += 1;
    this.#length += entry.count;
    this.#bytes += entry.length;
    (this.#ranks[this.#ranks.length === 1 ? 0 : entry.priority] as Fifo).push(entry);
    return dropped;
  }

  /**
   * One event more for the entry that came last, and is still here; `false` if there is no room.
   * For outboxes that drop nothing.
   */
  extend(entry: Entry, bytes: number): boolean {
    if (this.#length + 1 > this.maxEvents || this.#bytes + bytes > this.maxBytes) return false;
    entry.count += 1;
    entry.length += bytes;
    this.#length += 1;
    this.#bytes += bytes;
    (this.#ranks[0] as Fifo).extend(bytes);
    return true;
  }

  /** Moves events out, oldest first: at most so many, and so many bytes unless the first alone has more. */
  take(maxEvents: number, maxBytes: number): Entry[] {
    const taken: Entry[] = [];
    let [events, bytes] = [0, 0];
    for (;;) {
      const rank = this.#oldest();
      const first = rank.first;
      if (first === undefined) break;
      events += first.count;
      bytes += first.length;
      if (events > maxEvents || (taken.length > 0 && bytes > maxBytes)) break;
      this.#shift(rank);
      taken.push(first);
    }
    return taken;
  }

  #hasRoom({ count, length }: Entry): boolean {
    return (
      this.#length === 0 ||
      (this.#length + count <= this.maxEvents && this.#bytes + length <= this.maxBytes)
    );
  }

  /** Whether enough would be dropped for it: what only part of the room would be made for must not cost anything. */
  #canYield(entry: Entry): boolean {
    let [events, bytes] = [0, 0];
    for (const rank of this.#ranks.slice(0, entry.priority)) {
      events += rank.length;
      bytes += rank.bytes;
    }
    const [staying, room] = [this.#length - events, this.maxBytes - (this.#bytes - bytes)];
    return staying === 0 || (staying + entry.count <= this.maxEvents && entry.length <= room);
  }

  #shift(rank: Fifo): void {
    const entry = rank.shift();
    if (entry === undefined) return;
    this.#length -= entry.count;
    this.#bytes -= entry.length;
  }

  /** The rank with the oldest event. */
  #oldest(): Fifo {
    let oldest = this.#ranks[0] as Fifo;
    for (const rank of this.#ranks) {
      if (
        rank.first !== undefined &&
        (oldest.first === undefined || rank.first.ticket < oldest.first.ticket)
      ) {
        oldest = rank;
      }
    }
    return oldest;
  }

  /** The lowest rank that has an event. */
  #lowest(): Fifo {
    return this.#ranks.find((rank) => rank.length > 0) ?? (this.#ranks[0] as Fifo);
  }
}
