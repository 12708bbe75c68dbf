/** Settings that are numbers. */

/** A setting that is a whole number from 1 on. @throws RangeError */
export function positive(name: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new RangeError(`${name} is a whole number of at least 1, not ${value}`);
  }
  return value;
}
