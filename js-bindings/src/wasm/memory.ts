/**
 * Views of linear memory that stay good when it grows.
 */
import { Block } from '../../generated/glue.js';
import { FreedError } from '../handles.js';
import { memory } from './instance.js';

/** Linear memory is full, or the block is larger than 32 bits can say. */
export class OutOfMemoryError extends Error {
  override readonly name = 'OutOfMemoryError';
  /** For programs: does not change. */
  readonly code = 'out_of_memory';
}

/**
 * A block of linear memory and a view of it. The block never moves; the view is made
 * anew when memory has grown, so ask for {@link bytes} after each call into the
 * module, and keep it no longer than that.
 */
export class Arena {
  readonly raw: Block;
  readonly address: number;
  readonly length: number;
  #bytes: Uint8Array<ArrayBuffer>;

  constructor(length: number) {
    const raw = length <= 0x7fff_ffff ? Block.create(length) : undefined;
    if (raw === undefined) throw new OutOfMemoryError(`no memory for a block of ${length} bytes`);
    this.raw = raw;
    this.address = raw.address() >>> 0;
    this.length = length;
    this.#bytes = new Uint8Array(memory(), this.address, length);
  }

  /** The block's bytes, good until the next call into the module. */
  get bytes(): Uint8Array<ArrayBuffer> {
    // Both forms of the module give another buffer when memory grows.
    if (this.#bytes.buffer !== memory()) {
      if (this.address === 0) throw new FreedError('Arena');
      this.#bytes = new Uint8Array(memory(), this.address, this.length);
    }
    return this.#bytes;
  }

  free(): void {
    this.raw.free();
  }
}
