/**
 * Forwarding: another priority, deadline, target or hop path, the payload as it came.
 */

import type { Target } from '../event.js';
import { checkPriority, halves, type Changes } from './changes.js';
import { targetFault } from './encode.js';
import { EncodeError } from './error.js';
import { passOn } from './forward-one.js';
import { recordEnd, trailing, whole } from './frame.js';
import { FRAME_HEADER, RECORD_HEADER, flag, frame, record } from './layout.js';
import { DEFAULT_LIMITS, MAX_HOP_LEN, limitsOf, type Limits } from './limits.js';
import { reserve } from './memory.js';
import { checkNumbers, payloadStart, u16, u32 } from './view.js';

/** Changes as bytes. */
interface Plan {
  readonly priority: number | undefined;
  readonly deadline: readonly [low: number, high: number] | undefined;
  readonly target: { readonly name: Uint8Array; readonly bits: number } | undefined;
  /** What is written of the hop path, behind what is there or in its place. */
  readonly path:
    { readonly hops: Uint8Array; readonly count: number; readonly behind: boolean } | undefined;
}

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
  if (limits === DEFAULT_LIMITS) {
    const passed = passOn(bytes, changes);
    if (passed !== undefined) return passed;
  }
  const plan = planOf(changes, limits);
  const count = whole(bytes, limits);
  let len = FRAME_HEADER;
  let at = FRAME_HEADER;
  for (let i = 0; i < count; i++) {
    const end = recordEnd(bytes, at, bytes.length, limits);
    checkNumbers(bytes, at, end);
    len += changedLength(bytes, at, end, plan, limits);
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
  const same = plan.target === undefined && plan.path === undefined;
  if (same) out.set(bytes);
  else copyChanged(out, bytes, count, plan);
  at = FRAME_HEADER;
  for (let i = 0; i < count; i++) {
    if (plan.priority !== undefined) out[at + record.PRIORITY] = plan.priority;
    if (plan.deadline !== undefined) {
      set32(out, at + record.DEADLINE, plan.deadline[0]);
      set32(out, at + record.DEADLINE + 4, plan.deadline[1]);
    }
    at += u32(out, at + record.LEN);
  }
  return out;
}

function planOf({ priority, deadline, target, hop, hops }: Changes, limits: Limits): Plan {
  if (priority !== undefined) checkPriority(priority);
  return {
    priority,
    deadline: deadline === undefined ? undefined : deadline === null ? [0, 0] : halves(deadline),
    target: target === undefined ? undefined : targetOf(target, limits),
    path: pathOf(hop, hops, limits),
  };
}

/** Bytes made of a text, kept for the next time: a forwarder adds itself each time. */
class Memo<T> {
  private text: string | undefined;
  private made!: T;

  constructor(private readonly make: (text: string) => T) {}

  of(text: string): T {
    if (text !== this.text) {
      this.made = this.make(text);
      this.text = text;
    }
    return this.made;
  }
}

const encoder = new TextEncoder();
const NOBODY = { name: new Uint8Array(0), bits: 0 };
const targets = new Memo((target) => {
  if (typeof target !== 'string') throw targetFault(target);
  const swarm = target.startsWith('swarm:');
  if (!swarm && !target.startsWith('agent:')) throw targetFault(target);
  const bits = swarm ? flag.TARGET | flag.TARGET_SWARM : flag.TARGET;
  return { name: encoder.encode(target.slice(6)), bits };
});
const hopsBehind = new Memo((hop) => ({ hops: hopBytes([hop]), count: 1, behind: true }));

function targetOf(target: Target | null, limits: Limits): Plan['target'] {
  const bytes = target === null ? NOBODY : targets.of(target);
  limited(bytes.name, 'target', limits.stringLen);
  return bytes;
}

function pathOf(
  hop: string | undefined,
  hops: readonly string[] | undefined,
  limits: Limits,
): Plan['path'] {
  if (hops === undefined) return hop === undefined ? undefined : hopsBehind.of(hop);
  if (!Array.isArray(hops)) throw new EncodeError('field', 'hops is a list; `hop` adds one');
  const all = hop === undefined ? hops : [...hops, hop];
  if (all.length > limits.hops) throw tooManyHops(all.length, limits);
  return { hops: hopBytes(all), count: all.length, behind: false };
}

