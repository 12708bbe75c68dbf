/** Events as an async iterator. */

import type { Event } from '../event.js';
import { type Books, Outcome } from './ledger.js';
import { DETACHED } from './pipeline.js';
import type { Subscriber } from './subscriber.js';

/**
 * The events of a subscription, one after the other, for `for await`. Those that the loop is not
 * ready for wait in a bounded buffer, where the ledger counts them as detached. The stream ends with
 * the loop, the bus or the session, or a `using` block.
 */
export class EventStream<E = Event>
  implements AsyncIterableIterator<E>, Disposable, AsyncDisposable
{
  /** @internal Making the package small takes the name away. */
  static readonly name = 'EventStream';

  readonly #waiting: Event[] = [];
  #head = 0;
  readonly #readers: ((result: IteratorResult<E, undefined>) => void)[] = [];
  #end: (() => void) | undefined;
  #subscriber: Subscriber | undefined;

  /** @internal */
  constructor(
    private readonly books: Books,
    private readonly limit: number,
    private readonly maybeIdle: () => void,
  ) {}

  /** @internal Says what it is a subscription of. */
  begin(subscriber: Subscriber, end: () => void): void {
    this.#subscriber = subscriber;
    this.#end = end;
  }

  /** @internal Takes an event over: an outcome. */
  offer(event: Event): number {
    const reader = this.#readers.shift();
    if (reader !== undefined) {
      reader({ done: false, value: event as E });
      return Outcome.delivered;
    }
    if (this.#waiting.length - this.#head >= this.limit) return Outcome.rejectedByBulkhead;
    this.#waiting.push(event);
    this.books.detached++;
    return DETACHED;
  }

  /** The next event, when it comes; `done` once the stream has ended. */
  next(): Promise<IteratorResult<E, undefined>> {
    const event = this.#take(Outcome.delivered);
    if (event !== undefined) return Promise.resolve({ done: false, value: event as E });
    if (this.#end === undefined) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  /** Ends the subscription. Events that still wait count as cancelled. */
  return(): Promise<IteratorResult<E, undefined>> {
    this.unsubscribe();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Ends the subscription. Events that still wait count as cancelled. */
  unsubscribe(): void {
    const end = this.#end;
    this.#end = undefined;
    end?.();
    while (this.#take(Outcome.cancelled) !== undefined);
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.dispose](): void {
    this.unsubscribe();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.unsubscribe();
    return Promise.resolve();
  }

  #take(outcome: number): Event | undefined {
    if (this.#head === this.#waiting.length) return undefined;
    const event = this.#waiting[this.#head++];
    // What was taken must not stay, and neither should each taking move the rest.
    if (this.#head * 2 > this.#waiting.length) {
      this.#waiting.splice(0, this.#head);
      this.#head = 0;
    }
    this.books.detached--;
    this.#subscriber?.end(outcome);
    this.maybeIdle();
    return event;
  }
}
