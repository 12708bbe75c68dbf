/**
 * The quick way to an event: the tokeniser reads header and payload in one call.
 * It takes what nearly all events are, and leaves everything odd to `decode.ts`.
 */

import { Event, type Micros, type Target } from '../event.js';
import { engineFor, type Engine } from './engine.js';
import { flag, record } from './layout.js';
import { DEFAULT_LIMITS } from './limits.js';
import { counts } from './metrics.js';
import { rewind, take } from './tape.js';
import { readAscii } from './text.js';
import { typeOf } from './types.js';
import { EventView, micros } from './view.js';

/** Where the ends of the header's strings are, in halves of slots. */
const TYPE = 2;
const SOURCE = 3;
const ID = 4;
const TARGET = 5;
const SESSION = 6;
const CORRELATION = 7;
const CAUSATION = 8;
const TRACEPARENT = 9;

/** A tokeniser that holds these bytes; none if they are too many, or there is none. */
export function load(bytes: Uint8Array): Engine | undefined {
  const engine = engineFor(bytes.length);
  if (engine !== undefined) engine.input.set(bytes);
  return engine;
}

/**
 * The event of the record between two places of the bytes that were loaded;
 * undefined when it is not plain, or breaks a rule.
 *
 * @param body reads a payload that the tokeniser did not read.
 * @throws DecodeError for hops and attributes, and whatever `body` throws.
 */
export function quickEvent(
  engine: Engine,
  bytes: Uint8Array,
  at: number,
  end: number,
  body: (view: EventView, lazy: boolean) => unknown,
): Event | undefined {
  const verdict = engine.raw.event(at, end);
  if (verdict === 1) return undefined;
  engine.refresh();
  const { I, view } = engine;
  const cursor = verdict === 0 && bytes[at + record.CONTENT] === 1 ? rewind(engine) : undefined;
  const S = cursor === undefined ? readAscii(engine.text, 0, I[TRACEPARENT]!) : cursor.S;

  // A record of the input begins where it begins in the bytes.
  const type = typeOf(
    S.substring(0, I[TYPE]),
    view.getInt32(at + record.TYPE_HASH, true),
    view.getInt32(at + record.TYPE_HASH + 4, true),
  );
  if (type === undefined) return undefined;

  const flags = view.getUint16(at + record.FLAGS, true);
  let hops: string[] | undefined;
  let attributes: Record<string, string> | undefined;
  if (bytes[at + record.HOP_COUNT] !== 0 || view.getUint16(at + record.HOPS_LEN, true) !== 0) {
    ({ hops } = new EventView(bytes, at, end, DEFAULT_LIMITS));
  }
  if (
    view.getUint16(at + record.ATTRIBUTE_COUNT, true) !== 0 ||
    view.getUint32(at + record.ATTRIBUTES_LEN, true) !== 0
  ) {
    ({ attributes } = new EventView(bytes, at, end, DEFAULT_LIMITS));
  }
  let payload: unknown;
  if (cursor === undefined) {
    payload = body(new EventView(bytes, at, end, DEFAULT_LIMITS), false);
  } else {
    cursor.s = I[TRACEPARENT]!;
    payload = take(cursor);
    counts.decodedWasm++;
  }
  return Event.restored(
    {
      type: type.text,
      source: S.substring(I[TYPE]!, I[SOURCE]),
      id: flags & flag.ID ? S.substring(I[SOURCE]!, I[ID]) : undefined,
      target: (flags & flag.TARGET ? S.substring(I[ID]!, I[TARGET]) : undefined) as
        Target | undefined,
      session: flags & flag.SESSION ? S.substring(I[TARGET]!, I[SESSION]) : undefined,
      correlationId:
        flags & flag.CORRELATION ? S.substring(I[SESSION]!, I[CORRELATION]) : undefined,
      causationId: flags & flag.CAUSATION ? S.substring(I[CORRELATION]!, I[CAUSATION]) : undefined,
      traceparent:
        flags & flag.TRACEPARENT ? S.substring(I[CAUSATION]!, I[TRACEPARENT]) : undefined,
      hops,
      attributes,
      priority: bytes[at + record.PRIORITY]!,
      timestamp: timeAt(view, at + record.TIMESTAMP),
      deadline: timeAt(view, at + record.DEADLINE),
      payload,
    },
    view.getUint32(at + record.NONCE, true),
    view.getUint32(at + record.NONCE + 4, true),
  );
}

function timeAt(view: DataView, at: number): Micros | undefined {
  return micros(view.getUint32(at, true), view.getUint32(at + 4, true));
}
