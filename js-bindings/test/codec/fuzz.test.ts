/**
 * Mutated frames: WebAssembly and JavaScript must come to the same result, an event or
 * an error with the same code. `SWARMBUS_FUZZ_INPUTS=10000000` for the long run.
 */
import assert from 'node:assert/strict';
import { env } from 'node:process';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';

import {
  configureCodec,
  decode,
  DecodeError,
  encode,
  Extension,
  FrameReader,
  metrics,
  Payload,
  PayloadError,
  type Event,
} from 'swarmbus';

const INPUTS = Number(env['SWARMBUS_FUZZ_INPUTS'] ?? 300_000);
/** Without a number of inputs, whichever is reached first. */
const MILLISECONDS = env['SWARMBUS_FUZZ_INPUTS'] === undefined ? 8_000 : Infinity;

/** The same in each run. */
let state = 0x2545_f491;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const LONG = {
  id: 'A234-1234',
  source: 'agent-17',
  target: 'swarm:blue',
  session: 's-1',
  correlationId: '01890a5d-ac96-774b-bcce-b302099a8057',
  causationId: 'request 7',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  timestamp: 1_700_000_000_123_456,
  nonce: 42n,
  deadline: 1_700_000_001_000_000,
} as const;

const SEEDS = [
  encode({ type: 'a', payload: { a: 1, b: 'xy', c: [1.5, null, true, 'é'], d: { e: 2n ** 63n } } }),
  encode({ ...LONG, type: 'task.created', payload: [{ a: 1 }, { a: 2 }, { a: 3, b: [] }] }),
  encode({
    ...LONG,
    type: 'task.created',
    hops: ['edge', 'é'],
    attributes: { tenant: 'x', zone: '1' },
  }),
  encode({
    type: 'm',
    payload: new Map<unknown, unknown>([
      ['a', 1],
      [2, new Uint8Array(3)],
    ]),
  }),
  encode({
    type: 'e',
    payload: [new Extension(5, new Uint8Array(4)), -1, -200, -70_000, 2 ** 40, -(2 ** 40)],
  }),
  encode({ type: 't', payload: 'text é' }),
  encode({ type: 'j', payload: Payload.json({ a: [1, 'x'] }) }),
  encode({ type: 'n', payload: [[1, 2, 300, 70_000], [1.5, 2.5], ['a', 'bc'], [[], [[]]], {}] }),
  encode({
    type: 'w',
    payload: Object.fromEntries(Array.from({ length: 70 }, (_, n) => [`k${n}`, n])),
  }),
];

/** Bytes that mean something, to be found more often. */
const BYTES = [
  0x00, 0x7f, 0x80, 0x8f, 0x90, 0xa1, 0xbf, 0xc0, 0xc1, 0xc4, 0xc7, 0xcb, 0xcf, 0xd4, 0xd9, 0xdc,
  0xdd, 0xde, 0xdf, 0xff,
];

function mutated(): Uint8Array {
  const bytes = Array.from(SEEDS[random(SEEDS.length)]!);
  for (let changes = 1 + random(3); changes > 0; changes--) {
    // Mostly in the payload: the header is long.
    const at =
      random(3) === 0
        ? random(bytes.length)
        : Math.min(bytes.length - 1, 80 + random(bytes.length));
    const byte = random(2) ? BYTES[random(BYTES.length)]! : random(256);
    const kind = random(8);
    if (kind === 0 && bytes.length > 1) bytes.splice(at, 1);
    else if (kind === 1) bytes.splice(at, 0, byte);
    else if (kind === 2) bytes.length = Math.max(1, at);
    else bytes[at] = byte;
  }
  // Mostly with the right lengths, as otherwise nothing else is looked at.
  const frame = Uint8Array.from(bytes);
  if (frame.length >= 80 && random(8) !== 0) {
    const view = new DataView(frame.buffer);
    view.setUint32(12, frame.length, true);
    view.setUint32(16, frame.length - 16, true);
  }
  return frame;
}

type Result = { readonly event: Event } | { readonly code: string };

function attempt(bytes: Uint8Array): Result {
  try {
    return { event: decode(bytes) };
  } catch (error) {
    assert.ok(error instanceof DecodeError, String(error));
    const cause = error.cause instanceof PayloadError ? `: ${error.cause.code}` : '';
    return { code: error.code + cause };
  }
}

function headerOf({
  type,
  source,
  id,
  target,
  session,
  correlationId,
  causationId,
  traceparent,
  hops,
  attributes,
  priority,
  timestamp,
  deadline,
  nonce,
  content,
}: Event): unknown {
  return [
    type,
    source,
    id,
    target,
    session,
    correlationId,
    causationId,
    traceparent,
    hops,
    { ...attributes },
    priority,
    timestamp,
    deadline,
    nonce,
    content,
  ];
}

const isSame = (a: Result, b: Result): boolean =>
  'event' in a && 'event' in b
    ? isDeepStrictEqual(headerOf(a.event), headerOf(b.event)) &&
      isDeepStrictEqual(a.event.payload, b.event.payload)
    : 'code' in a && 'code' in b && a.code === b.code;

test('WebAssembly and JavaScript come to the same result', () => {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  const until = performance.now() + MILLISECONDS;
  let [events, errors, batch] = [0, 0, [] as Uint8Array[]];
  for (let input = 0; input < INPUTS && performance.now() < until; input += batch.length) {
    batch = Array.from({ length: 500 }, mutated);
    configureCodec({ tokeniser: true });
    const quick = batch.map(attempt);
    configureCodec({ tokeniser: false });
    batch.forEach((bytes, n) => {
      const slow = attempt(bytes);
      const same = isSame(quick[n]!, slow);
      if (!same)
        assert.fail(
          `${Buffer.from(bytes).toString('hex')}: ${JSON.stringify([quick[n], slow], (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))}`,
        );
      if ('event' in slow) events++;
      else errors++;
      if ('event' in slow) checkAgain(bytes);
    });
  }
  configureCodec({ tokeniser: true });
  Error.stackTraceLimit = limit;
  console.log(`${events} events, ${errors} errors, tokeniser ${metrics().tokeniser}`);
  assert.ok(events > 1000 && errors > 1000);
});

/** What decodes, encodes to the same bytes again, and a stream finds it. */
function checkAgain(bytes: Uint8Array): void {
  assert.deepEqual(Uint8Array.from(encode(decode(bytes, { lazy: true }))), bytes);
  const reader = new FrameReader();
  const cut = random(bytes.length);
  reader.push(bytes.subarray(0, cut));
  assert.equal(reader.next(), undefined);
  reader.push(bytes.subarray(cut));
  assert.equal(reader.next()?.length, bytes.length);
}
