/**
 * Names that are written again and again, such as those of agents, with their bytes: the
 * characters of a string cost more to look at than the string to find.
 *
 * Bounds: at most MAX names of at most LONGEST characters, then all are forgotten. Where
 * nearly every name is new, most of them are not looked for.
 */

const MAX = 512;
const LONGEST = 64;

export class Names {
  private readonly known = new Map<string, number[]>();
  /** Rises with each name that was known, and falls with each that was not. */
  private trust = MAX;
  private passed = 0;

  /**
   * What {@link learn} was told of a name; nothing in it if it is yet to be learnt, undefined if
   * nobody wants to know.
   */
  find(name: string): number[] | undefined {
    if (this.trust < 0 && (++this.passed & 63) !== 0) return undefined;
    if (typeof name !== 'string' || name.length > LONGEST) return undefined;
    let words = this.known.get(name);
    if (words === undefined) {
      this.trust--;
      if (this.known.size >= MAX) this.known.clear();
      this.known.set(name, (words = []));
    } else if (this.trust < MAX) this.trust++;
    return words;
  }

  /** Keeps the number of bytes, and the bytes as little-endian words. */
  learn(words: number[], view: DataView, at: number, end: number): void {
    words.push(end - at);
    for (; at < end; at += 4) words.push(view.getInt32(at, true));
  }
}
