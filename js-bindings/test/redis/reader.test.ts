/**
 * The reader of a durable channel against a naive server that loses, repeats, trims, forgets and
 * fails over, in any order: the model of `crates/redis/src/durable/reader/tests.rs`.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Gap, Position } from '../../src/index.js';

import { last, Reader, type Act, type Lost, type Stamp } from '../../src/redis/durable/reader.js';
import { random } from '../support/random.js';

const WORD = (n: number): string => n.toString(16).padStart(16, '0');
const PUBLISHERS = 2;

/** What a publisher knows, and the server of it. */
interface Publisher {
  /** The highest offset that was confirmed, and its term. */
  readonly term: number;
  readonly reached: number;
  /** How many of its events were confirmed. */
  readonly number: number;
  /** How many of its events the server has or has counted as lost. */
  readonly record: number;
  /** So many first appendings are not sent again: something of it that came later was confirmed. */
  readonly sure: number;
}

const NEW: Publisher = { term: 0, reached: 0, number: 0, record: 0, sure: 0 };

/** Where a term began, and up to where of the one before it is counted what was lost. */
interface Term {
  readonly from: number;
  readonly counted: number;
}

interface Frame extends Stamp {
  readonly number: number;
  readonly by: number;
}

/** What there was before an appending. */
interface Before {
  readonly offset: number;
  readonly publishers: readonly Publisher[];
  readonly terms: readonly Term[];
}

class World {
  epoch = 1;
  offset = 0;
  term = 0;
  terms: Term[] = [{ from: 0, counted: 0 }];
  publishers: Publisher[] = [NEW, NEW];
  before: Before[] = [];
  log: Frame[] = [];
  live: Frame[] = [];
  frames = 0;
  published = 0;
  /** Frames that are to be sent again. */
  pending: Frame[] = [];
  resent = new Set<string>();
  reader = Reader.after(new Position(WORD(1), 0));
  /** Where the log is to be read from, when it is. */
  reading: number | undefined;
  delivered: string[] = [];
  order: number[] = [];
  gaps: Gap[] = [];
  /** Nothing has happened after which gaps may be too large. */
  exact = true;
  /** A failover has left nothing of what was delivered. */
  blind = false;
  /** Delivered or known to be missing in this epoch. */
  accounted = 0;

  constructor(readonly pageSize: number) {}

  get end(): Position {
    return new Position(WORD(this.epoch), this.offset, this.term);
  }

  /** What `log_append.lua` does. */
  append(by: number, count: number, mark: string): Frame {
    const { publishers, offset, terms } = this;
    this.before.push({ offset, publishers: [...publishers], terms: [...terms] });
    const { term: its, reached, number, record, sure } = publishers[by] as Publisher;
    const missing = number - record;
    let past = its;
    while (past < this.term && reached <= (terms[past + 1] as Term).from) past += 1;
    let lost: Lost | undefined;
    if (past < this.term) {
      const { from, counted } = terms[past + 1] as Term;
      const more = Math.max(reached - counted, missing - (counted - from));
      if (more > 0) {
        lost = { term: past, from: counted, to: counted + more };
        terms[past + 1] = { from, counted: counted + more };
        this.offset += more;
      }
    } else if (reached > this.offset) {
      this.offset = reached;
    } else {
      this.offset += missing;
    }
    const frame: Frame = {
      epoch: WORD(this.epoch),
      first: this.offset + 1,
      count,
      append: `${this.before.length}`,
      number: this.before.length,
      mark,
      by,
      term: this.term,
      lost,
    };
    this.offset += count;
    const confirmed = number + count;
    publishers[by] = {
      term: this.term,
      reached: this.offset,
      number: confirmed,
      record: confirmed,
      sure,
    };
    this.log.push(frame);
    return frame;
  }

