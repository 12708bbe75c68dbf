/**
 * Places in a program's values, where objects of the same shape come again.
 */

/** Returns the end, or -1 when the object is of another shape. */
export type ShapeWriter = (bytes: Uint8Array, view: DataView, at: number, object: object) => number;

/** A place in the program's values, and the writers that served there. */
export class Site {
  /** The writer that fitted last, and the one before. */
  first: ShapeWriter | null = null;
  second: ShapeWriter | null = null;
  /** All others, by the first key of their shape. */
  many: Map<string, ShapeWriter[]> | null = null;
  /** The place of an array's elements. */
  element: Site | null = null;
  misses = 0;
  generation = 0;
}
