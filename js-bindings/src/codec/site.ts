/**
 * Places in a program's values, where objects of the same shape come again.
 */

/** Returns the end, or -1 when the object is of another shape. */
export type ShapeWriter = (bytes: Uint8Array, view: DataView, at: number, object: object) => number;

/** Objects with the same keys in the same order. */
export interface Shape {
  /** What writes them; it may be replaced by something quicker. */
  readonly write: ShapeWriter;
}

/** A place in the program's values, and the shapes that came there. */
export class Site {
  /** The shape that fitted last, and the one before. */
  first: Shape | null = null;
  second: Shape | null = null;
  /** All others, by their first key. */
  many: Map<string, Shape[]> | null = null;
  /** The place of an array's elements. */
  element: Site | null = null;
  misses = 0;
  generation = 0;
}
