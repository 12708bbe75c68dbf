/**
 * The bounded priority queue between publishers and the worker: lanes, the overflow policy, water
 * marks, and those who wait for room.
 */

import type { Event } from '../event.js';
import type { PublishCode } from './errors.js';
import { PriorityLanes, PRIORITIES } from './lanes.js';
import { ACCEPT, FULL, type Gate, OUTRANKED, RATE_LIMITED } from './overflow.js';
import type { Route } from './routes.js';

/** Sizes in events. */
export interface Sizes {
  readonly capacity: number;
  /** Room beyond the capacity for handlers, which may not wait. */
  readonly reserve: number;
  /** Depth at which backpressure begins. */
  readonly high: number;
  /** Depth at which it ends. */
  readonly low: number;
}

/** What the queue asks of its bus. */
export interface QueueHost {
  /** An event had to go: `outcome` says how that counts. */
  evicted(event: Event, outcome: number): void;
  /** The depth rose to the high-water mark, or fell to the low one. */
  pressure(high: boolean): void;
  /** Milliseconds that only grow. */
  now(): number;
}

/** So many empty lanes of sources are kept for others. */
const MAX_SPARE = 64;

export class Queue {
  private readonly host: QueueHost;
  private readonly sizes: Sizes;
  private readonly gate: Gate;
  /** Below this depth an event is taken without a question: no policy to ask, no mark to reach. */
  private calm: number;
  /** Whether events carry the time at which they came, or just a number, or nothing. */
  private readonly timed: boolean;
  private readonly isOrdered: boolean;
  private last = 0;
  /** Events that nobody has begun. */
  private readonly lanes: PriorityLanes<Event, Route>;
  /** Those that wait until an earlier event of their source is done, by source. */
  private readonly parked = new Map<string, PriorityLanes<Event, Route> | undefined>();
  /** Empty ones, as they are large. */
  private readonly spare: PriorityLanes<Event, Route>[] = [];
  private parkedDepth = 0;
  private pressedNow = false;
  /** Events accepted so far. */
  accepted = 0;
  /** The most that ever waited. */
  peak = 0;
  /** In how many milliseconds to ask again, when `offer` last said `rate_limited`. */
  retryAfter = 0;

  constructor(host: QueueHost, sizes: Sizes, gate: Gate, timed: boolean) {
    this.host = host;
    this.sizes = sizes;
    this.gate = gate;
    this.timed = timed;
    this.isOrdered = timed || gate.drops;
    this.calm = this.isOrdered || gate.always ? 0 : Math.min(sizes.capacity, sizes.high - 1);
    this.lanes = new PriorityLanes<Event, Route>(this.isOrdered);
  }

  /** Events that wait, parked ones among them. */
  get depth(): number {
    return this.lanes.depth + this.parkedDepth;
  }

  get isPressed(): boolean {
    return this.pressedNow;
  }

  /** Whether an event might be accepted without dropping another. */
  get hasRoom(): boolean {
    return this.depth < this.sizes.capacity;
  }

  /** Whether a worker would find something. */
  get isReady(): boolean {
    return this.lanes.depth > 0;
  }

  /**
   * Queues an event if that takes no thought; `offer` is for all others. Whoever waits for room waits
   * for a queue in which it does, and so stays before those that come now.
   */
  push(event: Event, route: Route): boolean {
    const { depth } = this;
    if (depth >= this.calm) return false;
    this.lanes.push(event.priority, event, route);
    this.accepted++;
    if (depth >= this.peak) this.peak = depth + 1;
    return true;
  }

  /** From now on `push` leaves every event to whoever knows why it is not taken. */
  end(): void {
    this.calm = 0;
  }

  /** Queues an event, or says why not. `mayNotWait` gives it the reserve. */
  offer(event: Event, route: Route, mayNotWait: boolean): PublishCode | undefined {
    if (this.depth >= this.sizes.capacity || this.gate.always) {
      const refused = this.makeRoom(event.priority, this.depth, mayNotWait);
      if (refused !== undefined) return refused;
    }
    this.lanes.push(event.priority, event, route);
    if (this.isOrdered) this.lanes.date(event.priority, this.moment());
    this.accepted++;
    const { depth } = this;
    if (depth > this.peak) this.peak = depth;
    if (depth >= this.sizes.high && !this.pressedNow) {
      this.pressedNow = true;
      this.host.pressure(true);
    }
    return undefined;
  }

  /** The next event by the fairness rule whose source is not busy; others are parked on the way. */
  take(): Event | undefined {
    for (;;) {
      const event = this.lanes.take();
      if (event === undefined) return undefined;
      if (this.parked.size > 0 && this.parked.has(event.source)) {
        this.park(event);
        continue;
      }
      if (this.pressedNow) this.took();
      return event;
    }
  }