  /** What a publisher had not had confirmed comes before anything newer of it. */
  publish(by: number, count: number, seen: boolean): void {
    const mine = this.pending.filter((frame) => frame.by === by);
    this.pending = this.pending.filter((frame) => frame.by !== by);
    for (const { count, mark } of mine) {
      this.resent.add(mark);
      this.live.push(this.append(by, count, mark));
    }
    this.frames += 1;
    this.published += count;
    const frame = this.append(by, count, `${this.frames}`);
    if (seen) this.live.push(frame);
  }

  forget(): void {
    this.log = [];
    this.epoch += 1;
    this.offset = this.term = 0;
    this.terms = [{ from: 0, counted: 0 }];
    this.publishers = [NEW, NEW];
  }

  reconnect(): void {
    this.live = [];
    this.reading = this.reader.recover();
  }

  check(): void {
    if (!this.reader.isAt(this.end)) this.reading = this.reader.recover();
  }

  /**
   * A replica without the newest frames becomes master. Their publishers send them again, backwards;
   * or do not, because they had been confirmed. `noticed`: a new term begins.
   */
  failOver(count: number, sentAgain: boolean, noticed: boolean): void {
    const lost = this.log.splice(Math.max(0, this.log.length - count));
    const before = this.offset;
    for (const frame of [...lost].reverse()) {
      const { offset, publishers, terms } = this.before[frame.number - 1] as Before;
      this.offset = offset;
      // A replica does not know what was counted since, either.
      this.terms = this.terms.map(({ from }, n) => ({ from, counted: terms[n]?.counted ?? from }));
      const now = this.publishers[frame.by] as Publisher;
      const then = publishers[frame.by] as Publisher;
      // What tells of a loss is lost itself.
      this.exact &&= then.number === then.record;
      if (sentAgain && frame.number > now.sure) {
        this.pending.push(frame);
        this.publishers[frame.by] = then;
      } else {
        this.publishers[frame.by] = { ...now, record: then.record, sure: this.before.length };
      }
    }
    // If a reader or a publisher is away while the server changes twice, it may be told too much.
    this.exact &&= this.reader.term === this.term;
    this.exact &&= this.publishers.every((p) => p.number === 0 || p.term === this.term);
    if (noticed) {
      this.term += 1;
      this.terms.push({ from: this.offset, counted: this.offset });
    }
    this.exact &&= noticed && before >= this.offset;
    // What was delivered before it was sent again, and is lost then, counts as missing.
    this.exact &&= lost.every((f) => f.lost === undefined && !this.resent.has(f.mark));
    const left = ({ mark }: Stamp): boolean => this.delivered.includes(`${mark}/0`);
    this.blind ||= this.delivered.length > 0 && !this.log.some(left);
    this.reconnect();
  }

  work(): void {
    if (this.reading !== undefined) {
      const from = this.reading;
      const frames = this.log.filter((frame) => last(frame) >= from).slice(0, this.pageSize);
      const since = this.terms.slice(this.reader.term + 1).map((term) => term.from);
      const common = since.length > 0 ? Math.min(...since) : undefined;
      const acts: Act[] = [];
      this.reading = this.reader.page(
        { end: this.end, common, frames, full: frames.length === this.pageSize },
        acts,
      );
      for (const act of acts) {
        if ('frame' in act) {
          this.#deliver(frames[act.frame] as Stamp, act.skip);
        } else {
          this.gaps.push(act);
          this.accounted = act.reason === 'new_epoch' ? 0 : this.accounted + (act.missed ?? 0);
        }
      }
      return;
    }
    const frame = this.live.shift();
    if (frame === undefined) return;
    const step = this.reader.live(frame);
    if (step === 'recover') this.reading = this.reader.recover();
    else if (step !== 'skip') this.#deliver(frame, step.deliver);
  }

  /** No more trouble: everything that can come, comes, and one frame more of each publisher. */
  settle(): void {
    for (let by = 0; by < PUBLISHERS; by += 1) this.publish(by, 1, true);
    for (let n = 0; n < 100_000; n += 1) {
      if (this.reading === undefined && this.live.length === 0) {
        this.check();
        if (this.reading === undefined) return;
      }
      this.work();
    }
    assert.fail('the reader never comes to rest');
  }

