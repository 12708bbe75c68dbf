/**
 * {@link Member}: one subscriber of a group channel, at work.
 *
 * It fetches new tasks over a connection of its own, where it waits on the server; looks now and
 * then for tasks that were left or delayed; and sends answers, many at a time. All three work on
 * one {@link Desk}.
 */

import { Notify, sleep, timeout } from '../../messenger/async.js';
import { type Feed, Gap } from '../../index.js';
import { ConnectionError } from '../connection-error.js';
import { readFrame } from '../frames.js';
import type { Connection } from '../driver.js';
import type { Link } from '../link.js';
import { runOf } from '../run.js';
import type { Server } from '../script.js';
import type { Desk, Task } from './desk.js';
import {
  MEET,
  readClaimed,
  readJoined,
  readMet,
  readNew,
  readPending,
  type Claimed,
  type Given,
  type Place,
} from './scripts.js';

/** Tasks that are fetched at a time. */
const FETCH = 256;

/**
 * How long a fetch waits on the server, in milliseconds. After this and the time for answers
 * without a word, the connection is taken for dead.
 */
const WAIT = 2_000;

/** Answers of one call. */
const ANSWERS = 512;

export class Member {
  /** Ends all loops. */
  readonly #over = new AbortController();
  #failed: ConnectionError | undefined;
  /** Ends when nobody is being given tasks that were delivered before, so that none is taken for lost. */
  #giving: Promise<unknown> = Promise.resolve();
  /** Some tasks may have been lost on the way. */
  #doubt = false;
  /** A task may be due. */
  readonly #due = new Notify();
  /** There was no room for tasks that may be due. */
  #starved = false;

  constructor(
    /** For commands. */
    private readonly server: Server,
    /** For waiting. */
    private readonly waiting: Link,
    private readonly place: Place,
    private readonly desk: Desk,
    private readonly feed: Feed,
  ) {}

  /** Makes the group if it is gone. @throws {@link ConnectionError} */
  async join(fromBeginning: boolean): Promise<{ created: boolean; missed: number }> {
    return readJoined(await this.server.insist(this.place.join(fromBeginning)));
  }

