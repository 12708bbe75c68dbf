/**
 * Routing a whole frame by its headers: no payload is looked at, no string made.
 */

import { DecodeError } from './error.js';
import { whole } from './frame.js';
import { FRAME_HEADER, RECORD_HEADER, record } from './layout.js';
import { DEFAULT_LIMITS, limitsOf, type Limits } from './limits.js';
import { TypeEntry, typeFault } from './types.js';

/** A number for each of some event types, to be found by the bytes of a header. */
export class TypeTable {
  /** Four numbers a place: both halves of the hash, the number, which entry. */
  private places = new Int32Array(4 * 16);
  private mask = 15;
  private entries: TypeEntry[] = [];

  /**
   * Gives a type its number, or another one.
   *
   * @throws RangeError when the number is no integer from 0 to 2^31 - 1, or the
   * text no event type.
   */
  set(type: string, number: number): void {
    if ((number | 0) !== number || number < 0) {
      throw new RangeError(`a number is an integer from 0 to 2^31 - 1, not ${number}`);
    }
    const fault = typeFault(type);
    if (fault !== undefined) throw new RangeError(fault);
    const known = this.entries.findIndex((entry) => entry.text === type);
    const at = known < 0 ? this.entries.push(new TypeEntry(type)) - 1 : known;
    if (this.entries.length * 2 > this.mask) this.grow();
    this.put(this.entries[at]!, at + 1, number);
  }

  /** How many types have a number. */
  get size(): number {
    return this.entries.length;
  }

  /** @internal The number of the type of the record at `at`; -1 if it has none. */
  find(b: Uint8Array, view: DataView, at: number): number {
    const { places, mask } = this;
    const low = view.getInt32(at + record.TYPE_HASH, true);
    const high = view.getInt32(at + record.TYPE_HASH + 4, true);
    for (let place = low & mask; ; place = (place + 1) & mask) {
      const entry = places[4 * place + 3]!;
      if (entry === 0) return -1;
      if (
        places[4 * place] === low &&
        places[4 * place + 1] === high &&
        this.is(this.entries[entry - 1]!, b, view, at)
      ) {
        return places[4 * place + 2]!;
      }
    }
  }

  /** The hash is what a stranger wrote: the bytes decide. */
  private is({ bytes, words }: TypeEntry, b: Uint8Array, view: DataView, at: number): boolean {
    const length = bytes.length;
    if (b[at + record.TYPE_LEN] !== length) return false;
    const whole = length >> 2;
    const start = at + RECORD_HEADER;
    for (let i = 0; i < whole; i++) {
      if (view.getInt32(start + 4 * i, true) !== words[i]) return false;
    }
    for (let i = 4 * whole; i < length; i++) if (b[start + i] !== bytes[i]) return false;
    return true;
  }

  private put(entry: TypeEntry, at: number, number: number): void {
    const { places, mask } = this;
    let place = entry.hashLow & mask;
    while (places[4 * place + 3] !== 0 && places[4 * place + 3] !== at) place = (place + 1) & mask;
    places.set([entry.hashLow | 0, entry.hashHigh | 0, number, at], 4 * place);
  }

  private grow(): void {
    const numbers = new Map<number, number>();
    for (let i = 0; i < this.places.length; i += 4) {
      if (this.places[i + 3] !== 0) numbers.set(this.places[i + 3]!, this.places[i + 2]!);
    }
    this.mask = 2 * this.mask + 1;
    this.places = new Int32Array(4 * (this.mask + 1));
    for (const [at, number] of numbers) this.put(this.entries[at - 1]!, at, number);
  }
}

/**
 * The numbers of the types of all events in a frame, -1 for those that have none,
 * and if asked for their priorities. Returns how many events there are.
 *
 * Only what is needed for this is checked: lengths, priorities, and that the bytes of
 * the type are those in the table. The rest is for whoever reads the event.
 *
 * @throws DecodeError when the frame, or the length or priority of an event is
 * malformed; RangeError when there are more events than room in `routes`.
 */
export function routeBatch(
  bytes: Uint8Array,
  table: TypeTable,
  routes: Int32Array,
  priorities?: Uint8Array,
  options?: { readonly limits?: Partial<Limits> | undefined },
): number {
  const limits = options === undefined ? DEFAULT_LIMITS : limitsOf(options.limits);
  const count = whole(bytes, limits);
  if (count > routes.length || (priorities !== undefined && count > priorities.length)) {
    throw new RangeError(`the frame has ${count} events, there is room for ${routes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = bytes.length;
  let at = FRAME_HEADER;
  for (let i = 0; i < count; i++) {
    const have = end - at;
    const length = have < RECORD_HEADER ? 0 : view.getUint32(at, true);
    if (length < RECORD_HEADER || length > have || length > limits.recordLen) {
      throw new DecodeError('record_length', `a record states ${length} bytes, ${have} are left`);
    }
    if (bytes[at + record.TYPE_LEN]! + RECORD_HEADER > length) {
      throw new DecodeError('sections', 'the strings of the event reach beyond its end');
    }
    const priority = bytes[at + record.PRIORITY]!;
    if (priority > 9) throw new DecodeError('priority', `priority ${priority} is above 9`);
    routes[i] = table.find(bytes, view, at);
    if (priorities !== undefined) priorities[i] = priority;
    at += length;
  }
  if (at !== end)
    throw new DecodeError('trailing_bytes', `${end - at} bytes follow the last event`);
  return count;
}
