/** Promises that nobody need await. */

/**
 * Whoever does not await it is not told that it failed, which Node.js would else end the process
 * for; whoever does is. Only for failures that are counted in any case.
 */
export function quietly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}
