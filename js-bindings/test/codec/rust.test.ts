/** What Rust writes is read here, and the other way round, with arbitrary events. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

import {
  decode,
  encode,
  FrameReader,
  fromCloudEvent,
  toCloudEvent,
  type EventInit,
  type Target,
} from 'swarmbus';

import { programPath } from '../support/programs.js';

const EVENTS = 3000;

/** Runs `crates/bus/examples/codec_peer.rs`; returns the frames that it writes. */
function peer(args: readonly string[], input: Uint8Array): Uint8Array[] {
  const { status, stdout, stderr } = spawnSync(programPath('codec_peer'), args, {
    input,
    maxBuffer: 1 << 30,
  });
  assert.equal(status, 0, String(stderr));
  const reader = new FrameReader();
  reader.push(stdout);
  const frames: Uint8Array[] = [];
  for (let frame = reader.next(); frame !== undefined; frame = reader.next()) frames.push(frame);
  assert.equal(reader.pending, 0);
  return frames;
}

test('what Rust writes is read, and written again to the same header', () => {
  const frames = peer(['make', String(EVENTS)], new Uint8Array());
  assert.equal(frames.length, 2 * EVENTS);
  for (let n = 0; n < frames.length; n += 2) {
    const [packed, json] = [decode(frames[n]!), decode(frames[n + 1]!)];
    assert.deepStrictEqual(packed.payload, json.payload);
    assert.equal(packed.id, json.id);
    // JSON leaves as it came; MessagePack that is only looked at too.
    assert.deepEqual(Buffer.from(encode(json)), Buffer.from(frames[n + 1]!));
    const lazy = decode(frames[n]!, { lazy: true });
    assert.deepStrictEqual(lazy.payload, packed.payload);
    assert.deepEqual(Buffer.from(encode(lazy)), Buffer.from(frames[n]!));
  }
});

/** The same in each run. */
let state = 0x1234_5677;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const CHARS = [...'abz0 "\\\n\0é漢\u2028🐝'];
function text(): string {
  const length = [0, 1, 5, 23, 24, 25, 31, 32, 300][random(9)]!;
  const kinds = random(3) === 0 ? CHARS.length : 5;
  return Array.from({ length }, () => CHARS[random(kinds)]!).join('');
}

function number(): number | bigint {
  const whole = Math.floor((random(2 ** 31) / 2 ** 31) * 2 ** random(54));
  switch (random(5)) {
    case 0:
      return whole;
    case 1:
      return -whole;
    case 2:
      return random(300);
    case 3:
      return 2n ** 63n + BigInt(whole);
    default:
      return whole / 3;
  }
}

const NAMES = ['id', 'name', '__proto__', 'constructor', '', 'état', '7'];
function value(depth: number): unknown {
  switch (random(depth === 0 ? 5 : 8)) {
    case 0:
      return null;
    case 1:
      return random(2) === 0;
    case 2:
      return text();
    case 3:
    case 4:
      return number();
    case 5:
      return Array.from({ length: random(20) }, number);
    case 6:
      return Array.from({ length: random(6) }, () => value(depth - 1));
    default: {
      const names = Array.from({ length: random(20) }, () =>
        random(3) ? NAMES[random(NAMES.length)]! : text(),
      );
      return Object.fromEntries(names.map((name) => [name, value(depth - 1)]));
    }
  }
}

function event(): EventInit {
  const maybe = <T>(make: () => T): T | undefined => (random(2) ? make() : undefined);
  const timestamp = maybe(() => 1 + random(2 ** 31) * 2 ** 20);
  const uuid = (): string =>
    `${random(2 ** 31)
      .toString(16)
      .padStart(8, '0')}-0000-7000-8000-00000000000f`;
  return {
    type: ['a', 'task.created', 'état.changé'][random(3)]!,
    payload: value(4),
    source: text(),
    priority: random(10),
    timestamp,
    nonce: timestamp === undefined ? undefined : BigInt(random(2 ** 31)),
    deadline: maybe(() => 2n ** 55n + BigInt(random(2 ** 31))),
    id: maybe(() => (random(2) ? uuid() : text())),
    target: maybe(() => `${random(2) ? 'agent' : 'swarm'}:${text()}` as Target),
    session: maybe(text),
    correlationId: maybe(uuid),
    causationId: maybe(text),
    traceparent: maybe(text),
    hops: maybe(() => Array.from({ length: random(4) }, () => text().slice(0, 40))),
    attributes: maybe(() => ({ tenant: text(), area: text() })),
  };
}

test('what is written here is read by Rust, and written again to the same bytes', () => {
  const events = Array.from({ length: EVENTS }, event);
  const frames = events.map((init) => encode(init));
  const answers = peer(['check'], Buffer.concat(frames));
  assert.equal(answers.length, 3 * EVENTS);
  events.forEach((event, n) => {
    assert.deepEqual(Buffer.from(answers[3 * n]!), Buffer.from(frames[n]!));
    assert.deepStrictEqual(decode(answers[3 * n + 1]!).payload, event.payload);
    const json = decode(answers[3 * n + 2]!).payload as string;
    if (json === '') {
      assert.throws(() => toCloudEvent(event), { code: 'reserved' });
      return;
    }
    assert.equal(toCloudEvent(event), json);
    assert.deepEqual(Buffer.from(encode(fromCloudEvent(json))), Buffer.from(frames[n]!));
  });
});
