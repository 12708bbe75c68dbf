/** {@link FrameWriter}: a frame that grows by one event after the other. */

import { type Encodable, type Job, NONE, tooLong, writeRecord } from './encode.js';
import { encodeError } from './write.js';
import { FRAME_HEADER, MAGIC, VERSION, frame } from './layout.js';
import { DEFAULT_LIMITS } from './limits.js';
import { GROW, GUARD } from './memory.js';
import { counts } from './metrics.js';
import { allocate } from './text.js';

/**
 * Writes events into one frame as they come, which costs less than a frame for each that are joined
 * later. The bytes are those of `encodeBatch`.
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { decodeBatch, FrameWriter } from 'swarmbus';
 *
 * const writer = new FrameWriter();
 * for (const id of [1, 2]) writer.add({ type: 'task.done', payload: { id } });
 * assert.equal(decodeBatch(writer.finish()).length, 2);
 * ```
 */
export class FrameWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #end: number;
  #last: number;
  #count = 0;
  readonly #job: Job = {
    event: undefined,
    events: NONE,
    limits: DEFAULT_LIMITS,
    format: 'msgpack',
    msgpack: 0,
    json: 0,
    all: 0,
    payload: undefined,
  };

  /**
   * `headroom` bytes are left free before the frame, for what is to stand there. `size` is how many
   * bytes are expected; more are found when they are needed.
   */
  constructor(
    private readonly headroom = 0,
    size = 1_024,
  ) {
    this.#end = this.#last = headroom + FRAME_HEADER;
    this.#bytes = allocate(this.#end + size + GUARD);
    this.#view = viewOf(this.#bytes);
  }

  /** Events in the frame. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of the frame. */
  get length(): number {
    return this.#end - this.headroom;
  }

  /**
   * Adds an event, and returns how many bytes it takes.
   *
   * @throws EncodeError as `encodeBatch` does. The frame is then as it was.
   */
  add(event: Encodable): number {
    const job = this.#job;
    const { limits } = job;
    job.msgpack = job.json = job.all = 0;
    const start = this.#end;
    try {
      if (this.#count >= limits.events) throw tooLong('frame_too_long', 'frame', limits.frameLen);
      const end = this.#write(event);
      if (end - this.headroom > limits.frameLen) {
        throw tooLong('frame_too_long', 'frame', limits.frameLen);
      }
      this.#last = start;
      this.#end = end;
    } catch (error) {
      throw encodeError(error, job.payload, limits.depth);
    }
    this.#count += 1;
    counts.encodedMsgpack += job.msgpack;
    counts.encodedJson += job.json;
    counts.encodedOther += job.all - job.msgpack - job.json;
    return this.#end - start;
  }

  /** Takes the event out again that was added last; once. */
  undo(): void {
    if (this.#end === this.#last) return;
    this.#end = this.#last;
    this.#count -= 1;
  }

  /**
   * The frame, with the free bytes before it. What is added later is not in it.
   *
   * The bytes are not copied: they are as much memory as the writer has.
   */
  finish(): Uint8Array {
    const at = this.headroom;
    this.#view.setUint32(at, MAGIC, true);
    this.#view.setUint32(at + frame.VERSION, VERSION, true);
    this.#view.setUint32(at + frame.COUNT, this.#count, true);
    this.#view.setUint32(at + frame.LEN, this.#end - at, true);
    return this.#bytes.subarray(0, this.#end);
  }

  #write(event: Encodable): number {
    for (;;) {
      try {
        return writeRecord(this.#bytes, this.#view, this.#end, event, this.#job);
      } catch (error) {
        if (error !== GROW) throw error;
        this.#grow();
      }
    }
  }

  #grow(): void {
    const { frameLen } = this.#job.limits;
    const size = this.#bytes.length;
    if (size > 5 * frameLen) throw tooLong('frame_too_long', 'frame', frameLen);
    const bytes = allocate(2 * size);
    bytes.set(this.#bytes.subarray(0, this.#end));
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
