/** How much a reader or writer of frames accepts. The defaults are those of the Rust crate. */
export interface Limits {
  /** Bytes of a frame, at most 2^32 - 1. Default 16 MiB. */
  readonly frameLen: number;
  /** Bytes of one event in a frame, at most 2^32 - 1. Default 8 MiB. */
  readonly recordLen: number;
  /** Events of a frame. Default 65,536. */
  readonly events: number;
  /** UTF-8 bytes of a source, id, target name, session or traceparent, at most 65,535. Default 1,024. */
  readonly stringLen: number;
  /** Places in a hop path, at most 255. Default 64. */
  readonly hops: number;
  /** Extension attributes, at most 65,535. Default 64. */
  readonly attributes: number;
  /** UTF-8 bytes of an attribute's value, at most 65,535. Default 4,096. */
  readonly attributeLen: number;
  /** Arrays and objects of a payload within each other, at most 128, which is the default. */
  readonly depth: number;
}

/** UTF-8 bytes of an event type; fixed by its length byte. */
export const MAX_TYPE_LEN = 255;

/** UTF-8 bytes of a hop's name; fixed by its length byte. */
export const MAX_HOP_LEN = 255;

/** The limits of whoever states no others. */
export const DEFAULT_LIMITS: Limits = Object.freeze({
  frameLen: 16 << 20,
  recordLen: 8 << 20,
  events: 65_536,
  stringLen: 1_024,
  hops: 64,
  attributes: 64,
  attributeLen: 4_096,
  depth: 128,
});

const LARGEST: Limits = {
  frameLen: 0xffff_ffff,
  recordLen: 0xffff_ffff,
  events: 0xffff_ffff,
  stringLen: 0xffff,
  hops: 0xff,
  attributes: 0xffff,
  attributeLen: 0xffff,
  depth: 128,
};

const known = new WeakMap<object, Limits>();

/**
 * Limits of the caller's choice, the rest by default, lowered to what the
 * format can hold. An object is looked at once: do not change it afterwards.
 *
 * @throws RangeError for a limit that is no non-negative integer.
 */
export function limitsOf(chosen: Partial<Limits> | undefined): Limits {
  if (chosen === undefined || chosen === DEFAULT_LIMITS) return DEFAULT_LIMITS;
  let limits = known.get(chosen);
  if (limits === undefined) {
    const all: Record<keyof Limits, number> = { ...DEFAULT_LIMITS };
    for (const name of Object.keys(LARGEST) as (keyof Limits)[]) {
      const value = chosen[name] ?? DEFAULT_LIMITS[name];
      if (!Number.isInteger(value) || value < 0) {
        throw new RangeError(`limit ${name} is a non-negative integer, not ${String(value)}`);
      }
      all[name] = Math.min(value, LARGEST[name]);
    }
    limits = Object.freeze(all);
    known.set(chosen, limits);
  }
  return limits;
}
