/**
 * The lanes of a queue, one for each priority, and the rule by which they are emptied.
 *
 * The highest priority comes first, but within one round priority p gives at most `SHARE[p]`
 * events. When every priority that waits has given its share, or only one is left, a new round
 * begins. So of any 264 events that are taken while all priorities wait, 8 are of priority 0: a
 * flood of urgent events slows the others and never stops them.
 */

/** How many events of each priority one round may take, priority 0 first. */
export const SHARE: readonly number[] = [8, 8, 8, 16, 16, 16, 32, 32, 64, 64];

export const PRIORITIES = SHARE.length;

const FIRST_SIZE = 16;

/** A queue in an array that is used round and round. Grows, by doubling, to what it once held. */
class Ring<T> {
  #items: (T | undefined)[] = new Array<T | undefined>(FIRST_SIZE).fill(undefined);
  /** When each came: later ones have larger numbers. */
  #since = new Float64Array(FIRST_SIZE);
  #head = 0;
  length = 0;

  push(item: T, since: number): void {
    if (this.length === this.#items.length) this.#grow();
    const at = (this.#head + this.length) & (this.#items.length - 1);
    this.#items[at] = item;
    this.#since[at] = since;
    this.length++;
  }

  shift(): T {
    const at = this.#head;
    const item = this.#items[at] as T;
    this.#items[at] = undefined;
    this.#head = (at + 1) & (this.#items.length - 1);
    this.length--;
    return item;
  }

  /** When the first one came. Means nothing when there is none. */
  since(): number {
    return this.#since[this.#head] as number;
  }

  #grow(): void {
    const size = this.#items.length;
    const items = new Array<T | undefined>(size * 2).fill(undefined);
    const since = new Float64Array(size * 2);
    for (let i = 0; i < size; i++) {
      const from = (this.#head + i) & (size - 1);
      items[i] = this.#items[from];
      since[i] = this.#since[from] as number;
    }
    this.#items = items;
    this.#since = since;
    this.#head = 0;
  }
}

/** A lane for each priority. */
export class PriorityLanes<T> {
  #lanes: (Ring<T> | undefined)[] = new Array<Ring<T> | undefined>(PRIORITIES).fill(undefined);
  /** A bit for each lane that is not empty. */
  #occupied = 0;
  /** A bit for each lane that has given its share in this round. */
  #spent = 0;
  /** What is left of each lane's share. */
  #credit = Int32Array.from(SHARE);
  #fresh = true;
  /** Events in all lanes together. */
  depth = 0;
  /** When the one that was taken last had come. */
  lastSince = 0;

  push(priority: number, item: T, since: number): void {
    let lane = this.#lanes[priority];
    if (lane === undefined) {
      lane = new Ring<T>();
      this.#lanes[priority] = lane;
    }
    lane.push(item, since);
    this.#occupied |= 1 << priority;
    this.depth++;
  }

  /** Takes the next event by the fairness rule. */
  take(): T | undefined {
    const occupied = this.#occupied;
    if (occupied === 0) return undefined;
    if ((occupied & (occupied - 1)) === 0) {
      // A lane that waits alone needs no share.
      if (!this.#fresh) this.#newRound();
      return this.#shift(31 - Math.clz32(occupied));
    }
    let ready = occupied & ~this.#spent;
    if (ready === 0) {
      this.#newRound();
      ready = occupied;
    }
    const priority = 31 - Math.clz32(ready);
    const left = (this.#credit[priority] as number) - 1;
    this.#credit[priority] = left;
    this.#fresh = false;
    if (left === 0) this.#spent |= 1 << priority;
    return this.#shift(priority);
  }

  /** Takes out the oldest event of a lane, outside of the rule. */
  evict(priority: number): T | undefined {
    return (this.#occupied & (1 << priority)) === 0 ? undefined : this.#shift(priority);
  }

  /** The lowest priority that waits, or -1. */
  lowest(): number {
    const occupied = this.#occupied;
    return occupied === 0 ? -1 : 31 - Math.clz32(occupied & -occupied);
  }

  /** When the oldest event of a lane came, or `Infinity`. */
  since(priority: number): number {
    if ((this.#occupied & (1 << priority)) === 0) return Infinity;
    return (this.#lanes[priority] as Ring<T>).since();
  }

  #shift(priority: number): T {
    const lane = this.#lanes[priority] as Ring<T>;
    this.lastSince = lane.since();
    const item = lane.shift();
    if (lane.length === 0) this.#occupied &= ~(1 << priority);
    this.depth--;
    return item;
  }

  #newRound(): void {
    this.#credit.set(SHARE);
    this.#spent = 0;
    this.#fresh = true;
  }
}
