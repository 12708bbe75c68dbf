/**
 * Events to frames: ADR 0002. What cannot be written is refused with a typed
 * error, and the codec goes on.
 */

import { DEFAULT_PRIORITY, Event, payloadOf, type EventInit } from '../event.js';
import { attributeFault } from './attributes.js';
import { EncodeError } from './error.js';
import { put, putId, putName, putTime, sources, targets, wasUuid } from './fields.js';
import { FRAME_HEADER, MAGIC, RECORD_HEADER, VERSION, flag, frame, record } from './layout.js';
import { DEFAULT_LIMITS, MAX_HOP_LEN, limitsOf, type Limits } from './limits.js';
import { GROW, GUARD, write } from './memory.js';
import { counts } from './metrics.js';
import { CONTENTS, Payload } from './payload.js';
import { jsonKeeps, picker, shapeOf, type Format } from './pick.js';
import { writeUtf8 } from './text.js';
import { typeEntry, typeFault, type TypeEntry } from './types.js';
import { begin, encodeError, refersToItself, writeAny } from './write.js';

/** How an event is to be written. */
export interface EncodeOptions {
  /** Default: {@link DEFAULT_LIMITS}. */
  readonly limits?: Partial<Limits> | undefined;
  /**
   * How values travel that are no text, bytes or {@link Payload}: as MessagePack, as
   * JSON by the rules of `JSON.stringify`, or as {@link pick} says. `auto` takes JSON
   * only for what JSON keeps as MessagePack does. Default: `msgpack`.
   */
  readonly format?: Format | 'auto' | undefined;
}

/** Whatever has the fields of an event. */
export type Encodable = Event | EventInit;

/** What is being written: one event, or several. */
export interface Job {
  event: Encodable | undefined;
  events: readonly Encodable[];
  limits: Limits;
  format: Format | 'auto';
  /** Payloads written so far: MessagePack, JSON, and all. */
  msgpack: number;
  json: number;
  all: number;
  /** The payload at hand, for an error that wants to know more of it. */
  payload: unknown;
}

/**
 * A frame of one event.
 *
 * @throws EncodeError when the event is beyond a limit, or cannot be written.
 */
export function encode(event: Encodable, options?: EncodeOptions): Uint8Array {
  const limits = limitsOf(options?.limits);
  return run({
    event,
    events: NONE,
    limits,
    format: options?.format ?? 'msgpack',
    msgpack: 0,
    json: 0,
    all: 0,
    payload: undefined,
  });
}

/**
 * A frame of these events in their order.
 *
 * @throws EncodeError when there are none, or one of them or all together are
 * beyond a limit: then none is written.
 */
export function encodeBatch(events: readonly Encodable[], options?: EncodeOptions): Uint8Array {
  const limits = limitsOf(options?.limits);
  const count = events.length;
  if (count === 0) throw new EncodeError('empty_frame', 'a frame holds at least one event');
  if (count > limits.events) {
    throw new EncodeError('too_many_events', `a frame holds at most ${limits.events} events`);
  }
  return run({
    event: undefined,
    events,
    limits,
    format: options?.format ?? 'msgpack',
    msgpack: 0,
    json: 0,
    all: 0,
    payload: undefined,
  });
}

export const NONE: readonly Encodable[] = [];

function run(job: Job): Uint8Array {
  try {
    const { frameLen, recordLen } = job.limits;
    // An event that shares parts with itself may be of any length: the lower limit ends it sooner.
    const isLone = job.events === NONE && recordLen + FRAME_HEADER < frameLen;
    const bytes = isLone
      ? write(writeFrame, job, recordLen + FRAME_HEADER, recordTooLong)
      : write(writeFrame, job, frameLen, frameTooLong);
    counts.encodedMsgpack += job.msgpack;
    counts.encodedJson += job.json;
    counts.encodedOther += job.all - job.msgpack - job.json;
    return bytes;
  } catch (error) {
    throw encodeError(error, job.payload, job.limits.depth);
  }
}

function frameTooLong(limit: number): never {
  throw tooLong('frame_too_long', 'frame', limit);
}

