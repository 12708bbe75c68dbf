/**
 * What MessagePack has and JavaScript has not.
 */

/** A value of a type that MessagePack leaves to programs (0 to 127) or keeps for itself (-128 to -1). */
export class Extension {
  /** @throws RangeError for a type beyond -128 to 127. */
  constructor(
    /** -128 to 127; those below 0 belong to MessagePack. */
    readonly type: number,
    /** Its bytes. */
    readonly data: Uint8Array,
  ) {
    if ((type << 24) >> 24 !== type)
      throw new RangeError(`an extension's type is -128 to 127, not ${type}`);
  }
}

/** A constructor of typed arrays. */
export interface TypedArrayClass<A> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBuffer, at: number, length: number): A;
}

/**
 * The typed array that was written, from the bytes that came: it shares them
 * where they lie aligned, else it is a copy. Elements are little-endian, as on
 * every machine that Node runs on but S/390.
 *
 * @throws RangeError when the bytes are no whole number of elements.
 */
export function typedArray<A>(bytes: Uint8Array, type: TypedArrayClass<A>): A {
  const size = type.BYTES_PER_ELEMENT;
  if (bytes.length % size !== 0)
    throw new RangeError(`${bytes.length} bytes are no whole number of elements`);
  if (bytes.byteOffset % size === 0 && bytes.buffer instanceof ArrayBuffer) {
    return new type(bytes.buffer, bytes.byteOffset, bytes.length / size);
  }
  const copy = bytes.slice();
  // A Buffer's slice shares memory, and so may still lie unaligned.
  const own = copy.buffer === bytes.buffer ? Uint8Array.prototype.slice.call(bytes) : copy;
  return new type(own.buffer as ArrayBuffer, own.byteOffset, bytes.length / size);
}
