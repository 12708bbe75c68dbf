/** Settings as they may come from programs that no compiler has checked. */

/** For each setting the kinds that its value may be of, as `typeof` calls them, and `null`. */
export type Kinds<T> = { readonly [K in keyof Required<T>]: string };

/** What is wrong with some settings: of which name, and what it must be. */
export interface KindFault {
  readonly name: string;
  readonly must: string;
}

/** The first name that is none, or value of another kind. What is undefined is not set. */
export function kindFault<T extends object>(given: T, kinds: Kinds<T>): KindFault | undefined {
  if (typeof given !== 'object' || given === null) {
    return { name: 'settings', must: `an object, not ${String(given)}` };
  }
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const wanted = Object.hasOwn(kinds, name) ? kinds[name as keyof T].split(' ') : undefined;
    if (wanted === undefined) return { name, must: `one of ${Object.keys(kinds).join(', ')}` };
    const kind = value === null ? 'null' : typeof value;
    if (!wanted.includes(kind)) return { name, must: `of the kind ${wanted.join(' or ')}` };
  }
  return undefined;
}
