/** {@link Schedules}: events that are published later, once or again and again. */

import { Event, type EventInit } from '../event.js';
import { ScheduleError } from './errors.js';
import { nowhere } from './place.js';
import { LONGEST } from './settings.js';

/** A time that a schedule could not keep is missed after so many milliseconds. */
const MISSED_AFTER = 60_000;
/** The wall clock may be set: it is read at least so often, in milliseconds. */
const LOOK_AGAIN = 5_000;
/** The most that `fireAll` may be. */
const MAX_FIRE_ALL = 1_000;
/** The longest name, in characters. */
const MAX_NAME = 255;

/**
 * When a schedule fires: `at` a time of the wall clock, in milliseconds since 1970; `after` so many
 * milliseconds; or `every` so many, first after the first of them. The last two measure time that
 * passes, whatever the wall clock is set to, and `every` does not drift.
 */
export type Plan =
  { readonly at: number | Date } | { readonly after: number } | { readonly every: number };

/**
 * What becomes of times that could not be kept, because the machine slept, the clock was set or the
 * bus was full: however many there were, it fires once (the default); it does not fire for them; or
 * for each, at most for so many, the latest, oldest first.
 */
export type Missed = 'fire_once' | 'skip' | { readonly fireAll: number };

/** How a schedule is made. */
export type ScheduleOptions = Plan & {
  /** Its id. One that is there already is replaced, unless its plan is the same. Default: a new one. */
  readonly name?: string | undefined;
  /** What happens to firings whose time passed. Default: `fire_once`. */
  readonly missed?: Missed | undefined;
};

/** A schedule as it stands. */
export interface Schedule {
  /** Its name, or the number that was made for it. */
  readonly id: string;
  /** When it fires. */
  readonly plan: Plan;
  /** What happens to firings whose time passed. */
  readonly missed: Missed;
  /** What it publishes, again and again: without an id and a timestamp. */
  readonly event: Event;
  /** When it fires next, in milliseconds since 1970, unless the clock is set. */
  readonly next: number;
}

/** What schedules did so far. */
export interface ScheduleStats {
  /** Events that the bus took. */
  readonly fired: number;
  /** Times that were not kept. */
  readonly missed: number;
  /** Events that the bus did not take. */
  readonly refused: number;
}

/** @internal What it asks of its bus. */
export interface SchedulesHost {
  readonly closed: boolean;
  now(): number;
  fault(event: Event): string | undefined;
  publish(init: EventInit, signal: AbortSignal | undefined): Promise<void>;
}

interface Entry {
  readonly id: string;
  readonly plan: Plan;
  readonly missed: Missed;
  readonly event: Event;
  /** By the wall clock for `at`, else by the one that only grows. */
  due: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/**
 * The schedules of a bus. They end with it; none is kept over a restart.
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { EventBus } from 'swarmbus';
 *
 * await using bus = new EventBus();
 * const woken = bus.subscribe('agent.wake');
 * bus.schedule({ type: 'agent.wake' }, { every: 10, name: 'alarm' });
 * const { value: event } = await woken.next();
 * assert.equal(event?.attributes['schedule'], 'alarm');
 * assert.ok(bus.schedules.cancel('alarm'));
 * ```
 */
export class Schedules {
  /** @internal Making the package small takes the name away. */
  static readonly name = 'Schedules';

  readonly #entries = new Map<string, Entry>();
  readonly #stats = { fired: 0, missed: 0, refused: 0 };
  #made = 0;

  /** @internal */
  constructor(
    private readonly host: SchedulesHost,
    private readonly limit: number,
  ) {}