function recordTooLong(limit: number): never {
  throw tooLong('record_too_long', 'event', limit - FRAME_HEADER);
}

export function tooLong(
  code: 'frame_too_long' | 'record_too_long',
  what: string,
  limit: number,
): EncodeError {
  return new EncodeError(code, `the ${what} takes more than ${limit} bytes`);
}

function writeFrame(b: Uint8Array, dv: DataView, p: number, job: Job): number {
  if (p > b.length - GUARD) throw GROW;
  dv.setUint32(p, MAGIC, true);
  dv.setUint32(p + frame.VERSION, VERSION, true);
  let q = p + FRAME_HEADER;
  // Anew for each try.
  job.msgpack = job.json = job.all = 0;
  if (job.events === NONE) {
    q = writeRecord(b, dv, q, job.event as Encodable, job);
    dv.setUint32(p + frame.COUNT, 1, true);
  } else {
    for (const event of job.events) q = writeRecord(b, dv, q, event, job);
    dv.setUint32(p + frame.COUNT, job.events.length, true);
  }
  const len = q - p;
  if (len > job.limits.frameLen) frameTooLong(job.limits.frameLen);
  dv.setUint32(p + frame.LEN, len, true);
  return q;
}

/** One event; returns its end. */
export function writeRecord(
  b: Uint8Array,
  dv: DataView,
  p: number,
  event: Encodable,
  job: Job,
): number {
  if (p > b.length - GUARD) throw GROW;
  const { limits } = job;
  const known = Event.is(event) ? event : undefined;
  // From JavaScript, anything may come.
  const type = typeEntry((event as Encodable | undefined)?.type as string);
  if (type === undefined) throw new EncodeError('type', typeFault(event?.type)!);
  const priority = event.priority ?? DEFAULT_PRIORITY;
  if (!(priority >= 0 && priority <= 9) || (priority | 0) !== priority) {
    throw new EncodeError('field', `priority is an integer from 0 to 9, not ${String(priority)}`);
  }

  const { words } = type;
  let q = p + RECORD_HEADER;
  for (let i = 0; i < words.length; i++, q += 4) dv.setInt32(q, words[i]!, true);
  q = p + RECORD_HEADER + type.bytes.length;

  let flags = 0;
  let at = q;
  if (event.source !== undefined) {
    q = putName(sources, b, dv, q, event.source, 0, 'source', limits.stringLen);
  }
  dv.setUint32(p + record.TYPE_LEN, type.bytes.length | ((q - at) << 16), true);

  const ownId = known === undefined ? event.id : known.ownId;
  at = q;
  if (ownId !== undefined) {
    q = putId(b, dv, q, ownId, 'id', limits.stringLen);
    flags |= wasUuid ? flag.ID | flag.ID_UUID : flag.ID;
  }
  let lengths = q - at;
  at = q;
  const target = event.target;
  if (target !== undefined) {
    if (typeof target !== 'string') throw targetFault(target);
    const swarm = target.charCodeAt(0) === 115;
    if (!target.startsWith(swarm ? 'swarm:' : 'agent:')) throw targetFault(target);
    flags |= swarm ? flag.TARGET | flag.TARGET_SWARM : flag.TARGET;
    q = putName(targets, b, dv, q, target, 6, 'target', limits.stringLen);
  }
  dv.setUint32(p + record.ID_LEN, lengths | ((q - at) << 16), true);

  at = q;
  if (event.session !== undefined) {
    q = put(b, q, event.session, 'session', limits.stringLen);
    flags |= flag.SESSION;
  }
  lengths = q - at;
  at = q;
  if (event.correlationId !== undefined) {
    q = putId(b, dv, q, event.correlationId, 'correlationId', limits.stringLen);
    flags |= wasUuid ? flag.CORRELATION | flag.CORRELATION_UUID : flag.CORRELATION;
  }
  dv.setUint32(p + record.SESSION_LEN, lengths | ((q - at) << 16), true);

  at = q;
  if (event.causationId !== undefined) {
    q = putId(b, dv, q, event.causationId, 'causationId', limits.stringLen);
    flags |= wasUuid ? flag.CAUSATION | flag.CAUSATION_UUID : flag.CAUSATION;
  }
  lengths = q - at;
  at = q;
  if (event.traceparent !== undefined) {
    q = put(b, q, event.traceparent, 'traceparent', limits.stringLen);
    flags |= flag.TRACEPARENT;
  }
  dv.setUint32(p + record.CAUSATION_LEN, lengths | ((q - at) << 16), true);

  q = writeHops(b, dv, p, q, event.hops, limits);
  q = writeAttributes(b, dv, p, q, event.attributes, limits);

  dv.setInt32(p + record.TYPE_HASH, type.hashLow, true);
  dv.setInt32(p + record.TYPE_HASH + 4, type.hashHigh, true);
  putTime(dv, p + record.TIMESTAMP, event.timestamp, 'timestamp');
  putNonce(dv, p + record.NONCE, event, known);
  putTime(dv, p + record.DEADLINE, event.deadline, 'deadline');

  const payload = known === undefined ? payloadOf(event as EventInit) : known.rawPayload;
  let content = MSGPACK;
  if (typeof payload === 'object' && payload !== null && !Payload.is(payload)) {
    if (ArrayBuffer.isView(payload)) {
      content = BINARY;
      const { buffer, byteOffset, byteLength } = payload;
      q = putBytes(b, q, new Uint8Array(buffer, byteOffset, byteLength));
    } else if (payload instanceof ArrayBuffer) {
      content = BINARY;
      q = putBytes(b, q, new Uint8Array(payload));
    } else if (job.format === 'msgpack') {
      q = putValue(b, dv, q, payload, type, job);
    } else {
      [content, q] = putAs(b, dv, q, payload, type, job);
    }
  } else if (typeof payload === 'string') {
    content = TEXT;
    q = putText(b, q, payload);
  } else if (payload === undefined) {
    content = BINARY;
  } else if (payload instanceof Payload) {
    content = CONTENTS.indexOf(payload.content);
    q = putBytes(b, q, payload.bytes);
  } else {
    q = putValue(b, dv, q, payload, type, job);
  }
  job.all++;
  if (content === MSGPACK) job.msgpack++;
  else if (content === JSON_TEXT) job.json++;
  const len = q - p;
  if (len > limits.recordLen) throw tooLong('record_too_long', 'event', limits.recordLen);
  dv.setUint32(p + record.LEN, len, true);
  dv.setUint32(p + record.FLAGS, flags | (priority << 16) | (content << 24), true);
  return q;
}

