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
/** Lanes that are used again are not larger. */
const KEPT_SIZE = 256;

/** A queue in an array that is used round and round. Grows, by doubling, to what it once held. */
class Ring<T, N> {
  /** Each with its note behind it. */
  #items: (T | N | undefined)[] = new Array<T | N | undefined>(FIRST_SIZE * 2).fill(undefined);
  /** When each came, if anybody wants to know: later ones have larger numbers. */
  #since: Float64Array | undefined;
  #head = 0;
  #mask = FIRST_SIZE - 1;
  length = 0;

  constructor(isOrdered: boolean) {
    if (isOrdered) this.#since = new Float64Array(FIRST_SIZE);
  }

  get size(): number {
    return this.#mask + 1;
  }

  push(item: T, note: N, since: number): void {
    if (this.length > this.#mask) this.#grow();
    const at = (this.#head + this.length) & this.#mask;
    const items = this.#items;
    items[at * 2] = item;
    items[at * 2 + 1] = note;
    if (this.#since !== undefined) this.#since[at] = since;
    this.length++;
  }

  /** Of the first one. Means nothing when there is none. */
  note(): N {
    return this.#items[this.#head * 2 + 1] as N;
  }

  /** Its note stays until another takes the place: notes are few, and the same ones again. */
  shift(): T {
    const at = this.#head;
    const items = this.#items;
    const item = items[at * 2] as T;
    items[at * 2] = undefined;
    this.#head = (at + 1) & this.#mask;
    this.length--;
    return item;
  }

  /** When the first one came. Means nothing when there is none. */
  since(): number {
    return this.#since === undefined ? 0 : (this.#since[this.#head] as number);
  }

  #grow(): void {
    const size = this.size;
    const items = new Array<T | N | undefined>(size * 4).fill(undefined);
    const since = this.#since === undefined ? undefined : new Float64Array(size * 2);
    for (let i = 0; i < size; i++) {
      const from = (this.#head + i) & this.#mask;
      items[i * 2] = this.#items[from * 2];
      items[i * 2 + 1] = this.#items[from * 2 + 1];
      if (since !== undefined) since[i] = this.#since?.[from] as number;
    }
    this.#items = items;
    this.#since = since;
    this.#head = 0;
    this.#mask = size * 2 - 1;
  }
}

/** A lane for each priority. */
export class PriorityLanes<T, N> {
  #lanes: (Ring<T, N> | undefined)[] = new Array<Ring<T, N> | undefined>(PRIORITIES).fill(
    undefined,
  );
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
  /** What was noted with it. */
  lastNote: N | undefined;

  /** Whether it is known when events came; it costs to remember that. */
  constructor(private readonly isOrdered: boolean) {}

  push(priority: number, item: T, note: N, since: number): void {
    let lane = this.#lanes[priority];
    if (lane === undefined) {
      lane = new Ring<T, N>(this.isOrdered);
      this.#lanes[priority] = lane;
    }
    lane.push(item, note, since);
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
    return (this.#lanes[priority] as Ring<T, N>).since();
  }

  /** Makes empty lanes as good as new, and lets go of what a crowd has left. */
  renew(): void {
    this.#newRound();
    for (let priority = 0; priority < PRIORITIES; priority++) {
      if ((this.#lanes[priority]?.size ?? 0) > KEPT_SIZE) this.#lanes[priority] = undefined;
    }
  }

  #shift(priority: number): T {
    const lane = this.#lanes[priority] as Ring<T, N>;
    if (this.isOrdered) this.lastSince = lane.since();
    this.lastNote = lane.note();
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
