/**
 * What owns linear memory: counted, freed by hand or by `using`, and in the end by
 * the garbage collector.
 */

// Older browsers have no such symbol; Node 20 has.
(Symbol as { dispose?: symbol }).dispose ??= Symbol.for('Symbol.dispose');

/** An object was used after it was freed. */
export class FreedError extends Error {
  override readonly name = 'FreedError';
  /** For programs: does not change. */
  readonly code = 'freed';

  constructor(what: string) {
    super(`this ${what} has been freed`);
  }
}

interface Raw {
  free(): void;
}

let live = 0;

/**
 * How many objects own linear memory now: those that were made, less those that were
 * freed. A number that grows for ever is a leak.
 *
 * @example
 * ```ts
 * import { CircuitBreaker, liveHandles } from 'swarmbus';
 *
 * const before = liveHandles();
 * const breaker = new CircuitBreaker();
 * console.assert(liveHandles() === before + 1);
 * breaker.free();
 * console.assert(liveHandles() === before);
 * ```
 */
export function liveHandles(): number {
  return live;
}

/** A net for what nobody freed: memory is small, and collectors know nothing of it. */
const net = new FinalizationRegistry<Raw>((raw) => {
  live -= 1;
  raw.free();
});

/** Counts `raw` as live until {@link release}, at the latest when `owner` is collected. */
export function own(owner: object, raw: Raw): void {
  live += 1;
  net.register(owner, raw, owner);
}

/** Frees `raw` now. Returns what stands in its place: every use of it throws. */
export function release<R extends Raw>(owner: object, raw: R, what: string): R {
  // The second time, and so on: nothing is registered any more.
  if (net.unregister(owner)) {
    live -= 1;
    raw.free();
  }
  return new Proxy(raw, {
    get(_, name) {
      if (name === 'free') return () => {};
      throw new FreedError(what);
    },
  });
}
