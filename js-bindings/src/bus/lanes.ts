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
class Ring<T extends object, N> {
  /** Each with its note behind it. Where there is none, there is nothing. */
  private items: (T | N | undefined)[] = new Array<T | N | undefined>(FIRST_SIZE * 2).fill(
    undefined,
  );
  /** When each came, if anybody wants to know: later ones have larger numbers. */
  private times: Float64Array | undefined;
  /** The places of the first one, and of the next to come. */
  private head = 0;
  private tail = 0;
  private mask = FIRST_SIZE * 2 - 1;

  constructor(isOrdered: boolean) {
    if (isOrdered) this.times = new Float64Array(FIRST_SIZE);
  }

  /** How many there is room for. */
  get size(): number {
    return this.items.length / 2;
  }

  get isEmpty(): boolean {
    return this.items[this.head] === undefined;
  }

  push(item: T, note: N): void {
    if (this.items[this.tail] !== undefined) this.grow();
    const { items, tail } = this;
    items[tail] = item;
    items[tail + 1] = note;
    this.tail = (tail + 2) & this.mask;
  }

  /** Says when the last one came. */
  date(since: number): void {
    if (this.times !== undefined) this.times[((this.tail - 2) & this.mask) / 2] = since;
  }

  /** Of the first one. Means nothing when there is none. */
  note(): N {
    return this.items[this.head + 1] as N;
  }

  /** Its note stays until another takes the place: notes are few, and the same ones again. */
  shift(): T {
    const { items, head } = this;
    const item = items[head] as T;
    items[head] = undefined;
    this.head = (head + 2) & this.mask;
    return item;
  }

  /** When the first one came. Means nothing when there is none. */
  since(): number {
    return this.times === undefined ? 0 : (this.times[this.head / 2] as number);
  }

  /** All places are taken: the first one is where the next would go. */
  private grow(): void {
    const { items, times, head, size } = this;
    this.items = [...items.slice(head), ...items.slice(0, head), ...new Array(size * 2)];
    if (times !== undefined) {
      this.times = new Float64Array(size * 2);
      this.times.set(times.subarray(head / 2));
      this.times.set(times.subarray(0, head / 2), size - head / 2);
    }
    this.head = 0;
    this.tail = size * 2;
    this.mask = size * 4 - 1;
  }
}

/** A lane for each priority. */
export class PriorityLanes<T extends object, N> {
  private lanes: (Ring<T, N> | undefined)[] = new Array<Ring<T, N> | undefined>(PRIORITIES).fill(
    undefined,
  );
  /** A bit for each lane that is not empty. */
  private occupied = 0;
  /** A bit for each lane that has given its share in this round. */
  private spent = 0;
  /** What is left of each lane's share. */
  private credit = Int32Array.from(SHARE);
  private fresh = true;
  /** Events in all lanes together. */
  depth = 0;
  /** When the one that was taken last had come. */
  lastSince = 0;
  /** What was noted with it. */
  lastNote: N | undefined;

  /** Whether it is known when events came; it costs to remember that. */
  constructor(private readonly isOrdered: boolean) {}

  push(priority: number, item: T, note: N): void {
    (this.lanes[priority] ?? this.open(priority)).push(item, note);
    this.occupied |= 1 << priority;
    this.depth++;
  }

  /** Says when the last one of a lane came, if lanes are ordered. */
  date(priority: number, since: number): void {
    this.lanes[priority]?.date(since);
  }

  private open(priority: number): Ring<T, N> {
    return (this.lanes[priority] = new Ring<T, N>(this.isOrdered));
  }

  /** Takes the next event by the fairness rule. */
  take(): T | undefined {
    const { occupied } = this;
    // A lane that waits alone needs no share.
    const alone = (occupied & (occupied - 1)) === 0;
    if (alone && !this.fresh) this.newRound();
    if (occupied === 0) return undefined;
    return this.shift(alone ? 31 - Math.clz32(occupied) : this.fairest(occupied));
  }

  private fairest(occupied: number): number {
    let ready = occupied & ~this.spent;
    if (ready === 0) {
      this.newRound();
      ready = occupied;
    }
    const priority = 31 - Math.clz32(ready);
    const left = (this.credit[priority] as number) - 1;
    this.credit[priority] = left;
    this.fresh = false;
    if (left === 0) this.spent |= 1 << priority;
    return priority;
  }

  /** Takes out the oldest event of a lane, outside of the rule. */
  evict(priority: number): T | undefined {
    return (this.occupied & (1 << priority)) === 0 ? undefined : this.shift(priority);
  }

  /** The lowest priority that waits, or -1. */
  lowest(): number {
    const occupied = this.occupied;
    return occupied === 0 ? -1 : 31 - Math.clz32(occupied & -occupied);
  }

  /** When the oldest event of a lane came, or `Infinity`. */
  since(priority: number): number {
    if ((this.occupied & (1 << priority)) === 0) return Infinity;
    return (this.lanes[priority] as Ring<T, N>).since();
  }

  /** Makes empty lanes as good as new, and lets go of what a crowd has left. */
  renew(): void {
    this.newRound();
    for (let priority = 0; priority < PRIORITIES; priority++) {
      if ((this.lanes[priority]?.size ?? 0) > KEPT_SIZE) this.lanes[priority] = undefined;
    }
  }

  private shift(priority: number): T {
    const lane = this.lanes[priority] as Ring<T, N>;
    if (this.isOrdered) this.lastSince = lane.since();
    this.lastNote = lane.note();
    const item = lane.shift();
    if (lane.isEmpty) this.occupied &= ~(1 << priority);
    this.depth--;
    return item;
  }

  private newRound(): void {
    this.credit.set(SHARE);
    this.spent = 0;
    this.fresh = true;
  }
}