  /** All of them, the next one first. */
  list(): Schedule[] {
    const all = [...this.#entries.values()].map((entry) => this.#shown(entry));
    return all.sort((a, b) => a.next - b.next);
  }

  /** The schedule of this id, if there is one. */
  get(id: string): Schedule | undefined {
    const entry = this.#entries.get(id);
    return entry && this.#shown(entry);
  }

  /** `false` if there is none. A firing that waits for room in the queue is published all the same. */
  cancel(id: string): boolean {
    clearTimeout(this.#entries.get(id)?.timer);
    return this.#entries.delete(id);
  }

  /** What has become of all firings so far. */
  stats(): ScheduleStats {
    return { ...this.#stats };
  }

  /** @internal See `EventBus.schedule`. */
  make(init: EventInit, options: ScheduleOptions): string {
    if (this.host.closed) throw new ScheduleError('closed', 'the bus is closed');
    const { name, missed = 'fire_once', ...plan } = options ?? ({} as ScheduleOptions);
    const id = name ?? `schedule-${++this.#made}`;
    if (id.length < 1 || id.length > MAX_NAME) {
      throw new ScheduleError('name', `a name has 1 to ${MAX_NAME} characters`);
    }
    const due = this.#first(plan);
    if (typeof missed === 'object' && !isFrom(1, missed.fireAll, MAX_FIRE_ALL)) {
      throw new ScheduleError('fire_all_limit', `fireAll is 1 to ${MAX_FIRE_ALL}`);
    }
    const event = Event.of(init).unstamped();
    const fault = this.host.fault(event);
    if (fault !== undefined) throw new ScheduleError('event', fault);
    const known = this.#entries.get(id);
    if (known !== undefined && isSame(known.plan, plan)) return id;
    if (known === undefined && this.#entries.size >= this.limit) {
      throw new ScheduleError(
        'too_many',
        `the bus has ${this.limit} schedules, which is its limit`,
      );
    }
    this.cancel(id);
    const entry: Entry = { id, plan, missed, event, due, timer: undefined };
    this.#entries.set(id, entry);
    this.#wait(entry);
    return id;
  }

  /** @internal Ends all of them. */
  end(): void {
    for (const id of [...this.#entries.keys()]) this.cancel(id);
  }

  /** When a plan is due for the first time. */
  #first(plan: Plan): number {
    const now = this.host.now();
    if ('at' in plan && Number.isFinite(Number(plan.at))) return Number(plan.at);
    if ('after' in plan && plan.after >= 0 && plan.after < Infinity) return now + plan.after;
    if ('every' in plan && plan.every >= 1 && plan.every < Infinity) return now + plan.every;
    throw new ScheduleError('plan', 'a schedule is at a time, after a time, or every 1 ms or more');
  }

  #clock({ plan }: Entry): number {
    return 'at' in plan ? Date.now() : this.host.now();
  }

  #shown(entry: Entry): Schedule {
    const { id, plan, missed, event, due } = entry;
    return { id, plan, missed, event, next: Date.now() + due - this.#clock(entry) };
  }

  #wait(entry: Entry): void {
    const left = Math.max(0, entry.due - this.#clock(entry));
    const most = 'at' in entry.plan ? LOOK_AGAIN : LONGEST;
    // Whoever made it may be a handler, and must not be taken for who publishes.
    nowhere(() => {
      entry.timer = setTimeout(() => this.#look(entry), Math.ceil(Math.min(left, most)));
    });
  }

  #look(entry: Entry): void {
    if (this.#clock(entry) < entry.due) this.#wait(entry);
    else void this.#fire(entry);
  }

  async #fire(entry: Entry): Promise<void> {
    const period = 'every' in entry.plan ? entry.plan.every : Infinity;
    const now = this.#clock(entry);
    const passed = 1 + (period === Infinity ? 0 : Math.floor((now - entry.due) / period));
    const last = passed === 1 ? entry.due : entry.due + (passed - 1) * period;
    for (const due of this.#times(entry, now, passed, last, period)) {
      await this.#publish(entry, Date.now() + due - this.#clock(entry));
      if (this.#entries.get(entry.id) !== entry) return;
    }
    if (period === Infinity) {
      this.#entries.delete(entry.id);
    } else {
      entry.due = last + period;
      this.#wait(entry);
    }
  }

  /** The times that it fires for. */
  #times(entry: Entry, now: number, passed: number, last: number, period: number): number[] {
    const isLate = now - last > MISSED_AFTER;
    const missed = passed - 1 + (isLate ? 1 : 0);
    this.#stats.missed += missed;
    if (entry.missed === 'skip') return isLate ? [] : [last];
    if (entry.missed === 'fire_once' || passed === 1) return [last];
    const count = Math.min(passed, entry.missed.fireAll);
    return Array.from({ length: count }, (_, n) => last - (count - 1 - n) * period);
  }

  async #publish({ id, event }: Entry, wall: number): Promise<void> {
    const scheduledat = new Date(wall).toISOString();
    const attributes = { ...event.attributes, schedule: id, scheduledat };
    try {
      await this.host.publish(event.with({ attributes }), undefined);
      this.#stats.fired++;
    } catch {
      this.#stats.refused++;
    }
  }
}

function isFrom(least: number, value: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}

function isSame(a: Plan, b: Plan): boolean {
  const text = (plan: Plan): string => JSON.stringify(Object.entries(plan));
  return text(a) === text(b);
}
