/**
 * Frames to events: every rule of the format is checked here.
 */

import { Event } from '../event.js';
import { DecodeError, PayloadError } from './error.js';
import { recordEnd, trailing, whole } from './frame.js';
import { FRAME_HEADER } from './layout.js';
import { loads, type Engine } from './engine.js';
import { DEFAULT_LIMITS, limitsOf, type Limits } from './limits.js';
import { counts } from './metrics.js';
import { Payload } from './payload.js';
import { load, quickEvent, quickFrame, quickHeader } from './quick.js';
import { readPayload } from './read.js';
import { EventView } from './view.js';

/** How a frame is to be read. */
export interface DecodeOptions {
  /**
   * Leave the payload as bytes until somebody touches it. The event then keeps
   * the frame in memory, and a malformed payload is found on that touch.
   * Default: false.
   */
  readonly lazy?: boolean | undefined;
  /** Default: {@link DEFAULT_LIMITS}. */
  readonly limits?: Partial<Limits> | undefined;
}

/**
 * The event of a frame that holds one.
 *
 * @throws DecodeError when the bytes are no frame, the frame has another number
 * of events than 1 (code `trailing_bytes`), or the event breaks a rule.
 */
export function decode<T extends string = string, P = unknown>(
  bytes: Uint8Array,
  options?: DecodeOptions,
): Event<T, P> {
  if (options === undefined) {
    const event = quickFrame(bytes, body);
    if (event !== undefined) return event as Event<T, P>;
  }
  const limits = limitsOf(options?.limits);
  const lazy = options?.lazy === true;
  if (options !== undefined && !lazy && limits === DEFAULT_LIMITS) {
    const event = quickFrame(bytes, body);
    if (event !== undefined) return event as Event<T, P>;
  }
  const count = whole(bytes, limits);
  const end = recordEnd(bytes, FRAME_HEADER, bytes.length, limits);
  trailing(bytes, end);
  // One more is stated, and none is there.
  if (count > 1) recordEnd(bytes, end, end, limits);
  return eventAt(undefined, bytes, FRAME_HEADER, end, limits, lazy) as Event<T, P>;
}

/**
 * All events of a frame, in their order.
 *
 * @throws DecodeError when one of them is malformed: then none is returned.
 */
export function decodeBatch(bytes: Uint8Array, options?: DecodeOptions): Event[] {
  const limits = limitsOf(options?.limits);
  const lazy = options?.lazy === true;
  const count = whole(bytes, limits);
  let engine = lazy || limits !== DEFAULT_LIMITS ? undefined : load(bytes);
  let loaded = loads;
  const events: Event[] = [];
  let at = FRAME_HEADER;
  for (let i = 0; i < count; i++) {
    const end = recordEnd(bytes, at, bytes.length, limits);
    if (engine !== undefined && loads !== loaded) {
      // An event that is not plain was read the other way.
      engine = load(bytes);
      loaded = loads;
    }
    events.push(eventAt(engine, bytes, at, end, limits, lazy));
    at = end;
  }
  trailing(bytes, at);
  return events;
}

/** The event of a record. `engine` holds the bytes, if there is one. */
function eventAt(
  engine: Engine | undefined,
  bytes: Uint8Array,
  at: number,
  end: number,
  limits: Limits,
  lazy: boolean,
): Event {
  let event: Event | undefined;
  if (engine !== undefined) event = quickEvent(engine, bytes, at, end, body);
  else if (lazy && limits === DEFAULT_LIMITS) event = quickHeader(bytes, at, end);
  return event ?? toEvent(new EventView(bytes, at, end, limits), lazy);
}

/** The event that a view looks at. */
export function toEvent(view: EventView, lazy: boolean): Event {
  const type = view.type;
  const { nonceLow32: low, nonceHigh32: high, timestamp } = view;
  if (timestamp === undefined && (low !== 0 || high !== 0)) {
    throw new DecodeError('nonce', 'a nonce without a timestamp');
  }
  return Event.restored(
    {
      type,
      source: view.source,
      id: view.ownId,
      target: view.target,
      session: view.session,
      correlationId: view.correlationId,
      causationId: view.causationId,
      traceparent: view.traceparent,
      hops: view.noHops ? undefined : view.hops,
      attributes: view.noAttributes ? undefined : view.attributes,
      priority: view.priority,
      timestamp,
      deadline: view.deadline,
      payload: body(view, lazy),
    },
    low,
    high,
  );
}

/** The payload's value; bytes where it is to be lazy, or must leave as it came. */
function body(view: EventView, lazy: boolean): unknown {
  const { content, payloadStart: start, bytes, end } = view;
  if (content === 'binary' && start === end) {
    counts.decodedOther++;
    return undefined;
  }
  if (lazy) {
    counts.decodedLazy++;
    return Payload.raw(content, bytes.subarray(start, end));
  }
  try {
    if (content === 'json') {
      counts.decodedJson++;
      const payload = Payload.raw(content, bytes.slice(start, end));
      void payload.value;
      return payload;
    }
    if (content === 'msgpack') {
      const before = counts.decodedWasm;
      const value = readPayload(content, bytes, start, end, view.limits.depth);
      if (counts.decodedWasm === before) counts.decodedJs++;
      return value;
    }
    counts.decodedOther++;
    return readPayload(content, bytes, start, end, view.limits.depth);
  } catch (cause) {
    if (!(cause instanceof PayloadError)) throw cause;
    throw new DecodeError('payload', `the payload is not ${content}: ${cause.message}`, { cause });
  }
}
