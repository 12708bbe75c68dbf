/**
 * {@link Reader}: decides what becomes of each frame that a durable subscription sees. It does no
 * I/O and reads no clock. The same decisions as `crates/redis/src/durable/reader.rs`, where they
 * are explained.
 */

import { Gap, type GapReason, Position } from '../../index.js';
import { Recent } from './recent.js';

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
  /** How often the server had changed. */
  readonly term: number;
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
  readonly frames: readonly Stamp[];
  /** There may be more after these. */
  readonly full: boolean;
}

type Phase =
  /** Live frames are delivered. `moved`: one was, since the log was read. */
  | { readonly name: 'live'; readonly moved: boolean }
  /** The first page of the log: is the position still what it was? */
  | { readonly name: 'verify' }
  /** The log is read from its oldest frame, wherever that is. */
  | { readonly name: 'oldest' }
  /** It is not. `at`: where the last frame ended that does not differ from what was delivered. */
  | { readonly name: 'reread'; readonly at: number | undefined }
  /** What comes next follows the position. */
  | { readonly name: 'follow' };

const VERIFY: Phase = { name: 'verify' };
const FOLLOW: Phase = { name: 'follow' };
const STILL: Phase = { name: 'live', moved: false };
const MOVED: Phase = { name: 'live', moved: true };

export class Reader {
  #epoch: string;
  /** All up to here was delivered or reported missing. */
  #offset: number;
  /** Of the last frame that was delivered. */
  #term: number;
  readonly #recent = new Recent();
  #phase: Phase = STILL;
  /** Until the log's end is reached, frames may come that were delivered with other offsets. */
  #wary = false;
  /** The epoch before this one: what is left of it in the live feed comes too late. */
  #stale: string | undefined;

  private constructor(position: Position) {
    this.#epoch = position.epoch;
    this.#offset = position.offset;
    this.#term = position.term;
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

  /** Goes on after a frame that need not be delivered. */
  static behind(frame: Stamp): Reader {
    const reader = new Reader(new Position(frame.epoch, last(frame), frame.term));
    reader.#recent.push(frame);
    return reader;
  }

  get position(): Position {
    return new Position(this.#epoch, this.#offset, this.#term);
  }

  /** A frame of the live feed. Only while the log is not being read. */
  live(frame: Stamp): Step {
    if (this.#phase.name !== 'live') return 'recover';
    if (frame.epoch !== this.#epoch) return this.#stale === frame.epoch ? 'skip' : 'recover';
    const next = this.#offset + 1;
    if (last(frame) < next) {
      // After a newer one an older one makes sense only if it is known.
      return !this.#phase.moved || this.#recent.has(frame.mark) ? 'skip' : 'recover';
    }
    if (frame.first > next) return 'recover';
    this.#phase = MOVED;
    this.#passed(frame);
    return { deliver: next - frame.first };
  }

  /** Whether the log ends where this reader is; if not, and nothing more comes, read the log. */
  isAt(end: Position): boolean {
    return this.#epoch === end.epoch && this.#offset === end.offset;
  }

  /** The log must be read: from the returned offset on. */
  recover(): number {
    if (this.#phase.name === 'oldest') return 0;
    this.#phase = VERIFY;
    return this.#offset;
  }

  /**
   * A page came. `acts` is emptied and filled. Returns the offset from which to read on, or
   * `undefined` when the end was reached.
   */
  page(page: Page, acts: Act[]): number | undefined {
    acts.length = 0;
    if (page.end.epoch !== this.#epoch) return this.#newEpoch(page.end.epoch, acts);
    if (this.#phase.name === 'verify') {
      const again = this.#verify(page);
      if (again !== undefined) return again;
      this.#phase = FOLLOW;
    }
    page.frames.forEach((frame, index) => this.#logged(index, frame, acts));
    if (page.full) return this.#reached() + 1;
    this.#finish(page.end.offset, acts);
    return undefined;
  }

  #newEpoch(epoch: string, acts: Act[]): number {
    this.#stale = this.#epoch;
    this.#epoch = epoch;
    this.#term = 0;
    this.#offset = 0;
    // A publisher may send again what it had sent in the old epoch.
    this.#phase = FOLLOW;
    this.#wary = true;
    acts.push(this.#gap(undefined, 'new_epoch'));
    return 0;
  }

  /** Whether the log still has at the position what was delivered there: if not, where to read. */
  #verify(page: Page): number | undefined {
    const at = this.#offset;
    const newest = this.#recent.newest;
    const inOrder = page.end.offset >= at;
    // If nothing was delivered yet there is nothing to compare.
    const known = newest === undefined ? inOrder : inOrder && same(page.frames[0], newest);
    if (known || at === 0) return undefined;
    this.#phase = { name: 'reread', at: undefined };
    this.#wary = true;
    return this.#recent.lowest(this.#epoch) ?? at;
  }

  /** A frame of the log. */
  #logged(index: number, frame: Stamp, acts: Act[]): void {
    const known = this.#wary && this.#recent.has(frame.mark);
    const phase = this.#phase;
    if (phase.name === 'oldest') {
      this.#offset = frame.first - 1;
    } else if (phase.name === 'reread') {
      if (known && last(frame) <= this.#offset) {
        this.#phase = { name: 'reread', at: last(frame) };
        return;
      }
      if (known || frame.first <= this.#offset) {
        // Something else is there, or what is known has moved.
        this.#offset = phase.at ?? frame.first - 1;
        acts.push(this.#gap(undefined, 'lost'));
      }
    }
    this.#phase = FOLLOW;
    const next = this.#offset + 1;
    if (last(frame) < next) return;
    this.#hole(frame.first, acts);
    if (!known) acts.push({ frame: index, skip: Math.max(0, next - frame.first) });
    this.#passed(frame);
  }

  /** The end of the log was reached. */
  #finish(end: number, acts: Act[]): void {
    if (end < this.#offset) {
      // It was cut off behind what we had.
      this.#offset = end;
      acts.push(this.#gap(undefined, 'lost'));
    }
    if (this.#phase.name === 'oldest') this.#offset = end;
    this.#hole(end + 1, acts);
    this.#phase = STILL;
    this.#wary = false;
  }

  /** Reports what is missing between the position and an offset. */
  #hole(until: number, acts: Act[]): void {
    const next = this.#offset + 1;
    if (until > next) {
      this.#offset = until - 1;
      acts.push(this.#gap(until - next, 'trimmed'));
    }
  }

  #gap(missed: number | undefined, reason: GapReason): Gap {
    return new Gap(missed, reason, this.position);
  }

  #passed(frame: Stamp): void {
    this.#offset = last(frame);
    this.#term = frame.term;
    this.#recent.push(frame);
  }

  /** Where the last frame of the log ended that was looked at. */
  #reached(): number {
    return this.#phase.name === 'reread' && this.#phase.at !== undefined
      ? this.#phase.at
      : this.#offset;
  }
}

function same(a: Stamp | undefined, b: Stamp): boolean {
  return (
    a !== undefined &&
    a.epoch === b.epoch &&
    a.first === b.first &&
    a.count === b.count &&
    a.append === b.append &&
    a.mark === b.mark
  );
}