  /** Until the inbox is closed or the transport is. */
  async run(end: AbortSignal): Promise<void> {
    const over = this.#over;
    const stop = (): void => over.abort();
    end.addEventListener('abort', stop);
    if (end.aborted) stop();
    void this.feed.gone.then(stop);
    over.signal.addEventListener('abort', () => {
      for (const notify of [this.desk.answered, this.desk.room, this.#due]) notify.notify();
      this.waiting.close();
    });
    // Each goes on until it is over, unless it fails for ever.
    await Promise.all(
      [this.#fetch(), this.#claim(), this.#sendAnswers(), this.#tidy()].map((loop) =>
        this.#guard(loop),
      ),
    );
    if (this.feed.isGone && !end.aborted) await this.#lastAnswers(end);
    end.removeEventListener('abort', stop);
    this.desk.end();
    this.waiting.close();
    this.feed.end(this.#failed?.toTransport());
  }

  get #isOver(): boolean {
    return this.#over.signal.aborted;
  }

  async #guard(loop: Promise<void>): Promise<void> {
    try {
      await loop;
    } catch (error) {
      const why = ConnectionError.from(error);
      if (!this.#isOver && why.code !== 'closed') this.#failed ??= why;
      this.#over.abort();
    }
  }

  /** What the program took along may still be answered in time. */
  async #lastAnswers(end: AbortSignal): Promise<void> {
    const until = performance.now() + this.place.idle;
    const wake = (): void => this.desk.answered.notify();
    const timer = timeout(wake, this.place.idle);
    end.addEventListener('abort', wake);
    try {
      for (;;) {
        await this.#sendSome();
        if (!this.desk.holdsSome || performance.now() >= until || end.aborted) return;
        await this.desk.answered.wait();
      }
    } catch {
      // They come again.
    } finally {
      clearTimeout(timer);
      end.removeEventListener('abort', wake);
    }
  }

  async #fetch(): Promise<void> {
    const { settings } = this.waiting;
    let [last, met, failures] = [0, 0, 0];
    while (!this.#isOver) {
      const current = await this.waiting.next(0);
      if (current === undefined) return;
      const { number, connection } = current;
      if (number !== last || this.#doubt) {
        this.#doubt = false;
        // Tasks that were given to us may not have arrived. No fetch is under way now that would
        // confuse us.
        await this.#resume();
        last = number;
      }
      const most = Math.min(this.desk.wanted, FETCH);
      if (most === 0) {
        await this.desk.room.wait();
        continue;
      }
      try {
        if (number !== met) {
          await this.#meet(connection);
          met = number;
        }
        const call = this.place.read(most, WAIT);
        const answer = await this.waiting.ask(connection, call, WAIT + settings.responseTimeout);
        const tasks = readNew(answer);
        this.desk.recognise(tasks);
        this.#take(tasks);
        failures = 0;
        continue;
      } catch (error) {
        const why = ConnectionError.from(error);
        if (this.#isOver) return;
        if (isGone(why) && (await this.#madeAgain())) continue;
        if (why.breaksConnection) {
          this.waiting.giveUp(number, why);
          await this.waiting.lost(number, this.#over.signal);
          continue;
        }
        if (why.isFinal && !isGone(why)) throw why;
      }
      await this.#pause(failures);
      failures += 1;
    }
  }

  /** A new connection: who is there, and what may it not know? */
  async #meet(connection: Connection): Promise<void> {
    const server = await runOf(this.waiting, connection);
    if (server.length === 0) return this.desk.doubt(undefined);
    const reply = await MEET.run(this.waiting, connection, this.place.meet(server));
    this.desk.doubt(readMet(reply));
  }

  /** The server lost the group, and with it the channel. Whether they are there again. */
  async #madeAgain(): Promise<boolean> {
    try {
      const { created, missed } = await this.join(true);
      if (created) {
        this.desk.forget();
        this.feed.gap(new Gap(undefined, 'new_epoch'));
      } else if (missed > 0) {
        this.feed.gap(new Gap(missed, 'trimmed'));
      }
      return true;
    } catch (error) {
      const why = ConnectionError.from(error);
      if (why.isFinal || why.code === 'closed') throw why;
      return false;
    }
  }

  /** Looks for tasks that were delivered before. */
  async #claim(): Promise<void> {
    const every = Math.min(Math.max(20, this.place.idle / 4), 5_000);
    let wait = every;
    while (!this.#isOver) {
      const timer = timeout(() => this.#due.notify(), wait);
      await this.#due.wait();
      clearTimeout(timer);
      if (this.#isOver) return;
      this.desk.expire(performance.now() - this.place.idle);
      try {
        const next = await this.#claimOnce();
        wait = Math.min(Math.max(1, next ?? every), every);
      } catch (error) {
        const why = ConnectionError.from(error);
        if (why.code === 'closed' || (why.isFinal && !isGone(why))) throw why;
        wait = every;
      }
      // An inbox full of gaps may have been read in the meantime.
      this.#handOut();
    }
  }

  /** One look at the whole list; returns when the next delay is over. */
  #claimOnce(): Promise<number | undefined> {
    return this.#alone(async () => {
      let cursor = '-';
      for (;;) {
        const most = Math.min(this.desk.wanted, FETCH);
        if (most === 0) {
          this.#starved = true;
          return undefined;
        }
        const claimed = await this.#claimSome(most, cursor);
        this.#takeClaimed(claimed);
        cursor = claimed.cursor;
        if (cursor === '-') return claimed.wait;
      }
    });
  }

