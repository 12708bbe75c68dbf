/**
 * Forwarding: another priority, deadline, target or hop, the payload as it came.
 */

import type { Micros, Target } from '../event.js';
import { targetFault } from './encode.js';
import { EncodeError } from './error.js';
import { recordEnd, trailing, whole } from './frame.js';
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
import { DEFAULT_LIMITS, MAX_HOP_LEN, limitsOf, type Limits } from './limits.js';
import { reserve, stage, staged, stagedView, unstage } from './memory.js';
import { checkNumbers, payloadStart, u16, u32 } from './view.js';

/** What a forwarder changes; everything else is copied. */
export interface Changes {
  /** 0 to 9. */
  readonly priority?: number | undefined;
  /** Another deadline; `null` for none. */
  readonly deadline?: Micros | null | undefined;
  /** Another target; `null` for everybody. */
  readonly target?: Target | null | undefined;
  /** One more place at the end of the hop path. */
  readonly hop?: string | undefined;
  /** Another hop path in place of the one there is: first to last, `[]` for none. Before `hop`. */
  readonly hops?: readonly string[] | undefined;
}

/** Changes as bytes. */
interface Plan {
  priority: number;
  deadline: readonly [low: number, high: number] | undefined;
  target: { readonly name: Uint8Array; readonly bits: number } | undefined;
  hop: Uint8Array | undefined;
  /** All hops in place of those there are, each behind its length. */
  path: { readonly count: number; readonly bytes: Uint8Array } | undefined;
}

const encoder = new TextEncoder();

/**
 * The frame again with all its events changed. What nobody has checked yet stays
 * unchecked: the reader at the end of the way does it. The bytes given are left
 * as they are.
 *
 * @throws DecodeError when the bytes are no frame, EncodeError when a changed
 * event is beyond a limit.
 */
export function forward(
  bytes: Uint8Array,
  changes: Changes = {},
  options?: { readonly limits?: Partial<Limits> | undefined },
): Uint8Array {
  const limits = limitsOf(options?.limits);
  const { hops } = changes;
  const passed =
    limits === DEFAULT_LIMITS && hops === undefined ? passOn(bytes, changes) : undefined;
  if (passed !== undefined) return passed;
  const count = whole(bytes, limits);
  const { target, hop, deadline } = changes;
  if (target === undefined && hop === undefined && hops === undefined && deadline === undefined) {
    return withPriority(bytes, count, changes.priority, limits);
  }
  const plan = planOf(changes, limits);
  const ends: number[] = [];
  let len = FRAME_HEADER;
  let at = FRAME_HEADER;
  for (let i = 0; i < count; i++) {
    const end = recordEnd(bytes, at, bytes.length, limits);
    checkNumbers(bytes, at, end);
    len += changedLength(bytes, at, end, plan, limits);
    ends.push(end);
    at = end;
  }
  trailing(bytes, at);
  if (len > limits.frameLen) {
    throw new EncodeError(
      'frame_too_long',
      `with these changes the frame takes ${len} bytes, the limit is ${limits.frameLen}`,
    );
  }
  const out = reserve(len);
  if (count === 1 && plan.target === undefined && plan.path === undefined) {
    return withHop(out, bytes, plan);
  }
  out.set(bytes.subarray(0, FRAME_HEADER));
  set32(out, frame.LEN, len);
  let to = FRAME_HEADER;
  at = FRAME_HEADER;
  for (const end of ends) {
    to = copyChanged(out, to, bytes, at, end, plan);
    at = end;
  }
  return out;
}

/**
 * The frequent case: one small event that nothing is wrong with, another priority, perhaps one
 * more hop. It is copied first, as bytes of one's own are read by words. Undefined when it is not
 * as simple as that.
 */
