/**
 * The quick way to an event: the tokeniser reads header and payload in one call.
 * It takes what nearly all events are, and leaves everything odd to `decode.ts`.
 */

import { Event, type Micros, type Target } from '../event.js';
import { engineFor, type Engine } from './engine.js';
import { FRAME_HEADER, MAGIC, RECORD_HEADER, VERSION, flag, frame, record } from './layout.js';
import { DEFAULT_LIMITS } from './limits.js';
import { counts } from './metrics.js';
import { CONTENTS, Payload } from './payload.js';
import { rewind, take } from './tape.js';
import { readAscii, readUtf8 } from './text.js';
import { typeOf } from './types.js';
import { EventView, micros, payloadStart } from './view.js';

/** Where the ends of the header's strings are, in halves of slots. */
const SOURCE = 2;
const ID = 3;
const TARGET = 4;
const SESSION = 5;
const CORRELATION = 6;
const CAUSATION = 7;
const TRACEPARENT = 8;

/** Bytes of a record that are loaded to read its header alone: no plain one has more. */
const HEAD = 4096;

/** A tokeniser that holds these bytes; none if they are too many, or there is none. */
export function load(bytes: Uint8Array): Engine | undefined {
  const engine = engineFor(bytes.length);
  if (engine !== undefined) engine.input.set(bytes);
  return engine;
}

/** The event of a frame that holds one; undefined as for {@link quickEvent}, or if it is no such frame. */
export function quickFrame(bytes: Uint8Array, body: Body): Event | undefined {
  // From JavaScript, anything may come.
  const len = bytes?.length ?? 0;
  const engine = len < FRAME_HEADER + RECORD_HEADER ? undefined : load(bytes);
  if (engine === undefined) return undefined;
  const { view } = engine;
  if (
    view.getInt32(0, true) !== MAGIC ||
    view.getInt32(frame.VERSION, true) !== VERSION ||
    view.getInt32(frame.COUNT, true) !== 1 ||
    view.getInt32(frame.LEN, true) !== len ||
    view.getInt32(FRAME_HEADER + record.LEN, true) !== len - FRAME_HEADER
  ) {
    return undefined;
  }
  return quickEvent(engine, bytes, FRAME_HEADER, len, body);
}

/** The event of a record, its payload left as bytes; undefined as for {@link quickEvent}. */
export function quickHeader(bytes: Uint8Array, at: number, end: number): Event | undefined {
  const start = payloadStart(bytes, at);
  const length = start - at;
  if (length > HEAD || start > end) return undefined;
  const engine = engineFor(length);
  if (engine === undefined) return undefined;
  engine.input.set(bytes.subarray(at, start));
  if (engine.raw.header(0, length) !== 0) return undefined;
  engine.refresh();
  const S = readAscii(engine.text, 0, engine.I[TRACEPARENT]!);
  const content = CONTENTS[bytes[at + record.CONTENT]!]!;
  const empty = content === 'binary' && start === end;
  const payload = empty ? undefined : Payload.raw(content, bytes.subarray(start, end));
  counts.decodedLazy++;
  return restore(engine, 0, S, bytes, at, end, payload);
}

/** For a payload that the tokeniser has read. */
const TAPE = 1;

/** How a payload is read that the tokeniser did not read. */
type Body = (view: EventView, lazy: boolean) => unknown;

/**
 * The event of the record between two places of the bytes that were loaded;
 * undefined when it is not plain, or breaks a rule.
 *
 * @throws DecodeError for hops and attributes, and whatever `body` throws.
 */
export function quickEvent(
  engine: Engine,
  bytes: Uint8Array,
  at: number,
  end: number,
  body: Body,
): Event | undefined {
  const verdict = engine.raw.event(at, end);
  if (verdict === 1) return undefined;
  engine.refresh();
  if (verdict === 0 && engine.view.getUint8(at + record.CONTENT) === 1) {
    return restore(engine, at, rewind(engine), bytes, at, end, TAPE);
  }
  const S = readAscii(engine.text, 0, engine.I[TRACEPARENT]!);
  return restore(engine, at, S, bytes, at, end, body);
}

/**
 * From what the tokeniser found to an event. `from` is where the record is in its input;
 * the payload is on the tape, or `other`, or what that makes of it.
 */
function restore(
  engine: Engine,
  from: number,
  S: string,
  bytes: Uint8Array,
  at: number,
  end: number,
  other: Payload | Body | typeof TAPE | undefined,
): Event | undefined {
  const { I, view } = engine;
  const number = I[1]!;
  let type = number === 0 ? undefined : engine.types[number];
  if (type === undefined) {
    const hashLow = view.getInt32(from + record.TYPE_HASH, true);
    const hashHigh = view.getInt32(from + record.TYPE_HASH + 4, true);
    const name = from + RECORD_HEADER;
    const text = readUtf8(engine.input, name, name + view.getUint8(from + record.TYPE_LEN));
    type = text === undefined ? undefined : typeOf(text, hashLow, hashHigh);
    if (type === undefined) return undefined;
    // The tokeniser gives this number to these bytes with this hash.
    if (number !== 0) engine.types[number] = type;
  }

  // Flags, and the priority behind them; the lengths of hops and attributes likewise.
  const flags = view.getInt32(from + record.FLAGS, true);
  const lists = view.getInt32(from + record.HOPS_LEN, true);
  let hops: string[] | undefined;
  let attributes: Record<string, string> | undefined;
  if (view.getUint8(from + record.HOP_COUNT) !== 0 || (lists & 0xffff) !== 0) {
    ({ hops } = new EventView(bytes, at, end, DEFAULT_LIMITS));
  }
  if (lists >>> 16 !== 0 || view.getInt32(from + record.ATTRIBUTES_LEN, true) !== 0) {
    ({ attributes } = new EventView(bytes, at, end, DEFAULT_LIMITS));
  }
  const low = view.getUint32(from + record.NONCE, true);
  const high = view.getUint32(from + record.NONCE + 4, true);
  const init = {
    type: type.text,
    source: S.substring(0, I[SOURCE]),
    id: flags & flag.ID ? S.substring(I[SOURCE]!, I[ID]) : undefined,
    target: (flags & flag.TARGET ? S.substring(I[ID]!, I[TARGET]) : undefined) as
      Target | undefined,
    session: flags & flag.SESSION ? S.substring(I[TARGET]!, I[SESSION]) : undefined,
    correlationId: flags & flag.CORRELATION ? S.substring(I[SESSION]!, I[CORRELATION]) : undefined,
    causationId: flags & flag.CAUSATION ? S.substring(I[CORRELATION]!, I[CAUSATION]) : undefined,
    traceparent: flags & flag.TRACEPARENT ? S.substring(I[CAUSATION]!, I[TRACEPARENT]) : undefined,
    hops,
    attributes,
    priority: (flags >> 16) & 0xff,
    timestamp: timeAt(view, from + record.TIMESTAMP),
    deadline: timeAt(view, from + record.DEADLINE),
    payload: undefined as unknown,
  };
  // Last: reading it in another way takes the tokeniser's memory for itself.
  if (other === TAPE) {
    engine.s = I[TRACEPARENT]!;
    init.payload = take(engine, S);
    counts.decodedWasm++;
  } else if (typeof other === 'function') {
    init.payload = other(new EventView(bytes, at, end, DEFAULT_LIMITS), false);
  } else {
    init.payload = other;
  }
  return Event.restored(init, low, high);
}

function timeAt(view: DataView, at: number): Micros | undefined {
  return micros(view.getUint32(at, true), view.getUint32(at + 4, true));
}