  /** When the event that was taken last had come, if the queue is timed. */
  get takenSince(): number {
    return this.lanes.lastSince;
  }

  /** The way of the event that was taken last, as it was when it came. */
  get takenRoute(): Route {
    return this.lanes.lastNote as Route;
  }

  /** Keeps events of this source back until `next` finds none. */
  hold(source: string): void {
    this.parked.set(source, undefined);
  }

  /** The next event of a source that is held back; if there is none, it is so no more. */
  next(source: string): Event | undefined {
    const lanes = this.parked.get(source);
    const event = lanes?.take();
    if (lanes === undefined || event === undefined) {
      this.parked.delete(source);
      if (lanes !== undefined && this.spare.length < MAX_SPARE) {
        lanes.renew();
        this.spare.push(lanes);
      }
      return undefined;
    }
    this.lanes.lastSince = lanes.lastSince;
    this.lanes.lastNote = lanes.lastNote;
    this.parkedDepth--;
    if (this.pressedNow) this.took();
    return event;
  }

  /** Takes everything out, by the fairness rule. */
  clear(): Event[] {
    const all: Event[] = [];
    for (const lanes of [this.lanes, ...this.parked.values()]) {
      for (let event = lanes?.take(); event !== undefined; event = lanes?.take()) all.push(event);
    }
    this.parkedDepth = 0;
    this.took();
    return all;
  }

  private moment(): number {
    if (!this.timed) return ++this.last;
    // Numbers must differ, as the oldest event is found by them.
    return (this.last = Math.max(this.host.now(), this.last + 1e-6));
  }

  private park(event: Event): void {
    let lanes = this.parked.get(event.source);
    if (lanes === undefined) {
      lanes = this.spare.pop() ?? new PriorityLanes<Event, Route>(this.isOrdered);
      this.parked.set(event.source, lanes);
    }
    lanes.push(event.priority, event, this.takenRoute);
    if (this.isOrdered) lanes.date(event.priority, this.lanes.lastSince);
    this.parkedDepth++;
  }

  private took(): void {
    if (this.pressedNow && this.depth <= this.sizes.low) {
      this.pressedNow = false;
      this.host.pressure(false);
    }
  }

  private makeRoom(priority: number, depth: number, mayNotWait: boolean): PublishCode | undefined {
    const gate = this.gate;
    const asks = gate.drops && depth >= this.sizes.capacity;
    const answer = gate.decide(
      priority,
      depth,
      asks ? this.lowest() : 0,
      asks ? this.oldest() : 0,
      gate.always ? this.host.now() : 0,
    );
    if (answer === ACCEPT) return undefined;
    if (answer > ACCEPT) {
      const evicted = this.evict(answer - 1);
      if (evicted !== undefined) this.host.evicted(evicted, gate.dropsAs);
      return undefined;
    }
    if (answer === OUTRANKED) return 'outranked';
    // A handler must not wait: it has a reserve.
    if (mayNotWait && depth < this.sizes.capacity + this.sizes.reserve) return undefined;
    if (answer === FULL) return 'full';
    this.retryAfter = RATE_LIMITED - answer;
    return 'rate_limited';
  }

  private *everywhere(): Generator<PriorityLanes<Event, Route>> {
    yield this.lanes;
    if (this.parkedDepth === 0) return;
    for (const lanes of this.parked.values()) if (lanes !== undefined) yield lanes;
  }

  private lowest(): number {
    let lowest = PRIORITIES;
    for (const lanes of this.everywhere()) {
      const own = lanes.lowest();
      if (own >= 0 && own < lowest) lowest = own;
    }
    return lowest === PRIORITIES ? -1 : lowest;
  }

  private oldest(): number {
    let since = Infinity;
    let oldest = -1;
    for (const lanes of this.everywhere()) {
      for (let priority = 0; priority < PRIORITIES; priority++) {
        const own = lanes.since(priority);
        if (own < since) {
          since = own;
          oldest = priority;
        }
      }
    }
    return oldest;
  }

  private evict(priority: number): Event | undefined {
    let since = Infinity;
    let from: PriorityLanes<Event, Route> | undefined;
    for (const lanes of this.everywhere()) {
      const own = lanes.since(priority);
      if (own < since) {
        since = own;
        from = lanes;
      }
    }
    const evicted = from?.evict(priority);
    if (evicted === undefined) return undefined;
    if (from !== this.lanes) this.parkedDepth--;
    return evicted;
  }
}