/** What is no target: most often a name alone. */
export function targetFault(target: unknown): EncodeError {
  return new EncodeError(
    'field',
    `target is \`agent:NAME\` or \`swarm:NAME\`, not ${String(target)}`,
  );
}

const BINARY = 0;
const MSGPACK = 1;
const JSON_TEXT = 2;
const TEXT = 3;

function putText(b: Uint8Array, at: number, text: string): number {
  if (at + 3 * text.length > b.length - GUARD) throw GROW;
  return at + writeUtf8(b, at, text);
}

function putValue(
  b: Uint8Array,
  dv: DataView,
  at: number,
  value: unknown,
  type: TypeEntry,
  job: Job,
): number {
  if (at > b.length - GUARD) throw GROW;
  job.payload = value;
  begin(job.limits.depth);
  return writeAny(b, dv, at, value, type.site);
}

function putJson(b: Uint8Array, at: number, value: unknown): number {
  let text: string | undefined;
  try {
    text = JSON.stringify(value) as string | undefined;
  } catch (error) {
    if (!(error instanceof TypeError && refersToItself(value, 1_000))) throw error;
    throw new EncodeError('cyclic', 'the payload refers to itself', { cause: error });
  }
  if (text === undefined) throw new EncodeError('unsupported', 'this value has no JSON form');
  return putText(b, at, text);
}

