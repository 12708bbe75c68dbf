/**
 * The frequent case of forwarding: one small event that nothing is wrong with. It is copied first,
 * as bytes of one's own are read by words, and then changed where it is.
 */

import { checkPriority, halves, type Changes } from './changes.js';
import {
  FRAME_HEADER,
  MAGIC,
  MAX_TIME_HIGH,
  RECORD_HEADER,
  VERSION,
  flag,
  frame,
  isTooLate,
  record,
} from './layout.js';
import { DEFAULT_LIMITS } from './limits.js';
import { stage, staged, stagedView, unstage } from './memory.js';

/** Names of up to so many ASCII characters are written this way. */
const SHORT = 64;
const NOT_SHORT = -2;
/** The beginning of a target, `agent:` or `swarm:`. */
const KIND = 6;

/** The changed frame; undefined when it is not as simple as that: then nothing has been done. */
export function passOn(bytes: Uint8Array, changes: Changes): Uint8Array | undefined {
  const { priority, deadline, target, hop } = changes;
  if (changes.hops !== undefined || target === null) return undefined;
  const name = target === undefined ? 0 : shortLength(target) - KIND;
  const place = hop === undefined ? 0 : shortLength(hop) + 1;
  const len = bytes?.length;
  if (!(len >= FRAME_HEADER + RECORD_HEADER) || name < 0 || place < 0) return undefined;
  const start = stage(bytes, name + place);
  if (start < 0) return undefined;
  const view = stagedView;
  const at = start + FRAME_HEADER;
  const left = len - FRAME_HEADER;
  // Flags, priority and content; then the lengths, two at a time.
  const kinds = view.getInt32(at + record.FLAGS, true);
  const first = view.getUint32(at + record.TYPE_LEN, true);
  const second = view.getUint32(at + record.ID_LEN, true);
  const hops = view.getUint16(at + record.HOPS_LEN, true);
  const attributes = view.getUint32(at + record.ATTRIBUTES_LEN, true);
  const beforeTarget = (first & 0xff) + (first >>> 16) + (second & 0xffff);
  const strings =
    beforeTarget +
    (second >>> 16) +
    two(view, at + record.SESSION_LEN) +
    two(view, at + record.CAUSATION_LEN) +
    hops +
    attributes;
  if (
    view.getInt32(start, true) !== MAGIC ||
    view.getInt32(start + frame.VERSION, true) !== VERSION ||
    view.getInt32(start + frame.COUNT, true) !== 1 ||
    view.getUint32(start + frame.LEN, true) !== len ||
    view.getUint32(at + record.LEN, true) !== left ||
    (kinds & 0xffff & ~flag.ALL) !== 0 ||
    ((kinds >> 16) & 0xff) > 9 ||
    kinds >>> 24 > 3 ||
    isLate(view, at + record.TIMESTAMP) ||
    isLate(view, at + record.DEADLINE) ||
    strings > left - RECORD_HEADER
  ) {
    return undefined;
  }
  if (priority !== undefined) {
    checkPriority(priority);
    view.setUint8(at + record.PRIORITY, priority);
  }
  if (deadline !== undefined) {
    const [low, high] = deadline === null ? NONE : halves(deadline);
    view.setUint32(at + record.DEADLINE, low, true);
    view.setUint32(at + record.DEADLINE + 4, high, true);
  }
  if (place + name === 0 && target === undefined) return unstage(len);

  const hopsEnd = at + RECORD_HEADER + strings - attributes;
  let moved = 0;
  if (target !== undefined) {
    const kind = kindOf(target);
    if (kind === 0) return undefined;
    const old = second >>> 16;
    const to = at + RECORD_HEADER + beforeTarget;
    moved = name - old;
    // Nothing may be written over what has not been moved yet.
    if (moved + place > 0) move(hopsEnd, start + len, moved + place);
    if (moved !== 0) move(to + old, hopsEnd, moved);
    if (moved + place < 0) move(hopsEnd, start + len, moved + place);
    if (!put(target, KIND, to)) return undefined;
    view.setUint16(at + record.FLAGS, (kinds & ~(flag.TARGET | flag.TARGET_SWARM)) | kind, true);
    view.setUint16(at + record.TARGET_LEN, name, true);
  } else {
    move(hopsEnd, start + len, place);
  }
  if (hop !== undefined) {
    const count = ((first >> 8) & 0xff) + 1;
    const to = hopsEnd + moved;
    if (count > DEFAULT_LIMITS.hops || hops + place > 0xffff || !put(hop, 0, to + 1)) {
      return undefined;
    }
    view.setUint8(to, hop.length);
    view.setUint8(at + record.HOP_COUNT, count);
    view.setUint16(at + record.HOPS_LEN, hops + place, true);
  }
  const grown = moved + place;
  view.setUint32(start + frame.LEN, len + grown, true);
  view.setUint32(at + record.LEN, left + grown, true);
  return unstage(len + grown);
}

const NONE = [0, 0] as const;

/** The bytes of a text if it is ASCII. */
function shortLength(text: string): number {
  return typeof text === 'string' && text.length <= SHORT ? text.length : NOT_SHORT;
}

/** The flags of a target, 0 when it is none. */
function kindOf(target: string): number {
  if (target.startsWith('agent:')) return flag.TARGET;
  return target.startsWith('swarm:') ? flag.TARGET | flag.TARGET_SWARM : 0;
}

/** Moves what lies from `from` to `end`. */
function move(from: number, end: number, by: number): void {
  staged.copyWithin(from + by, from, end);
}

/** Writes a name from its `from`th character on; false when it is not ASCII. */
function put(text: string, from: number, to: number): boolean {
  for (let i = from; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return false;
    staged[to++] = code;
  }
  return true;
}

/** The sum of two lengths. */
function two(view: DataView, at: number): number {
  const both = view.getInt32(at, true);
  return (both & 0xffff) + (both >>> 16);
}

function isLate(view: DataView, at: number): boolean {
  const high = view.getUint32(at + 4, true);
  return high >= MAX_TIME_HIGH && isTooLate(view.getUint32(at, true), high);
}
