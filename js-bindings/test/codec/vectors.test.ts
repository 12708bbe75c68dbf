/** The bytes that Rust and JavaScript agree on: `tests/vectors` of the repository. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import {
  decode,
  decodeBatch,
  DecodeError,
  encodeBatch,
  Event,
  forward,
  Payload,
  peekBatch,
  type Content,
  type EventInit,
  type Micros,
  type Target,
} from 'swarmbus';

interface Valid {
  readonly name: string;
  readonly events: readonly Record<string, string>[];
  readonly frame_hex: string;
}

interface Invalid {
  readonly name: string;
  readonly error: string;
  readonly frame_hex: string;
}

function vectors<V>(file: string): V[] {
  // The tests run from the package's folder.
  return JSON.parse(readFileSync(`../tests/vectors/${file}`, 'utf8')) as V[];
}

const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

const CONTENTS: Record<string, Content> = {
  'application/msgpack': 'msgpack',
  'application/json': 'json',
  'text/plain': 'text',
  'application/octet-stream': 'binary',
};

function micros(text: string | undefined): Micros | undefined {
  if (text === undefined) return undefined;
  const [, seconds, fraction = ''] = /^(.*?)(?:\.(\d+))?Z$/.exec(text)!;
  const whole = BigInt(Date.parse(`${seconds}Z`)) * 1000n + BigInt(fraction.padEnd(6, '0'));
  return whole <= Number.MAX_SAFE_INTEGER ? Number(whole) : whole;
}

function payloadOf(event: Record<string, unknown>): Payload | undefined {
  const { datacontenttype, data, data_base64: base64 } = event;
  if (datacontenttype === undefined) return undefined;
  const content = CONTENTS[datacontenttype as string]!;
  if (typeof base64 === 'string') return Payload.raw(content, Buffer.from(base64, 'base64'));
  if (content === 'json') return Payload.json(data);
  return Payload.raw(content, Buffer.from((data ?? '') as string));
}

/** From CloudEvents JSON, as ADR 0012 maps it. */
function fromCloudEvent(event: Record<string, string>): EventInit {
  const {
    id,
    source,
    type,
    time,
    nonce,
    priority,
    deadline,
    hops,
    target,
    session,
    traceparent,
    correlationid,
    causationid,
    specversion: _,
    datacontenttype: _1,
    data: _2,
    data_base64: _3,
    ...attributes
  } = event;
  const init: EventInit = {
    type: type!,
    source: source === 'swarmbus:anonymous' ? '' : source,
    payload: payloadOf(event),
    priority: priority as number | undefined,
    timestamp: micros(time),
    deadline: micros(deadline),
    nonce: nonce === undefined ? undefined : BigInt(`0x${nonce}`),
    target: target as Target | undefined,
    session,
    traceparent,
    correlationId: correlationid,
    causationId: causationid,
    hops: hops?.split(',').map(decodeURIComponent),
    attributes,
  };
  // With a nonce that makes the very id there is none of its own.
  const made = id === 'swarmbus:unstamped' || new Event(init).id === id;
  return made ? init : { ...init, id };
}

for (const { name, events, frame_hex: frame } of vectors<Valid>('frames.json')) {
  test(`frame: ${name}`, () => {
    const inits = events.map(fromCloudEvent);
    assert.equal(toHex(encodeBatch(inits)), frame);
    assert.equal(toHex(encodeBatch(inits.map((init) => new Event(init)))), frame);

    const read = decodeBatch(hex(frame), { lazy: true });
    assert.equal(toHex(encodeBatch(read)), frame);
    const ids = events.map(({ id }) => (id === 'swarmbus:unstamped' ? undefined : id));
    assert.deepEqual(
      read.map(({ id }) => id),
      ids,
    );
    assert.deepEqual(
      peekBatch(hex(frame)).map(({ id }) => id),
      ids,
    );
    assert.equal(toHex(forward(hex(frame), {})), frame);
  });
}

for (const { name, error, frame_hex: frame } of vectors<Invalid>('frames-invalid.json')) {
  test(`not a frame: ${name}`, () => {
    const is = (thrown: unknown) => thrown instanceof DecodeError && thrown.code === error;
    assert.throws(() => decodeBatch(hex(frame), { lazy: true }), is);
    assert.throws(() => decodeBatch(hex(frame)), is);
    assert.throws(() => decode(hex(frame)), is);
  });
}
