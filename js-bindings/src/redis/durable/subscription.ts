/**
 * {@link Subscription}: one subscriber of a durable channel, at work.
 *
 * It delivers what the live feed brings as long as that is complete, and reads the log when it is
 * not: after a new connection, a jump of offsets, an inbox that was full for long. So a slow
 * subscriber holds a page in memory, not all that it has yet to read.
 */

import { sleep, timeout } from '../../messenger/async.js';
import { type Feed, Gap, type Incoming, type Position, TransportError } from '../../index.js';
import { ConnectionError } from '../connection-error.js';
import type { Server } from '../script.js';
import { Header, entryLength, unreadable, type Entry } from './header.js';
import { last, unreadableStamp, type Act, type Reader, type Stamp } from './reader.js';
import { read, readPage, type Keys, type LogPage } from './scripts.js';
import type { Tap } from './tap.js';

/** Bytes that one page of the log should have. */
const PAGE_BYTES = 1 << 20;

/** Reads logs. */
export class LogReader {
  constructor(
    readonly server: Server,
    readonly keys: Keys,
  ) {}

  /** Tries as long as a command may take. @throws {@link ConnectionError} */
  async tryRead(from: number | 'newest', frames: number, term?: number): Promise<LogPage> {
    const question = read(this.keys, from, frames, term, this.server.link.settings);
    return readPage(await this.server.insist(question));
  }

  /** Tries until there is an answer, or there will never be one. @throws {@link TransportError} */
  async read(
    from: number,
    frames: number,
    term: number | undefined,
    end: AbortSignal,
  ): Promise<LogPage> {
    for (let failures = 0; ; failures += 1) {
      if (end.aborted) throw TransportError.closed();
      try {
        return await this.tryRead(from, frames, term);
      } catch (error) {
        const why = ConnectionError.from(error);
        if (why.code === 'closed') throw TransportError.closed();
        if (why.isFinal) throw TransportError.refused(why);
      }
      await sleep(Math.min(2_000, 50 * 2 ** Math.min(failures, 10)), end);
    }
  }
}

export class Subscription {
  /** Frames of the next page. */
  #frames = 16;
  #batch: Incoming[] = [];

  constructor(
    private readonly log: LogReader,
    private readonly tap: Tap,
    private readonly reader: Reader,
    private readonly feed: Feed,
    private readonly end: AbortSignal,
  ) {}

  /** Until the inbox is closed or the transport is. */
  async run(catchUp: boolean): Promise<void> {
    const wake = (): void => this.tap.arrived.notify();
    this.end.addEventListener('abort', wake);
    void this.feed.gone.then(wake);
    try {
      if (catchUp) await this.#catchUp();
      while (!this.#isOver) await this.#step();
      this.feed.end();
    } catch (error) {
      const closed = error instanceof TransportError && error.code === 'closed';
      this.feed.end(closed ? undefined : (error as TransportError));
    } finally {
      this.end.removeEventListener('abort', wake);
    }
  }

  get #isOver(): boolean {
    return this.end.aborted || this.feed.isGone;
  }

  async #step(): Promise<void> {
    let taken = this.tap.take();
    if (taken.length === 0) {
      let quiet = false;
      const timer = timeout(() => {
        quiet = true;
        this.tap.arrived.notify();
      }, this.log.server.link.settings.checkEvery);
      await this.tap.arrived.wait();
      clearTimeout(timer);
      taken = this.tap.take();
      if (taken.length === 0) {
        if (!quiet || this.#isOver) return;
        const { end } = await this.log.read(0, 0, undefined, this.end);
        if (this.reader.isAt(end)) return;
        taken = 'missed';
      }
    }
    if (taken === 'missed') await this.#catchUp();
    else await this.#live(taken);
  }

  async #live(entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) {
      // What a stranger published is nobody's loss; if it was one of ours, the next jumps.
      const header = Header.parse(entry);
      if (header === undefined) continue;
      const step = this.reader.live(header.stamp);
      if (step === 'skip') continue;
      if (step === 'recover') {
        await this.#deliver();
        return this.#catchUp();
      }
      header.unpack(step.deliver, this.#batch);
    }
    await this.#deliver();
  }

  /** Reads the log from the position to its end. */
  async #catchUp(): Promise<void> {
    let from: number | undefined = this.reader.recover();
    const acts: Act[] = [];
    while (from !== undefined && !this.#isOver) {
      // What came before this page was read is on it, or follows.
      this.tap.clear();
      const limit = this.#frames;
      const page = await this.log.read(from, limit, this.reader.term, this.end);
      const { end, entries, common } = page;
      const headers = this.#headers(end, entries);
      const frames = headers.map(({ stamp }) => stamp);
      from = this.reader.page({ end, common, frames, full: frames.length === limit }, acts);
      for (const act of acts) {
        if (act instanceof Gap) {
          this.#batch.push(act);
          continue;
        }
        const { stamp, header } = headers[act.frame] as {
          stamp: Stamp;
          header: Header | undefined;
        };
        if (header === undefined) this.#batch.push(unreadable(stamp, act.skip));
        else header.unpack(act.skip, this.#batch);
      }
      await this.#deliver();
      const bytes = entries.reduce((sum, { entry }) => sum + entryLength(entry), 0);
      this.#frames = pageSize(limit, bytes);
    }
  }

  /** Takes entries apart. One that cannot be read still has its offsets, by its id. */
  #headers(
    end: Position,
    entries: LogPage['entries'],
  ): { stamp: Stamp; header: Header | undefined }[] {
    let before = this.reader.position.offset;
    return entries.map(({ id, entry }) => {
      const parsed = Header.parse(entry);
      const header = parsed !== undefined && last(parsed.stamp) === id ? parsed : undefined;
      const stamp =
        header?.stamp ?? unreadableStamp(end, Math.min(before, Math.max(0, id - 1)), id);
      before = id;
      return { stamp, header };
    });
  }

  /** Waits for the subscriber as long as it takes. What comes in meanwhile waits in the log. */
  async #deliver(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
    let at = this.feed.deliver(batch);
    while (at < batch.length && (await this.feed.room()) && !this.end.aborted)
      at = this.feed.deliver(batch, at);
  }
}

/** Frames of the next page, after one of so many with so many bytes. */
function pageSize(frames: number, bytes: number): number {
  const fitting = Math.floor((PAGE_BYTES * frames) / Math.max(1, bytes));
  return Math.min(Math.max(1, Math.min(fitting, frames * 2)), 1_024);
}
