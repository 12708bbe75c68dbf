/** Joins waiting events into parcels. Pure. */

import { HEADROOM, type Parcel } from './carrier.js';
import { FRAME_HEADER, MAX_FRAME_LEN, writeFrameHeader } from './frames.js';
import type { Entry, Lane } from './outbox.js';

/** How much one parcel holds at most. */
export interface PackLimits {
  readonly events: number;
  readonly bytes: number;
  /** A parcel ends where a number is missing. */
  readonly numbered: boolean;
}

/** A parcel that is not full yet. */
interface Open {
  readonly lane: Lane;
  entries: Entry[];
  /** Events. */
  count: number;
  bytes: number;
}

/**
 * All entries as parcels. Those of a lane are in the order of its events; lanes are in the order in
 * which their parcels filled up.
 */
export function pack(entries: readonly Entry[], limits: PackLimits): Parcel[] {
  const parcels: Parcel[] = [];
  const lanes = new Map<Lane, Open>();
  const ticket = entries[0]?.ticket ?? 0;
  const close = (open: Open): void => {
    if (open.entries.length > 0) parcels.push(parcelOf(open, ticket));
    open.entries = [];
    open.count = 0;
    open.bytes = FRAME_HEADER;
  };
  let open: Open | undefined;
  for (const entry of entries) {
    // Mostly the next event is of the same lane.
    if (open?.lane !== entry.lane) {
      open = lanes.get(entry.lane);
      if (open === undefined) {
        open = { lane: entry.lane, entries: [], count: 0, bytes: FRAME_HEADER };
        lanes.set(entry.lane, open);
      }
    }
    const before = open.entries[open.entries.length - 1];
    const length = open.bytes + entry.length;
    if (before !== undefined) {
      const hole = limits.numbered && before.number + before.count !== entry.number;
      const tooMany = open.count + entry.count > limits.events;
      if (hole || tooMany || length > Math.min(limits.bytes, MAX_FRAME_LEN)) close(open);
    }
    open.entries.push(entry);
    open.count += entry.count;
    open.bytes += entry.length;
  }
  for (const rest of lanes.values()) close(rest);
  return parcels;
}

function parcelOf({ lane, entries, count, bytes }: Open, ticket: number): Parcel {
  const [only] = entries as [Entry];
  if (entries.length === 1 && only.message !== undefined) {
    return { lane, message: only.message, count, first: only.number, ticket, again: false };
  }
  const message = Buffer.allocUnsafe(HEADROOM + bytes);
  // From the last to the first: the header of each frame ends up under the one before it, and that
  // of the first under the one of them all. So nothing has to be cut off.
  let at = message.length;
  for (let n = entries.length - 1; n >= 0; n -= 1) {
    const { frame, length } = entries[n] as Entry;
    at -= length;
    message.set(frame, at - FRAME_HEADER);
  }
  writeFrameHeader(message, HEADROOM, count, bytes);
  return { lane, message, count, first: only.number, ticket, again: false };
}
