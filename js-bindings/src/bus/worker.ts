/**
 * Empties the queue. Up to `workers` events are handled at once; while one waits, others of its
 * source are held back, so that each source keeps its order.
 *
 * It runs in a microtask after the publish that woke it, now and then in a later turn of the event
 * loop, and leaves the thread to timers and I/O after two milliseconds.
 */

import type { Event } from '../event.js';
import type { Sampler } from './metrics.js';
import { nowhere } from './place.js';
import type { Queue } from './queue.js';
import type { Route } from './routes.js';
import type { Flight, Runner } from './runner.js';
import type { Stamper } from './stamper.js';
import { macrotask } from './turn.js';
import type { Waiters } from './waiters.js';

const NOW = Promise.resolve();

/** How long it keeps the thread, in milliseconds. */
const SLICE = 2;
/** So many runs in microtasks; then the rest of the turn's events are taken together in a later one. */
const RUNS_A_TURN = 8;
/** The most events between two looks at the clock. */
const LONGEST_STRIDE = 256;

/** What a worker asks of its bus. */
export interface WorkerHost {
  /** A close ran out of time: nothing more begins. */
  readonly stopped: boolean;
  /** Which events are timed. */
  readonly sampler: Sampler;
  readonly stamper: Stamper;
  now(): number;
  /** The handlers of an event, if they are not those that they were when it came. */
  routeNow(event: Event, route: Route): Route;
  /** Whether events may have waited for too long. */
  readonly isTimed: boolean;
  /** Whether an event that came then has waited for too long. */
  isStale(since: number): boolean;
  /** It has, and reaches nobody. */
  expired(event: Event): void;
  /** There may be nothing left to do. */
  maybeIdle(): void;
}

export class Worker {
  /** Events that are being handled and wait. */
  inFlight = 0;
  private scheduled = false;
  /** Runs in microtasks since the last in a turn of its own. */
  private runs = 0;
  private running = false;
  /** When it last began with a fresh turn of the event loop, and looked at the clock. */
  private turn = 0;
  private looked = 0;
  private stride = 1;
  private left = 1;
  /** Sources whose next event is to be taken when the worker runs again. */
  private readonly paused: string[] = [];

  constructor(
    private readonly host: WorkerHost,
    private readonly queue: Queue,
    private readonly waiters: Waiters,
    private readonly runner: Runner,
    private readonly most: number,
  ) {}

  /** Whether it is at work, or about to be. */
  get isBusy(): boolean {
    return this.scheduled || this.running || this.inFlight > 0;
  }

  /** There is something to do. */
  wake(): void {
    if (!this.scheduled && !this.running) this.schedule();
  }

  private schedule(): void {
    if (++this.runs > RUNS_A_TURN) return this.later();
    this.scheduled = true;
    // `queueMicrotask` makes an object for async hooks each time, this does not.
    void NOW.then(this.runNow);
  }

  private readonly runNow = (): void => {
    nowhere(this.work);
  };

  private readonly work = (): void => {
    this.host.stamper.forget();
    this.scheduled = false;
    this.running = true;
    let over: boolean;
    try {
      over = this.empty();
    } finally {
      // No program's error comes to here; one of the bus itself must not end it.
      this.running = false;
    }
    this.host.stamper.forget();
    if (over && (this.paused.length > 0 || this.queue.isReady)) this.later();
    else this.host.maybeIdle();
  };

  /** Takes events until there are none that it may take, or the turn is over. */
  private empty(): boolean {
    let over = false;
    while (!over && this.paused.length > 0) over = !this.goOnWith(this.paused.pop() as string);
    while (!over && this.inFlight < this.most && !this.host.stopped) {
      const event = this.queue.take();
      if (event === undefined) break;
      if (this.waiters.size > 0) this.waiters.admit();
      this.begin(event);
      over = --this.left <= 0 && this.isTurnOver();
    }
    return over;
  }

  /** Handles an event that nobody of its source is before. */
  private begin(event: Event): void {
    const flight = this.handle(event);
    if (flight !== undefined) this.hold(event, flight);
  }

  private hold(event: Event, flight: Flight): void {
    this.inFlight++;
    this.queue.hold(event.source);
    flight.done = this.landed;
  }

  private handle(event: Event): Flight | undefined {
    if (this.host.isTimed && this.isExpired(event)) return undefined;
    const route = this.host.routeNow(event, this.queue.takenRoute);
    return this.host.sampler.due() ? this.timed(event, route) : this.runner.run(route, event, true);
  }

  private isExpired(event: Event): boolean {
    const expired = this.host.isStale(this.queue.takenSince);
    if (expired) this.host.expired(event);
    return expired;
  }

  private timed(event: Event, route: Route): Flight | undefined {
    const { sampler } = this.host;
    const since = this.host.now();
    const flight = this.runner.run(route, event, true);
    if (flight === undefined) sampler.record(this.host.now() - since);
    else flight.since = since;
    return flight;
  }

  /** Not in the middle of another event: a promise that is ready ends between two of them. */
  private readonly landed = (flight: Flight): void => {
    if (flight.since >= 0) this.host.sampler.record(this.host.now() - flight.since);
    if (this.goOnWith(flight.event.source)) this.wake();
    else this.later();
  };

  /** Takes the next events of a source that was held back; `false` if the turn is over. */
  private goOnWith(source: string): boolean {
    while (!this.host.stopped) {
      if (--this.left <= 0 && this.isTurnOver()) {
        this.paused.push(source);
        return false;
      }
      const event = this.queue.next(source);
      if (event === undefined) break;
      if (this.waiters.size > 0) this.waiters.admit();
      const flight = this.handle(event);
      if (flight !== undefined) {
        flight.done = this.landed;
        return true;
      }
    }
    this.inFlight--;
    return true;
  }

  /** Looks at the clock, and takes longer strides while they are short in time. */
  private isTurnOver(): boolean {
    const now = this.host.now();
    this.stride =
      now - this.looked < SLICE / 2
        ? Math.min(LONGEST_STRIDE, this.stride * 2)
        : Math.max(1, this.stride >> 1);
    this.left = this.stride;
    this.looked = now;
    return now - this.turn >= SLICE;
  }

  private later(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    macrotask(() => {
      this.runs = 0;
      this.turn = this.looked = this.host.now();
      this.runNow();
    });
  }
}
