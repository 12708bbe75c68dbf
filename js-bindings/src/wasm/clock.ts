/**
 * The clock that the module reads, when an answer depends on the time.
 */

/** Milliseconds on a clock that never goes back. */
export type Clock = () => number;

/** The process's own monotonic clock. */
export const monotonic: Clock = () => performance.now();

/** What a clock of the program's own said; NaN where the process's is to be read. */
let said = NaN;

/**
 * Whose clock the next call into the module is to read. The program's own is read
 * here: were it to throw within the call, the module would be left half-way.
 */
export function readFrom(clock: Clock): void {
  said = clock === monotonic ? NaN : finite(clock());
}

/** Called by the module. */
export function now(): number {
  return Number.isNaN(said) ? performance.now() : said;
}

function finite(millis: number): number {
  if (millis >= 0) return millis;
  throw new RangeError(`a clock gives milliseconds of at least 0, not ${millis}`);
}
