/**
 * {@link Reader}: decides what becomes of each frame that a durable subscription sees. It does no
 * I/O and reads no clock. The same decisions as `crates/redis/src/durable/reader.rs`, where they
 * are explained.
 */

import { Gap, type GapReason, Position } from '../../index.js';
import { MAX_FRAMES, Recent } from './recent.js';

/** Which events a frame holds. */
export interface Stamp {
  readonly epoch: string;
  /** Offset of its first event; the first of a channel has 1. */
  readonly first: number;
  /** How many events, at least 1. */
  readonly count: number;
  /** A random number that each appending to the log has anew. */
  readonly append: string;
  /** Tells what is in the frame, even when it was appended twice. */
  readonly mark: string;
  /** In which term it was appended. */
  readonly term: number;
  /** What the offsets before it stand for, if those are lost events. */
  readonly lost?: Lost | undefined;
}

/** Events that were confirmed and that a server lost. */
export interface Lost {
  /** The term in which they were appended. */
  readonly term: number;
  /** They had the offsets after this one, */
  readonly from: number;
  /** up to this one. */
  readonly to: number;
}

/** Offset of its last event. */
export function last(stamp: Stamp): number {
  return stamp.first + stamp.count - 1;
}

/** Of an entry that cannot be read, which begins after one offset and ends at another. */
export function unreadableStamp(at: Position, after: number, end: number): Stamp {
  const name = `?${end}`;
  const [first, count] = [after + 1, Math.max(1, end - after)];
  return { epoch: at.epoch, first, count, append: name, mark: name, term: at.term };
}

/**
 * What to do with a live frame: deliver it without its first `skip` events; skip it, as it was
 * delivered before; or read the log, where it is too if it is still worth anything.
 */
export type Step = { readonly deliver: number } | 'skip' | 'recover';

/** What to do because of a page of the log. */
export type Act = { readonly frame: number; readonly skip: number } | Gap;

/** A page of the log, with the end that the log had at that moment. */
export interface Page {
  readonly end: Position;
  /** Up to here it is what the reader's term had; `undefined` if that is the same term, or it is not known. */
  readonly common: number | undefined;
  readonly frames: readonly Stamp[];
  /** There may be more after these. */
  readonly full: boolean;
}

type Phase =
  /** Live frames are delivered. `moved`: one was, since the log was read. */
  | { readonly name: 'live'; readonly moved: boolean }
  /** The first page of the log: is the position still what it was? */
  | { readonly name: 'verify' }
  /** The first page from where the log is said to part from what was delivered. */
  | { readonly name: 'parted' }
  /** The log is read from its oldest frame, wherever that is. */
  | { readonly name: 'oldest' }
  /** It is not. `at`: where the last frame ended that does not differ from what was delivered. */
  | { readonly name: 'reread'; readonly at: number | undefined }
  /** What comes next follows the position. */
  | { readonly name: 'follow' };

const VERIFY: Phase = { name: 'verify' };
const PARTED: Phase = { name: 'parted' };
const FOLLOW: Phase = { name: 'follow' };
const STILL: Phase = { name: 'live', moved: false };
const MOVED: Phase = { name: 'live', moved: true };

/** Terms that are remembered: as many as the server knows of. */
const MAX_TERMS = 16;

export class Reader {
  #epoch: string;
  /** All up to here was delivered or reported missing. */
  #offset: number;
  /** Of the last frame that was delivered. */
  #term: number;
  /** Beyond the position if that had to go back: so far the reader was in its term. */
  #furthest: number;
  /** How far it was in terms before this one. */
  #past: { readonly term: number; readonly furthest: number }[] = [];
  /** The term in which it began. */
  #began: number;
  /** The term that the log was in when it was looked at last. */
  #seen: number;
  readonly #recent = new Recent();
  #phase: Phase = STILL;
  /** So many frames from here on may have been delivered with other offsets: as long as some from before are remembered. */
  #wary = 0;
  /** The epoch before this one: what is left of it in the live feed comes too late. */
  #stale: string | undefined;

  private constructor(position: Position) {
    this.#epoch = position.epoch;
    this.#offset = this.#furthest = position.offset;
    this.#term = this.#began = this.#seen = position.term;
  }

  /** Goes on after a position; begin with {@link recover}. */
  static after(position: Position): Reader {
    return new Reader(position);
  }