/** A value as JSON, or as it is quickest. */
function putAs(
  b: Uint8Array,
  dv: DataView,
  at: number,
  value: object,
  type: TypeEntry,
  job: Job,
): [content: number, end: number] {
  if (job.format === 'json') return [JSON_TEXT, putJson(b, at, value)];
  const shape = shapeOf(value);
  // Payloads of one type have about one size.
  const size = type.size;
  let format: Format = picker.pick(size, shape);
  if (picker.isDue(size, shape) && jsonKeeps(value)) {
    const started = performance.now();
    if (jsonKeeps(value)) putJson(b, at, value);
    const between = performance.now();
    const end = putValue(b, dv, at, value, type, job);
    const ended = performance.now();
    picker.observe('json', end - at, shape, (between - started) * 1e6);
    picker.observe('msgpack', end - at, shape, (ended - between) * 1e6);
    format = 'msgpack';
  }
  const json = format === 'json' && jsonKeeps(value);
  const end = json ? putJson(b, at, value) : putValue(b, dv, at, value, type, job);
  type.size = end - at;
  return [json ? JSON_TEXT : MSGPACK, end];
}

function putBytes(b: Uint8Array, at: number, bytes: Uint8Array): number {
  if (at + bytes.length > b.length - GUARD) throw GROW;
  b.set(bytes, at);
  return at + bytes.length;
}

function putNonce(dv: DataView, at: number, event: Encodable, known: Event | undefined): void {
  let low = 0;
  let high = 0;
  if (known !== undefined) {
    low = known.nonceLow32;
    high = known.nonceHigh32;
  } else if (event.nonce !== undefined) {
    if (typeof event.nonce !== 'bigint' || BigInt.asUintN(64, event.nonce) !== event.nonce) {
      throw new EncodeError('field', 'nonce is a bigint of 64 bits');
    }
    low = Number(event.nonce & 0xffff_ffffn);
    high = Number(event.nonce >> 32n);
  }
  if (event.timestamp === undefined && (low !== 0 || high !== 0)) {
    throw new EncodeError('field', 'a nonce makes an id only together with a timestamp');
  }
  dv.setUint32(at, low, true);
  dv.setUint32(at + 4, high, true);
}

function writeHops(
  b: Uint8Array,
  dv: DataView,
  p: number,
  q: number,
  hops: readonly string[] | undefined,
  limits: Limits,
): number {
  const count = hops === undefined ? 0 : hops.length;
  const start = q;
  if (count > 0) {
    if (count > limits.hops) {
      throw new EncodeError(
        'too_many_hops',
        `the event has ${count} hops, the limit is ${limits.hops}`,
      );
    }
    for (const hop of hops!) {
      const end = put(b, q + 1, hop, 'hop', MAX_HOP_LEN);
      b[q] = end - q - 1;
      q = end;
    }
  }
  b[p + record.HOP_COUNT] = count;
  dv.setUint16(p + record.HOPS_LEN, q - start, true);
  return q;
}

function writeAttributes(
  b: Uint8Array,
  dv: DataView,
  p: number,
  q: number,
  attributes: Readonly<Record<string, string>> | undefined,
  limits: Limits,
): number {
  let count = 0;
  const start = q;
  if (attributes !== undefined) {
    // By their bytes, which are ASCII.
    const names = Object.keys(attributes);
    count = names.length;
    if (count > limits.attributes) {
      throw new EncodeError(
        'too_many_attributes',
        `the event has ${count} attributes, the limit is ${limits.attributes}`,
      );
    }
    if (count > 1) names.sort();
    for (const name of names) {
      const fault = attributeFault(name);
      if (fault !== undefined) throw new EncodeError('attribute_name', fault);
      const value = put(b, q + 1, name, 'attributeName', 20);
      const end = put(b, value + 2, attributes[name]!, 'attributeValue', limits.attributeLen);
      b[q] = name.length;
      dv.setUint16(value, end - value - 2, true);
      q = end;
    }
  }
  dv.setUint16(p + record.ATTRIBUTE_COUNT, count, true);
  dv.setUint32(p + record.ATTRIBUTES_LEN, q - start, true);
  return q;
}
