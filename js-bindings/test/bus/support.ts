/** What the tests of the bus share: invented time, chance that repeats itself, handlers by hand. */

import assert from 'node:assert/strict';
import { mock } from 'node:test';

import { type AnyEvents, EventBus, type BusSettings } from 'swarmbus';

/** A generator that gives the same numbers for the same seed (mulberry32). */
export class Random {
  #state: number;

  constructor(readonly seed: number) {
    this.#state = seed;
  }

  /** Evenly distributed in 0..1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b_79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 to `below` - 1. */
  below(below: number): number {
    return Math.floor(this.next() * below);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }
}

/** Runs a property with many seeds, and says which one failed. */
export async function forSeeds(count: number, f: (random: Random) => unknown): Promise<void> {
  for (let seed = 1; seed <= count; seed++) {
    try {
      await f(new Random(seed));
    } catch (error) {
      throw new Error(`with seed ${seed}`, { cause: error });
    }
  }
}

/** Lets everything happen that needs no time to pass. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Has time stand still. To be followed by `mock.reset()`. */
export function stopTime(): void {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
  mock.method(performance, 'now', () => Date.now());
}

/** Lets time pass in small steps, and what it brings about happen in between. */
export async function pass(millis: number): Promise<void> {
  await settle();
  for (let left = millis; left > 0;) {
    const step = Math.min(left, Math.max(1, millis / 20));
    mock.timers.tick(step);
    left -= step;
    await settle();
  }
}

/** A handler whose calls end when the test says so. */
export class Hand {
  readonly calls: { payload: unknown; done: () => void; fail: (error: unknown) => void }[] = [];
  /** Payloads in the order in which they came. */
  readonly seen: unknown[] = [];

  readonly handle = (event: { readonly payload: unknown }): Promise<void> => {
    const { payload } = event;
    this.seen.push(payload);
    return new Promise((resolve, reject) => {
      this.calls.push({ payload, done: resolve, fail: reject });
    });
  };

  /** Ends the oldest call that is under way. */
  async next(): Promise<void> {
    this.calls.shift()?.done();
    await settle();
  }

  /** Ends all calls, and those that come after them. */
  async all(): Promise<void> {
    while (this.calls.length > 0) await this.next();
  }
}

/** A bus whose ledger is looked at when the test is over. */
export async function withBus<M extends object = AnyEvents>(
  settings: BusSettings,
  f: (bus: EventBus<M>) => unknown,
): Promise<void> {
  const bus = new EventBus<M>(settings);
  await f(bus);
  assert.equal(await bus.drain(60_000), 0, 'something is still pending');
  balanced(bus);
  await bus.close();
}

/** Every event is accounted for. */
export function balanced<M extends object>(bus: EventBus<M>): void {
  const ledger = bus.ledger();
  assert.ok(ledger.balances(), JSON.stringify(ledger));
  assert.equal(ledger.detached, 0);
}
