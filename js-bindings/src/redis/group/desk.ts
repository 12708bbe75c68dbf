/**
 * {@link Desk}: which tasks a member has, and what it answered. Pure.
 *
 * Between a member's program, which answers whenever it likes, and the loops that talk to the
 * server. Bounded by the member's capacity: no task is fetched beyond it, and each has one answer.
 */

import { type Event, Received, type Settle, type Verdict } from '../../index.js';
import { Notify, Watch } from '../../messenger/async.js';
import { numberOf } from '../script.js';
import { lifeOf } from './scripts.js';

export interface Task {
  readonly id: string;
  readonly deliveries: number;
  readonly event: Event;
}

/** What is to be told to the server about a task; `dead`: nobody can read it. */
export interface Answered {
  readonly id: string;
  readonly verdict: 'done' | 'dead' | { readonly again: number };
}

export class Desk implements Settle {
  /** There are answers to send. */
  readonly answered = new Notify();
  /** There is room for another task. */
  readonly room = new Notify();
  /** Given to the program and not answered, and when. In the order in which they were given. */
  readonly #held = new Map<string, number>();
  /** Given to us by the server, and our answer, if there is one, not taken yet. */
  readonly #known = new Set<string>();
  /** The life of the channel that they are of. */
  #life: number | undefined;
  /** The newest task that came as a new one. */
  #newest: string | undefined;
  /** Up to this one, a server before this may have given tasks to anybody. */
  #doubtful: string | undefined;
  /** What there was no room for. */
  #backlog: Task[] = [];
  #answers: Answered[] = [];
  /** Answers to be sent since the beginning. */
  #given = 0;
  /** How many of them the server has. */
  readonly #sent = new Watch(0);
  /** Nobody sends answers any more. */
  #ended = false;

  constructor(private readonly capacity: number) {}

  /** How many more tasks to ask for. */
  get wanted(): number {
    return Math.max(0, this.capacity - this.#held.size - this.#backlog.length);
  }

  /** Whether the program still has tasks. */
  get holdsSome(): boolean {
    return this.#held.size > 0;
  }

  /**
   * Tasks of this life of the channel come. `true` if those before were of another: the server does
   * not know them any more.
   */
  isNewLife(id: string): boolean {
    const [before, life] = [this.#life, lifeOf(id)];
    this.#life = life;
    if (before === undefined || before === life) return false;
    this.#forgetTasks();
    return true;
  }

  /**
   * Another server answers, or the same on another connection: tasks up to this one may have been
   * given out without its knowledge.
   */
  doubt(doubtful: string | undefined): void {
    // Numbers after it are given anew.
    if (doubtful !== undefined && doubtful !== this.#doubtful) this.#newest = undefined;
    this.#doubtful = doubtful;
  }

  /**
   * New tasks came, which a server gives in their order. Those that are not newer than one before
   * were given out already, and a failover to a replica that was behind has forgotten it: they are
   * marked, as are those that another server may have given to others.
   */
  recognise(tasks: readonly { readonly id: string; deliveries: number }[]): void {
    for (const task of tasks) {
      const seen = isWithin(task.id, this.#newest);
      if (seen || isWithin(task.id, this.#doubtful)) task.deliveries = Math.max(task.deliveries, 2);
      if (!seen) this.#newest = task.id;
    }
  }

  /** Tasks came from the server. */
  add(tasks: readonly Task[]): void {
    for (const task of tasks) {
      this.#known.add(task.id);
      this.#backlog.push(task);
    }
  }

  /** One came that nobody can read. */
  bury(id: string): void {
    this.#answer({ id, verdict: 'dead' });
    this.answered.notify();
  }

  /** The tasks that the program gets now: within its capacity, and no more than its inbox has room for. */
  handOut(room: number, now: number): Received[] {
    const count = Math.min(
      Math.max(0, this.capacity - this.#held.size),
      this.#backlog.length,
      room,
    );
    if (count === 0) return [];
    const tasks = this.#backlog.slice(0, count);
    this.#backlog = this.#backlog.slice(count);
    return tasks.map(({ id, deliveries, event }) => {
      this.#held.set(id, now);
      return Received.task(event, deliveries, this, id);
    });
  }

  /** Tasks that were given out before a moment count as forgotten: others have got them by now. */
  expire(before: number): void {
    for (const [id, since] of this.#held) {
      if (since > before) break;
      this.#held.delete(id);
      this.#known.delete(id);
      this.room.notify();
    }
  }

  /** Of these, the tasks that the server gave us without our knowing. */
  unknown(ids: readonly string[]): string[] {
    return ids.filter((id) => !this.#known.has(id));
  }

  /** The server does not know any of our tasks any more. */
  forget(): void {
    this.#life = undefined;
    this.#forgetTasks();
  }

  /** What is to be sent. Those that are not confirmed are sent again. */
  get answers(): readonly Answered[] {
    return this.#answers;
  }

  /** The server has the first `count` answers. */
  confirm(count: number): void {
    for (const { id } of this.#answers.slice(0, count)) this.#known.delete(id);
    this.#answers = this.#answers.slice(count);
    this.#sent.set(this.#sent.value + count);
  }

  /** Nobody sends answers any more: those tasks come again elsewhere. */
  end(): void {
    this.#ended = true;
    this.#backlog = [];
    this.#answers = [];
    this.#sent.set(this.#given);
  }

  /** Waits until the server has every answer that was given before; `false` if `ms` were not enough. */
  flushed(ms: number): Promise<boolean> {
    const target = this.#given;
    return this.#sent.until((sent) => sent >= target, ms);
  }

  settle(id: string, verdict: Verdict): void {
    this.#held.delete(id);
    if (verdict === 'none') this.#known.delete(id);
    else this.#answer({ id, verdict });
    this.answered.notify();
    this.room.notify();
  }

  #answer(answer: Answered): void {
    if (this.#ended) return;
    this.#answers.push(answer);
    this.#given += 1;
  }

  #forgetTasks(): void {
    this.#known.clear();
    this.#backlog = [];
  }
}

/** Whether a task comes no later than another one of the same life. */
function isWithin(id: string, newest: string | undefined): boolean {
  return newest !== undefined && lifeOf(newest) === lifeOf(id) && numberOf(id) <= numberOf(newest);
}
