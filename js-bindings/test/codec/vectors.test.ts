/** The bytes that Rust and JavaScript agree on: `tests/vectors` of the repository. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import {
  decode,
  decodeBatch,
  DecodeError,
  encodeBatch,
  type Event,
  forward,
  fromCloudEvent,
  peekBatch,
  type EventInit,
} from 'swarmbus';

interface Valid {
  readonly name: string;
  readonly events: readonly Record<string, unknown>[];
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

/** What an event is made of, as an object of its own. */
function initOf(event: Event): EventInit {
  const { ownId: id, rawPayload: payload, nonce } = event;
  return { ...event, id, payload, nonce };
}

for (const { name, events, frame_hex: frame } of vectors<Valid>('frames.json')) {
  test(`frame: ${name}`, () => {
    const made = events.map((event) => fromCloudEvent(JSON.stringify(event)));
    assert.equal(toHex(encodeBatch(made)), frame);
    const inits = made.map(initOf);
    assert.equal(toHex(encodeBatch(inits)), frame);

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