  /** Begins with the oldest frame of this epoch that there is. */
  static oldest(epoch: string): Reader {
    const reader = new Reader(new Position(epoch, 0));
    reader.#phase = { name: 'oldest' };
    return reader;
  }

  /** Goes on after the last frame of a log, which need not be delivered. */
  static behind(frame: Stamp, end: Position): Reader {
    const reader = new Reader(end);
    reader.#recent.push(frame);
    return reader;
  }

  get position(): Position {
    return new Position(this.#epoch, this.#offset, this.#term);
  }

  get term(): number {
    return this.#term;
  }

  /** A frame of the live feed. Only while the log is not being read. */
  live(frame: Stamp): Step {
    if (this.#phase.name !== 'live') return 'recover';
    if (frame.epoch !== this.#epoch) return this.#stale === frame.epoch ? 'skip' : 'recover';
    if (frame.term !== this.#term) return 'recover';
    const next = this.#offset + 1;
    if (last(frame) < next) {
      // After a newer one an older one makes sense only if it is known.
      return !this.#phase.moved || this.#recent.has(frame.mark) ? 'skip' : 'recover';
    }
    if (frame.first > next) return 'recover';
    this.#phase = MOVED;
    // A publisher sends again what was not confirmed when the server changed.
    const known = this.#isKnown(frame);
    this.#passed(frame);
    return known ? 'skip' : { deliver: next - frame.first };
  }

  /** Whether the log ends where this reader is; if not, and nothing more comes, read the log. */
  isAt(end: Position): boolean {
    return this.#epoch === end.epoch && this.#offset === end.offset && this.#term === end.term;
  }

  /** The log must be read: from the returned offset on. */
  recover(): number {
    if (this.#phase.name === 'oldest') return 0;
    // If it went back, what it had may come again.
    if (this.#offset < this.#furthest) this.#wary = MAX_FRAMES;
    this.#phase = VERIFY;
    return this.#offset;
  }

  /**
   * A page came. `acts` is emptied and filled. Returns the offset from which to read on, or
   * `undefined` when the end was reached.
   */
  page(page: Page, acts: Act[]): number | undefined {
    acts.length = 0;
    const changed = this.#seen !== page.end.term;
    this.#seen = page.end.term;
    if (page.end.epoch !== this.#epoch) return this.#newEpoch(page.end.epoch, acts);
    if (changed && (this.#phase.name === 'follow' || this.#phase.name === 'reread')) {
      // In the middle of it.
      this.#phase = VERIFY;
      return this.#offset;
    }
    if (this.#phase.name === 'verify' || this.#phase.name === 'parted') {
      const again = this.#verify(page);
      if (again !== undefined) return again;
      this.#phase = FOLLOW;
    }
    page.frames.forEach((frame, index) => this.#logged(index, frame, acts));
    if (page.full) return this.#reached() + 1;
    this.#finish(page.end, acts);
    return undefined;
  }

  #newEpoch(epoch: string, acts: Act[]): number {
    this.#stale = this.#epoch;
    this.#epoch = epoch;
    this.#term = this.#began = 0;
    this.#offset = this.#furthest = 0;
    this.#past = [];
    // A publisher may send again what it had sent in the old epoch.
    this.#phase = FOLLOW;
    this.#wary = MAX_FRAMES;
    acts.push(this.#gap(undefined, 'new_epoch'));
    return 0;
  }

  /** Whether the log still has at the position what was delivered there: if not, where to read. */
  #verify(page: Page): number | undefined {
    const at = this.#offset;
    if (page.common !== undefined) {
      // Frames may be here again that were delivered.
      this.#wary = MAX_FRAMES;
      if (at > page.common) {
        this.#offset = page.common;
        this.#phase = PARTED;
        return page.common;
      }
    }
    const inOrder = page.end.offset >= at;
    // If the position went back, the newest frame is beyond it.
    let { newest } = this.#recent;
    const beyond = newest !== undefined && last(newest) > at;
    if (beyond || at < this.#furthest || this.#phase.name === 'parted')
      newest = this.#recent.at(this.#epoch, at);
    // If nothing was delivered yet there is nothing to compare.
    const known = newest === undefined ? inOrder : inOrder && same(page.frames[0], newest);
    if (known || at === 0) return undefined;
    this.#phase = { name: 'reread', at: undefined };
    this.#wary = MAX_FRAMES;
    return this.#recent.lowest(this.#epoch) ?? at;
  }

  /** A frame of the log. */
  #logged(index: number, frame: Stamp, acts: Act[]): void {
    const known = this.#isKnown(frame);
    const phase = this.#phase;
    if (phase.name === 'oldest') {
      this.#offset = this.#furthest = frame.first - 1;
      this.#term = this.#began = frame.term;
    } else if (phase.name === 'reread') {
      if (known && last(frame) <= this.#offset) {
        this.#phase = { name: 'reread', at: last(frame) };
        return;
      }
      // Something else is there, or what is known has moved, or it is gone though something older
      // is not.
      const gone = phase.at !== undefined && phase.at < this.#offset;
      if (known || frame.first <= this.#offset || gone) {
        this.#offset = phase.at ?? frame.first - 1;
        acts.push(this.#gap(undefined, 'lost'));
      }
    }
    this.#phase = FOLLOW;
    const next = this.#offset + 1;
    if (last(frame) < next) return;
    this.#enter(frame.term);
    this.#hole(frame.first, frame.lost, acts);
    if (!known) acts.push({ frame: index, skip: Math.max(0, next - frame.first) });
    this.#passed(frame);
  }

  /** The end of the log was reached. */
  #finish(end: Position, acts: Act[]): void {
    if (end.offset < this.#offset) {
      // It was cut off behind what we had.
      this.#offset = end.offset;
      acts.push(this.#gap(undefined, 'lost'));
    }
    if (this.#phase.name === 'oldest') {
      this.#offset = this.#furthest = end.offset;
      this.#term = this.#began = end.term;
    }
    // What the term before had with these offsets was something else.
    this.#enter(end.term);
    this.#hole(end.offset + 1, undefined, acts);
    this.#phase = STILL;
  }

  /** What follows is of this term, or of one after it. */
  #enter(term: number): void {
    if (term <= this.#term) return;
    if (this.#past.length === MAX_TERMS) this.#past.shift();
    this.#past.push({ term: this.#term, furthest: this.#furthest });
    this.#term = term;
    this.#furthest = this.#offset;
  }

  /** Reports what is missing between the position and an offset. */
  #hole(until: number, lost: Lost | undefined, acts: Act[]): void {
    const next = this.#offset + 1;
    if (until <= next) return;
    const size = until - next;
    this.#offset = until - 1;
    const furthest = this.#furthest;
    this.#furthest = Math.max(furthest, until - 1);
    // Of a hole in which the position already was, the end is left.
    const told = lost === undefined ? 0 : Math.min(lost.to - lost.from, size);
    if (size > told) {
      // What was there before the position had to go back, it had.
      const had = Math.min(Math.max(0, furthest - (next - 1)), size - told);
      this.#missed(size - told - had, 'trimmed', acts);
    }
    if (lost !== undefined) {
      this.#missed(lost.to - Math.max(this.#had(lost.term), lost.to - told), 'lost', acts);
    }
  }

  #missed(count: number, reason: GapReason, acts: Act[]): void {
    if (count > 0) acts.push(this.#gap(count, reason));
  }

  /** Up to which offset of a term before this one nothing is missing. */
  #had(term: number): number {
    // It was over before.
    if (term < this.#began) return Number.MAX_SAFE_INTEGER;
    return this.#past.find((past) => past.term === term)?.furthest ?? 0;
  }

  #gap(missed: number | undefined, reason: GapReason): Gap {
    return new Gap(missed, reason, this.position);
  }

  /** Whether it was delivered before, perhaps with other offsets. */
  #isKnown(frame: Stamp): boolean {
    return this.#wary > 0 && this.#recent.has(frame.mark);
  }

  #passed(frame: Stamp): void {
    if (this.#wary > 0) this.#wary -= 1;
    this.#offset = last(frame);
    this.#furthest = Math.max(this.#furthest, this.#offset);
    this.#recent.push(frame);
  }

  /** Where the last frame of the log ended that was looked at. */
  #reached(): number {
    return this.#phase.name === 'reread' && this.#phase.at !== undefined
      ? this.#phase.at
      : this.#offset;
  }
}

/** Whether it was the same appending. What is lost before it only the log says. */
function same(a: Stamp | undefined, b: Stamp): boolean {
  return a !== undefined && a.append === b.append && a.first === b.first && a.mark === b.mark;
}
