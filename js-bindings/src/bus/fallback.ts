/** Layer: fallbacks. Somebody else does it, and everybody can see that. */

import type { Handler } from './subscriber.js';

/** What handles an event when the handler did not. */
export interface Fallback<E = Parameters<Handler>[0]> {
  /** For {@link Degraded.serving}. */
  readonly name: string;
  /** Its end counts as the handler's would, and has the time of the handler's own `timeout`. */
  readonly handle: Handler<E>;
}

/**
 * A handler whose fallback serves at the moment: from the first call that it took over until the
 * first that succeeds without it.
 */
export interface Degraded {
  /** The handler's name. */
  readonly name: string;
  /** When the fallback first had to serve, in milliseconds since 1970. */
  readonly since: number;
  /** Which fallback served last. */
  readonly serving: string;
}

/** @internal What takes over for a handler, in this order. */
export class FallbackLayer {
  degraded: Degraded | undefined;

  constructor(
    private readonly name: string,
    readonly chain: readonly Fallback[],
    /** Its handler has ended. */
    readonly free: () => void,
  ) {}

  /** A fallback has served. */
  served(serving: string): void {
    const since = this.degraded?.since ?? Date.now();
    this.degraded = { name: this.name, since, serving };
  }

  /** A call has succeeded without a fallback. */
  recovered(): void {
    this.degraded = undefined;
  }
}