function tooManyHops(count: number, limits: Limits): EncodeError {
  const text = `the event has ${count} hops, the limit is ${limits.hops}`;
  return new EncodeError('too_many_hops', text);
}

function hopBytes(hops: readonly string[]): Uint8Array {
  const names = hops.map((hop) => {
    if (typeof hop !== 'string') throw new EncodeError('field', 'hop is a string');
    return limited(encoder.encode(hop), 'hop', MAX_HOP_LEN);
  });
  const bytes = new Uint8Array(names.reduce((len, name) => len + 1 + name.length, 0));
  let at = 0;
  for (const name of names) {
    bytes[at] = name.length;
    bytes.set(name, at + 1);
    at += 1 + name.length;
  }
  return bytes;
}

function limited(bytes: Uint8Array, field: string, limit: number): Uint8Array {
  if (bytes.length > limit) {
    throw new EncodeError(
      'field_too_long',
      `${field} has ${bytes.length} bytes, the limit is ${limit}`,
    );
  }
  return bytes;
}

function changedLength(b: Uint8Array, at: number, end: number, plan: Plan, limits: Limits): number {
  const { target, path } = plan;
  let len = end - at;
  if (target !== undefined) len += target.name.length - u16(b, at + record.TARGET_LEN);
  if (path !== undefined) {
    const kept = path.behind ? u16(b, at + record.HOPS_LEN) : 0;
    const count = path.count + (path.behind ? b[at + record.HOP_COUNT]! : 0);
    // The length may lie: nobody has looked inside the hops.
    if (count > limits.hops || kept + path.hops.length > 0xffff) {
      throw tooManyHops(count, limits);
    }
    len += kept + path.hops.length - u16(b, at + record.HOPS_LEN);
  }
  if (len > limits.recordLen) {
    throw new EncodeError(
      'record_too_long',
      `the event takes ${len} bytes, the limit is ${limits.recordLen}`,
    );
  }
  return len;
}

/**
 * Copies all events with another target or hop path. What lies between two changes is copied at
 * once, from one event into the next, too.
 */
function copyChanged(out: Uint8Array, b: Uint8Array, count: number, plan: Plan): void {
  const { target, path } = plan;
  let from = 0;
  let to = 0;
  const copyUntil = (end: number): void => {
    out.set(new Uint8Array(b.buffer, b.byteOffset + from, end - from), to);
    to += end - from;
    from = end;
  };
  const put = (piece: Uint8Array): void => {
    out.set(piece, to);
    to += piece.length;
  };
  let at = FRAME_HEADER;
  for (let i = 0; i < count; i++) {
    const header = to + at - from;
    const grownFrom = to - from;
    const end = at + u32(b, at + record.LEN);
    const hopsLen = u16(b, at + record.HOPS_LEN);
    if (target !== undefined) {
      const start =
        at +
        RECORD_HEADER +
        b[at + record.TYPE_LEN]! +
        u16(b, at + record.SOURCE_LEN) +
        u16(b, at + record.ID_LEN);
      copyUntil(start);
      put(target.name);
      from += u16(b, at + record.TARGET_LEN);
      const flags = u16(b, at + record.FLAGS) & ~(flag.TARGET | flag.TARGET_SWARM);
      set16(out, header + record.FLAGS, flags | target.bits);
      set16(out, header + record.TARGET_LEN, target.name.length);
    }
    if (path !== undefined) {
      const hopsEnd = payloadStart(b, at) - u32(b, at + record.ATTRIBUTES_LEN);
      copyUntil(path.behind ? hopsEnd : hopsEnd - hopsLen);
      put(path.hops);
      from = hopsEnd;
      out[header + record.HOP_COUNT] = path.count + (path.behind ? b[at + record.HOP_COUNT]! : 0);
      set16(out, header + record.HOPS_LEN, path.hops.length + (path.behind ? hopsLen : 0));
    }
    set32(out, header + record.LEN, end - at + (to - from) - grownFrom);
    at = end;
  }
  copyUntil(b.length);
  set32(out, frame.LEN, out.length);
}

function set16(b: Uint8Array, at: number, value: number): void {
  b[at] = value;
  b[at + 1] = value >> 8;
}

function set32(b: Uint8Array, at: number, value: number): void {
  set16(b, at, value);
  set16(b, at + 2, value >>> 16);
}