  /** Takes what the server says that we have, and we do not. */
  #resume(): Promise<void> {
    return this.#alone(async () => {
      let [after, failures]: [string | undefined, number] = [undefined, 0];
      while (!this.#isOver) {
        try {
          after = await this.#resumePage(after);
          if (after === undefined) return;
          continue;
        } catch (error) {
          const why = ConnectionError.from(error);
          // The fetch will find out.
          if (isGone(why)) return;
          if (why.isFinal || why.code === 'closed') throw why;
        }
        await this.#pause(failures);
        failures += 1;
      }
    });
  }

  /** One page; returns its last id if there may be more. */
  async #resumePage(after: string | undefined): Promise<string | undefined> {
    const ids = readPending(await this.server.once(this.place.pending(after, FETCH)));
    const unknown = this.desk.unknown(ids);
    if (unknown.length > 0) this.#takeClaimed(await this.#claimSome(unknown.length, '-', unknown));
    return ids.length === FETCH ? ids[ids.length - 1] : undefined;
  }

  /** Not asked again: what was given and did not arrive is found by a resume. */
  async #claimSome(most: number, cursor: string, ids?: readonly string[]): Promise<Claimed> {
    try {
      return readClaimed(await this.server.once(this.place.claim(most, cursor, ids)));
    } catch (error) {
      this.#doubt = true;
      throw error;
    }
  }

  /** One after the other. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#giving.then(work);
    this.#giving = done.catch(() => undefined);
    return done;
  }

  #takeClaimed(claimed: Claimed): void {
    if (claimed.lost > 0) this.feed.gap(new Gap(claimed.lost, 'trimmed'));
    this.#take(claimed.tasks);
  }

  #take(given: readonly Given[]): void {
    const newest = given[given.length - 1];
    if (newest !== undefined && this.desk.isNewLife(newest.id))
      this.feed.gap(new Gap(undefined, 'new_epoch'));
    let tasks: Task[] = [];
    for (const { id, lost, deliveries, frame } of given) {
      if (lost > 0) {
        this.desk.add(tasks);
        tasks = [];
        this.#handOut();
        this.feed.gap(new Gap(lost, 'lost'));
      }
      const event = readFrame(frame);
      if (event === undefined) {
        this.desk.bury(id);
        this.feed.gap(new Gap(1, 'unreadable'));
      } else {
        tasks.push({ id, deliveries, event });
      }
    }
    this.desk.add(tasks);
    this.#handOut();
  }

  #handOut(): void {
    const batch = this.desk.handOut(this.feed.free, performance.now());
    if (batch.length > 0) this.feed.deliver(batch);
  }

  async #sendAnswers(): Promise<void> {
    let failures = 0;
    while (!this.#isOver) {
      await this.desk.answered.wait();
      while (!this.#isOver) {
        this.#handOut();
        if (this.#starved) {
          this.#starved = false;
          this.#due.notify();
        }
        try {
          if (!(await this.#sendSome())) break;
          failures = 0;
          continue;
        } catch (error) {
          const why = ConnectionError.from(error);
          if (why.code === 'closed' || (why.isFinal && !isGone(why))) throw why;
        }
        await this.#pause(failures);
        failures += 1;
      }
    }
  }

  /** Sends the answers that there are; `false` if there are none. */
  async #sendSome(): Promise<boolean> {
    const answers = this.desk.answers;
    for (let at = 0; at < answers.length;) {
      const first = answers[at];
      if (first === undefined) break;
      let count = 1;
      if (first.verdict === 'done') {
        while (count < ANSWERS && answers[at + count]?.verdict === 'done') count += 1;
        await this.server.insist(this.place.ack(answers.slice(at, at + count).map(({ id }) => id)));
      } else if (first.verdict === 'dead') {
        await this.server.insist(this.place.giveBack(first.id, undefined));
      } else {
        await this.server.insist(this.place.giveBack(first.id, first.verdict.again));
        this.#due.notify();
      }
      this.desk.confirm(count);
      at += count;
    }
    return answers.length > 0;
  }

  async #tidy(): Promise<void> {
    while (!this.#isOver) {
      await sleep(this.waiting.settings.tidyEvery, this.#over.signal);
      if (this.#isOver) return;
      // If it fails, next time, perhaps; nothing depends on it now.
      await this.server.insist(this.place.tidy()).catch(() => undefined);
    }
  }

  #pause(failures: number): Promise<void> {
    return sleep(Math.min(2_000, 50 * 2 ** Math.min(failures, 10)), this.#over.signal);
  }
}

/** The group or the stream is not there, any more. */
function isGone(error: ConnectionError): boolean {
  return error.code === 'protocol' && /^(NOGROUP|UNBLOCKED)/.test(error.detail);
}