function passOn(bytes: Uint8Array, changes: Changes): Uint8Array | undefined {
  const { priority, hop } = changes;
  if (changes.target !== undefined || changes.deadline !== undefined) return undefined;
  const added = hop === undefined ? undefined : hopBytes(hop);
  const more = added === undefined ? 0 : 1 + added.length;
  const len = bytes?.length;
  if (!(len >= FRAME_HEADER + RECORD_HEADER)) return undefined;
  const start = stage(bytes, more);
  if (start < 0) return undefined;
  const view = stagedView;
  const at = start + FRAME_HEADER;
  const left = len - FRAME_HEADER;
  // Flags, priority and content; then the lengths, two at a time.
  const kinds = view.getInt32(at + record.FLAGS, true);
  const first = view.getUint32(at + record.TYPE_LEN, true);
  const hops = view.getUint16(at + record.HOPS_LEN, true);
  const attributes = view.getUint32(at + record.ATTRIBUTES_LEN, true);
  const strings =
    (first & 0xff) +
    (first >>> 16) +
    two(view, at + record.ID_LEN) +
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
  if (added !== undefined) {
    const count = ((first >> 8) & 0xff) + 1;
    if (count > DEFAULT_LIMITS.hops || hops + more > 0xffff) return undefined;
    const end = at + RECORD_HEADER + strings - attributes;
    staged.copyWithin(end + more, end, start + len);
    view.setUint8(end, added.length);
    for (let i = 0; i < added.length; i++) staged[end + 1 + i] = added[i]!;
    view.setUint8(at + record.HOP_COUNT, count);
    view.setUint16(at + record.HOPS_LEN, hops + more, true);
    view.setUint32(start + frame.LEN, len + more, true);
    view.setUint32(at + record.LEN, left + more, true);
  }
  return unstage(len + more);
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

/** The most frequent change moves nothing. */
function withPriority(
  bytes: Uint8Array,
  count: number,
  priority: number | undefined,
  limits: Limits,
): Uint8Array {
  if (priority !== undefined) checkPriority(priority);
  const out = reserve(bytes.length);
  out.set(bytes);
  let at = FRAME_HEADER;
  for (let i = 0; i < count; i++) {
    const end = recordEnd(bytes, at, bytes.length, limits);
    checkNumbers(bytes, at, end);
    if (priority !== undefined) out[at + record.PRIORITY] = priority;
    at = end;
  }
  trailing(bytes, at);
  return out;
}

/** One event whose strings before the hops stay where they are: copied whole, then moved apart. */
function withHop(out: Uint8Array, bytes: Uint8Array, plan: Plan): Uint8Array {
  const at = FRAME_HEADER;
  out.set(bytes);
  if (plan.hop !== undefined) {
    const hops = payloadStart(bytes, at) - u32(bytes, at + record.ATTRIBUTES_LEN);
    putHop(out, at, hops, bytes.length, plan.hop);
    set32(out, frame.LEN, out.length);
    set32(out, at + record.LEN, out.length - at);
  }
  if (plan.priority >= 0) out[at + record.PRIORITY] = plan.priority;
  if (plan.deadline !== undefined) {
    set32(out, at + record.DEADLINE, plan.deadline[0]);
    set32(out, at + record.DEADLINE + 4, plan.deadline[1]);
  }
  return out;
}

/** A hop at the end of those that end at `hops`; what follows to `end` makes room. */
function putHop(out: Uint8Array, at: number, hops: number, end: number, hop: Uint8Array): void {
  const length = 1 + hop.length;
  out.copyWithin(hops + length, hops, end);
  out[hops] = hop.length;
  for (let i = 0; i < hop.length; i++) out[hops + 1 + i] = hop[i]!;
  out[at + record.HOP_COUNT]!++;
  set16(out, at + record.HOPS_LEN, u16(out, at + record.HOPS_LEN) + length);
}

function checkPriority(priority: number): void {
  if (!(priority >= 0 && priority <= 9) || (priority | 0) !== priority) {
    throw new EncodeError('field', `priority is an integer from 0 to 9, not ${String(priority)}`);
  }
}

function planOf({ priority, deadline, target, hop, hops }: Changes, limits: Limits): Plan {
  const plan: Plan = {
    priority: priority ?? -1,
    deadline: undefined,
    target: undefined,
    hop: undefined,
    path: undefined,
  };
  if (priority !== undefined) checkPriority(priority);
  if (deadline !== undefined) plan.deadline = deadline === null ? [0, 0] : halves(deadline);
  if (target === null) plan.target = { name: new Uint8Array(0), bits: 0 };
  else if (target !== undefined) {
    const swarm = String(target).startsWith('swarm:');
    if (!swarm && !String(target).startsWith('agent:')) throw targetFault(target);
    const name = limited(target.slice(6), 'target', limits.stringLen);
    plan.target = { name, bits: swarm ? flag.TARGET | flag.TARGET_SWARM : flag.TARGET };
  }
  if (hops !== undefined) plan.path = pathOf(hop === undefined ? hops : [...hops, hop], limits);
  else if (hop !== undefined) plan.hop = hopBytes(hop);
  return plan;
}

function pathOf(hops: readonly string[], limits: Limits): Plan['path'] {
  if (!Array.isArray(hops)) throw new EncodeError('field', 'hops is a list; `hop` adds one');
  if (hops.length > limits.hops) throw tooManyHops(hops.length, limits);
  const names = hops.map((hop) => limited(hop, 'hop', MAX_HOP_LEN));
  const bytes = new Uint8Array(names.reduce((sum, { length }) => sum + 1 + length, 0));
  let at = 0;
  for (const name of names) {
    bytes[at] = name.length;
    bytes.set(name, at + 1);
    at += 1 + name.length;
  }
  return { count: names.length, bytes };
}

function tooManyHops(count: number, limits: Limits): EncodeError {
  const text = `the event has ${count} hops, the limit is ${limits.hops}`;
  return new EncodeError('too_many_hops', text);
}

/** A forwarder adds itself, each time. */
function hopBytes(hop: string): Uint8Array {
  if (lastHop?.text !== hop) lastHop = { text: hop, bytes: limited(hop, 'hop', MAX_HOP_LEN) };
  return lastHop.bytes;
}

let lastHop: { readonly text: string; readonly bytes: Uint8Array } | undefined;

function limited(text: string, field: string, limit: number): Uint8Array {
  if (typeof text !== 'string') throw new EncodeError('field', `${field} is a string`);
  const bytes = encoder.encode(text);
  if (bytes.length > limit) {
    throw new EncodeError(
      'field_too_long',
      `${field} has ${bytes.length} bytes, the limit is ${limit}`,
    );
  }
  return bytes;
}

function halves(time: Micros): [number, number] {
  const fits =
    typeof time === 'bigint'
      ? time > 0n && time < 1n << 64n
      : Number.isSafeInteger(time) && time > 0;
  const whole = fits ? BigInt(time) : 0n;
  const [low, high] = [Number(whole & 0xffff_ffffn), Number(whole >> 32n)];
  if (!fits || isTooLate(low, high)) {
    throw new EncodeError(
      'field',
      `deadline is microseconds since 1970, until the year 9999, not ${String(time)}`,
    );
  }
  return [low, high];
}

function changedLength(b: Uint8Array, at: number, end: number, plan: Plan, limits: Limits): number {
  let len = end - at;
  if (plan.path !== undefined) len += plan.path.bytes.length - u16(b, at + record.HOPS_LEN);
  if (plan.target !== undefined) len += plan.target.name.length - u16(b, at + record.TARGET_LEN);
  if (plan.hop !== undefined) {
    len += 1 + plan.hop.length;
    const count = b[at + record.HOP_COUNT]! + 1;
    // The length may lie: nobody has looked inside the hops.
    if (count > limits.hops || u16(b, at + record.HOPS_LEN) + 1 + plan.hop.length > 0xffff) {
      throw tooManyHops(count, limits);
    }
  }
  if (len > limits.recordLen) {
    throw new EncodeError(
      'record_too_long',
      `the event takes ${len} bytes, the limit is ${limits.recordLen}`,
    );
  }
  return len;
}

/** Writes the record at `at` to `to`; returns its end there. */
function copyChanged(
  out: Uint8Array,
  to: number,
  b: Uint8Array,
  at: number,
  end: number,
  plan: Plan,
): number {
  const target =
    at +
    RECORD_HEADER +
    b[at + record.TYPE_LEN]! +
    u16(b, at + record.SOURCE_LEN) +
    u16(b, at + record.ID_LEN);
  const behindTarget = target + u16(b, at + record.TARGET_LEN);
  const hops =
    behindTarget +
    u16(b, at + record.SESSION_LEN) +
    u16(b, at + record.CORRELATION_LEN) +
    u16(b, at + record.CAUSATION_LEN) +
    u16(b, at + record.TRACEPARENT_LEN);
  const behindHops = hops + u16(b, at + record.HOPS_LEN);
  const kept = plan.path === undefined ? behindHops : hops;

  let q = to;
  const piece = (from: number, until: number): void => {
    out.set(b.subarray(from, until), q);
    q += until - from;
  };
  if (plan.target !== undefined) {
    piece(at, target);
    out.set(plan.target.name, q);
    q += plan.target.name.length;
    piece(behindTarget, kept);
    const flags =
      (u16(b, at + record.FLAGS) & ~(flag.TARGET | flag.TARGET_SWARM)) | plan.target.bits;
    set16(out, to + record.FLAGS, flags);
    set16(out, to + record.TARGET_LEN, plan.target.name.length);
  } else {
    piece(at, kept);
  }
  if (plan.path !== undefined) {
    const { count, bytes } = plan.path;
    out.set(bytes, q);
    q += bytes.length;
    out[to + record.HOP_COUNT] = count;
    set16(out, to + record.HOPS_LEN, bytes.length);
  }
  if (plan.hop !== undefined) {
    out[q] = plan.hop.length;
    out.set(plan.hop, q + 1);
    q += 1 + plan.hop.length;
    out[to + record.HOP_COUNT] = b[at + record.HOP_COUNT]! + 1;
    set16(out, to + record.HOPS_LEN, u16(b, at + record.HOPS_LEN) + 1 + plan.hop.length);
  }
  piece(behindHops, end);
  if (plan.priority >= 0) out[to + record.PRIORITY] = plan.priority;
  if (plan.deadline !== undefined) {
    set32(out, to + record.DEADLINE, plan.deadline[0]);
    set32(out, to + record.DEADLINE + 4, plan.deadline[1]);
  }
  set32(out, to + record.LEN, q - to);
  return q;
}

function set16(b: Uint8Array, at: number, value: number): void {
  b[at] = value;
  b[at + 1] = value >> 8;
}

function set32(b: Uint8Array, at: number, value: number): void {
  set16(b, at, value);
  set16(b, at + 2, value >>> 16);
}
