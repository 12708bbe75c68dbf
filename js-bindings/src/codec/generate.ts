/**
 * Code that is made while the program runs, where that is allowed.
 */

/** Whether this program may make functions of text. */
export const CODE_GENERATION = ((): boolean => {
  try {
    return (new Function('return 1') as () => number)() === 1;
  } catch {
    return false;
  }
})();

/** A string literal; JSON allows two characters that old JavaScript does not. */
export function literal(key: string): string {
  return JSON.stringify(key)
    .replace(/\u2028/g, '\\u2028')
    .replace(/\u2029/g, '\\u2029');
}
