/** A handler with everything that belongs to it, and its match with one type. */

import type { Event } from '../event.js';
import type { NamedBreaker, BreakerLayer } from './breaker.js';
import { newCounts, type Books, type Counts } from './ledger.js';
import type { LoopGuard } from './hops.js';
import type { Layers } from './layers.js';

/** What a handler gets besides the event. */
export interface HandlerContext {
  /**
   * Aborted when the handler's time limit is over, or when the bus closes and has no more time: stop
   * then. Work that goes on is no longer waited for.
   */
  readonly signal: AbortSignal;
}

/** Handles an event. What it returns is ignored; what it throws, or rejects with, is a failure. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Handler<E = Event<string, any>> = (event: E, context: HandlerContext) => unknown;

/** Takes an event over: an outcome, or `DETACHED` if that comes later. */
export type Outlet = (event: Event) => number;

/** One subscribed handler. */
export class Subscriber {
  active = true;
  readonly counts: Counts = newCounts();
  /** Matches that have no outcome yet. */
  calls = 0;
  /** A call of it has waited before, or will. */
  isAsync: boolean;
  /** Nothing but a breaker and a loop guard stands before the handler. */
  readonly isSimple: boolean;
  /** Whether calls are marked, so that what follows an `await` is known to be theirs. */
  isMarked = true;

  constructor(
    readonly serial: number,
    readonly name: string,
    readonly pattern: string,
    /** Higher is called earlier. */
    readonly priority: number,
    readonly handler: Handler,
    readonly filter: ((event: Event) => boolean) | undefined,
    readonly loopGuard: LoopGuard | undefined,
    readonly breaker: BreakerLayer | undefined,
    readonly layers: Layers | undefined,
    readonly deadLetters: boolean,
    /** What takes events over, in place of the handler. */
    readonly outlet: Outlet | undefined,
    private readonly books: Books,
    closing: AbortSignal,
  ) {
    this.context = new SharedContext(closing);
    this.isAsync = handler instanceof AsyncFunction;
    this.isSimple = filter === undefined && outlet === undefined && layers === undefined;
    books.open(this);
  }

  /** What calls without a time limit get. */
  readonly context: HandlerContext;

  /** No call starts after this. */
  deactivate(): void {
    if (!this.active) return;
    this.active = false;
    if (this.calls === 0) this.close();
  }

  /** A match begins. */
  begin(): void {
    this.calls++;
  }

  /** A match has its outcome. */
  end(outcome: number): void {
    (this.counts[outcome] as number)++;
    if (--this.calls === 0 && !this.active) this.close();
  }

  /** Nobody is called, and nobody will be: what its layers own goes back. */
  private close(): void {
    this.breaker?.free();
    this.layers?.free();
    this.books.close(this);
  }
}

const AsyncFunction = (async () => {}).constructor as FunctionConstructor;

class SharedContext implements HandlerContext {
  constructor(readonly signal: AbortSignal) {}
}

/** A subscriber that wants events of one type, with what it keeps for that type. */
export class Match {
  readonly breaker: NamedBreaker | undefined;

  constructor(
    readonly subscriber: Subscriber,
    type: string,
  ) {
    this.breaker = subscriber.breaker?.ofType(type);
  }
}
