/** Turns of the event loop. */

type Immediate = (f: () => void) => unknown;

/** Runs `f` in a later turn of the event loop, after what waits there already. */
export function macrotask(f: () => void): void {
  const { setImmediate } = globalThis as { setImmediate?: Immediate };
  if (setImmediate === undefined) setTimeout(f, 0);
  else setImmediate(f);
}