  #deliver(frame: Stamp, skip: number): void {
    assert.ok(skip < frame.count, 'nothing is left of the frame');
    for (let n = skip; n < frame.count; n += 1) {
      this.delivered.push(`${frame.mark}/${n}`);
      this.order.push(Number(frame.mark) * 10 + n);
    }
    this.accounted += frame.count - skip;
  }
}

const isSorted = (numbers: readonly number[]): boolean =>
  numbers.every((n, at) => at === 0 || (numbers[at - 1] as number) < n);

test('every durable event is delivered once or missing by a gap', () => {
  let exact = 0;
  for (let seed = 0; seed < 4_000; seed += 1) {
    const next = random(seed);
    const world = new World(1 + next(4));
    let [failedOver, restarted] = [false, false];
    for (let n = next(120); n > 0; n -= 1) {
      const op = next(25);
      if (op < 6) world.publish(next(PUBLISHERS), 1 + next(4), next(5) > 0);
      else if (op === 6) world.live.push(...world.live.slice(-1));
      else if (op === 7) world.reconnect();
      else if (op === 8 && seed % 2 === 0) {
        world.log.splice(0, 1 + next(3));
        world.exact = false;
      } else if (op === 9 && seed % 2 === 0) {
        world.forget();
        world.exact = false;
      } else if (op === 10) {
        world.failOver(next(4), next(2) === 0, true);
        failedOver = true;
      } else if (op === 11 && seed % 2 === 0) {
        world.reader = Reader.after(world.reader.position);
        world.reconnect();
        restarted = true;
        world.exact = false;
      } else if (op < 14) {
        if (world.reading === undefined && world.live.length === 0) world.check();
      } else world.work();
    }
    world.settle();
    const all = new Set(world.delivered);
    // A restarted reader knows the position alone, so a failover may have changed what is behind it.
    if (!(failedOver && restarted)) {
      assert.equal(all.size, world.delivered.length, `seed ${seed}: something came twice`);
      for (const { mark, count } of world.log) {
        for (let n = 0; n < count; n += 1)
          assert.ok(all.has(`${mark}/${n}`), `seed ${seed}: ${mark} did not come`);
      }
      if (world.gaps.length === 0)
        assert.equal(all.size, world.published, `seed ${seed}: lost without a gap`);
    }
    if (!failedOver) {
      assert.equal(world.accounted, world.offset, `seed ${seed}: gaps are of the right size`);
      assert.ok(isSorted(world.order), `seed ${seed}: out of order`);
    }
    if (world.exact) {
      exact += failedOver ? 1 : 0;
      const missed = world.gaps.reduce((sum, gap) => sum + (gap.missed ?? NaN), 0);
      assert.equal(all.size + missed, world.published, `seed ${seed}: ${world.gaps.join()}`);
    }
  }
  assert.ok(exact > 100, 'failovers whose losses are counted to the last event');
});

test('of a failover that nobody noticed nothing is missing in silence', () => {
  for (let seed = 0; seed < 2_000; seed += 1) {
    const next = random(seed);
    const world = new World(1 + next(4));
    for (let n = next(120); n > 0; n -= 1) {
      const op = next(22);
      if (op < 6) world.publish(next(PUBLISHERS), 1 + next(4), next(5) > 0);
      else if (op === 6) world.live.push(...world.live.slice(-1));
      else if (op === 7) world.reconnect();
      else if (op === 8) world.failOver(next(4), next(2) === 0, false);
      else if (op < 11) {
        if (world.reading === undefined && world.live.length === 0) world.check();
      } else world.work();
    }
    world.settle();
    const all = new Set(world.delivered);
    assert.equal(all.size, world.delivered.length, `seed ${seed}: something came twice`);
    if (world.gaps.length === 0 && !world.blind)
      assert.equal(all.size, world.published, `seed ${seed}: lost without a gap`);
  }
});
