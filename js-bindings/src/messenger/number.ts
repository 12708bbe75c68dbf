/** Settings that are whole numbers. */

/** One from 1 on. @throws RangeError */
export function positive(name: string, value: number): number {
  return whole(name, value, 1);
}

/** One from 0 on. @throws RangeError */
export function natural(name: string, value: number): number {
  return whole(name, value, 0);
}

function whole(name: string, value: number, least: number): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new RangeError(`${name} is a whole number of at least ${least}, not ${value}`);
  }
  return value;
}
