/** Which handlers want a message: a table of patterns. */

import { Router } from '../router.js';
import type { Scope } from './message.js';

/** Handlers of one messenger or topic. */
const MAX_HANDLERS = 10_000;

/** Types whose handlers are remembered. */
const MAX_TYPES = 1_000;

/** There are as many handlers as there may be. */
export class TooManyHandlersError extends Error {
  override readonly name = 'TooManyHandlersError';
  readonly code = 'too_many';

  constructor(readonly limit: number) {
    super(`there are ${limit} handlers, which is the limit`);
  }
}

/** One handler in a table. */
export interface Entry<H> {
  readonly handle: H;
  /** What it wants. */
  readonly scopes: readonly Scope[];
  active: boolean;
}

/** A handler's registration: `close`, or leaving the scope of a `using`, ends it. */
export class Listening {
  readonly #end: () => void;

  /** For messengers. */
  constructor(end: () => void) {
    this.#end = end;
  }

  /** Messages that come from now on do not reach the handler; a call that has begun runs to its end. */
  close(): void {
    this.#end();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** What handlers get unless they ask for less. */
export const DIRECT: readonly Scope[] = ['swarm', 'agent', 'broadcast'];

/** The handlers of some channels, by the type that they want. */
export class Table<H> {
  readonly #router = new Router<Entry<H>>({ cacheCapacity: MAX_TYPES });
  #isFreed = false;

  /** @throws {@link PatternError} when the pattern is none, {@link TooManyHandlersError} */
  insert(pattern: string | RegExp, scopes: readonly Scope[], handle: H): Listening {
    if (this.#router.length >= MAX_HANDLERS) throw new TooManyHandlersError(MAX_HANDLERS);
    const entry: Entry<H> = { handle, scopes, active: true };
    const route = this.#router.insert(pattern, entry);
    return new Listening(() => {
      if (!entry.active) return;
      entry.active = false;
      if (!this.#isFreed) route.remove();
    });
  }

  /** All that want this type in this scope, in the order of their registration. */
  find(type: string, scope: Scope): Entry<H>[] {
    return this.#router.matches(type).filter((entry) => entry.scopes.includes(scope));
  }

  /** Gives its memory back. Nobody listens any more. */
  free(): void {
    this.#isFreed = true;
    this.#router.free();
  }
}
