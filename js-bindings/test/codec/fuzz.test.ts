/**
 * Mutated frames: with WebAssembly and without it, reading comes to the same result, an event or an
 * error with the same code. Each form is a process of its own, as a program has it, and both make
 * the same inputs from the numbers of chunks. Both say what a chunk came to, as one number.
 *
 * `SWARMBUS_FUZZ_INPUTS=100000000 npm test codec/fuzz` for a long run.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { env, execPath, stdout } from 'node:process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import {
  decode,
  decodeBatch,
  DecodeError,
  encode,
  encodeBatch,
  Extension,
  FrameReader,
  Payload,
  PayloadError,
  status,
  type Event,
} from 'swarmbus';

const CHUNK = 20_000;
const WANTED = Number(env['SWARMBUS_FUZZ_INPUTS'] ?? 10_000_000);
/** Without a number of inputs, whichever is reached first. */
const MILLISECONDS = env['SWARMBUS_FUZZ_INPUTS'] === undefined ? 300_000 : Infinity;

/** Set in the two processes: `FROM TO`, numbers of chunks, or `CHUNK` to hear of each input. */
const PART = env['SWARMBUS_FUZZ_PART'];

let state = 1;
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
  encodeBatch([
    { ...LONG, type: 'task.created', payload: { a: 1, b: 'xy' } },
    { type: 'a', payload: [1.5, 'text é', { a: 1 }] },
    { ...LONG, type: 'task.done', payload: 'text é' },
  ]),
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

/** Where inputs are made: a seed, and room for what is added. */
const room = new Uint8Array(8192);
const view = new DataView(room.buffer);

/** Good until the next one. */
function mutated(): Uint8Array {
  const seed = SEEDS[random(SEEDS.length)]!;
  room.set(seed);
  let length = seed.length;
  for (let changes = 1 + random(3); changes > 0; changes--) {
    // Mostly in the payload: the header is long.
    const at = random(3) === 0 ? random(length) : Math.min(length - 1, HEADERS + random(length));
    const byte = random(2) ? BYTES[random(BYTES.length)]! : random(256);
    const kind = random(8);
    if (kind === 0 && length > 1) room.copyWithin(at, at + 1, length--);
    else if (kind === 1) {
      room.copyWithin(at + 1, at, length++);
      room[at] = byte;
    } else if (kind === 2) length = Math.max(1, at);
    else room[at] = byte;
  }
  // Mostly with the right lengths, as otherwise nothing else is looked at.
  if (length >= HEADERS && random(8) !== 0) {
    view.setUint32(12, length, true);
    if (view.getUint32(8, true) === 1) view.setUint32(16, length - 16, true);
  }
  return room.subarray(0, length);
}

/** Of a frame and of its first event, in bytes. */
const HEADERS = 80;

/** What was seen of a chunk, as one number. */
let digest = 0;
function see(number: number): void {
  digest = Math.imul(digest ^ number, 0x0100_0193);
}

const float = new Float64Array(1);
const halves = new Int32Array(float.buffer);
function seeText(text: string): void {
  see(text.length);
  for (let at = 0; at < text.length; at++) see(text.charCodeAt(at));
}

/** All of a value: what it is, and in which order. */
function seeValue(value: unknown): void {
  if (typeof value === 'string') {
    see(1);
    seeText(value);
  } else if (typeof value === 'number') {
    // Which NaN it is, nobody can see.
    float[0] = Number.isNaN(value) ? 0.1234 : value;
    see(2);
    see(halves[0]!);
    see(halves[1]!);
  } else if (typeof value !== 'object' || value === null) {
    seeText(typeof value + String(value));
  } else if (Array.isArray(value)) {
    see(3);
    see(value.length);
    for (const part of value) seeValue(part);
  } else if (value instanceof Uint8Array) {
    see(4);
    see(value.length);
    for (const byte of value) see(byte);
  } else if (value instanceof Map) {
    see(5);
    for (const pair of value) seeValue(pair);
  } else {
    see(value instanceof Extension ? 6 : 7);
    for (const key of Object.keys(value)) {
      seeText(key);
      seeValue((value as Record<string, unknown>)[key]);
    }
  }
}

function seeEvent(event: Event): void {
  const { type, source, id, target, session, correlationId, causationId, traceparent } = event;
  seeValue([type, source, id, target, session, correlationId, causationId, traceparent]);
  const { hops, attributes, priority, timestamp, deadline, nonce, content, payload } = event;
  seeValue([hops, attributes, priority, timestamp, deadline, nonce, content, payload]);
}

/** Reads a frame; the code of the error, if it is one. */
function attempt(bytes: Uint8Array): string | undefined {
  const isBatch = view.getUint32(8, true) !== 1;
  try {
    const events = isBatch ? decodeBatch(bytes) : [decode(bytes)];
    for (const event of events) seeEvent(event);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    const { code, cause } = error;
    const text = cause instanceof PayloadError ? `${code}: ${cause.code}` : code;
    seeText(text);
    return text;
  }
  if (!isBatch) checkAgain(bytes);
  return undefined;
}

/** What decodes, encodes to the same bytes again, and a stream finds it. */
function checkAgain(bytes: Uint8Array): void {
  const again = encode(decode(bytes, { lazy: true }));
  if (Buffer.compare(again, bytes) !== 0) throw new Error(`written as ${hex(again)}`);
  const reader = new FrameReader();
  const cut = random(bytes.length);
  reader.push(bytes.subarray(0, cut));
  const early = reader.next();
  reader.push(bytes.subarray(cut));
  if (early !== undefined || reader.next()?.length !== bytes.length) {
    throw new Error(`cut at ${cut}, the stream has no such frame`);
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Reads a chunk, and returns how many of its inputs are frames. */
function chunk(number: number, each?: (line: string) => void): number {
  let frames = 0;
  state = Math.imul(number + 1, 0x9e37_79b1) | 1;
  digest = 0;
  for (let input = 0; input < CHUNK; input++) {
    const bytes = mutated();
    const text = each && hex(bytes);
    try {
      const code = attempt(bytes);
      if (code === undefined) frames++;
      each?.(`${text} ${code ?? 'frame'} ${digest}`);
    } catch (error) {
      throw new Error(`input ${input} of chunk ${number}, ${hex(bytes)}`, { cause: error });
    }
  }
  return frames;
}

/** What the two processes do. */
function work(part: string): void {
  Error.stackTraceLimit = 0;
  stdout.write(`${status().engine}\n`);
  const [from = 0, to] = part.split(' ').map(Number);
  if (to === undefined) chunk(from, (line) => stdout.write(`${line}\n`));
  else for (let at = from; at < to; at++) stdout.write(`${chunk(at)} ${digest}\n`);
}

/** The lines that a process says, with WebAssembly or without. */
function started(flags: string[], part: string): { lines: Interface; end(): void } {
  const { NODE_TEST_CONTEXT: _, ...others } = env;
  const child = spawn(execPath, [...flags, fileURLToPath(import.meta.url)], {
    env: { ...others, SWARMBUS_FUZZ_PART: part },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return { lines: createInterface({ input: child.stdout }), end: () => child.kill() };
}

/** Pairs of lines, until they differ or one says no more; what came last. */
async function together(part: string, each: (line: string) => boolean): Promise<void> {
  const sides = [started([], part), started(['--no-expose-wasm'], part)];
  try {
    const [one, other] = sides.map(({ lines }) => lines[Symbol.asyncIterator]());
    assert.equal((await one!.next()).value, 'wasm');
    assert.equal((await other!.next()).value, 'js');
    for (;;) {
      const [a, b] = await Promise.all([one!.next(), other!.next()]);
      if (a.done && b.done) return;
      if (a.value !== b.value) assert.fail(`${String(a.value)}\n${String(b.value)}`);
      if (!each(a.value as string)) return;
    }
  } finally {
    for (const side of sides) side.end();
  }
}

if (PART !== undefined) {
  work(PART);
} else {
  const skip = status().engine === 'js' && 'the run with WebAssembly has it run without it';
  test('WebAssembly and JavaScript come to the same result', { skip }, async () => {
    const start = performance.now();
    let [chunks, frames] = [0, 0];
    const all = Math.ceil(WANTED / CHUNK);
    try {
      await together(`0 ${all}`, (line) => {
        frames += Number(line.split(' ')[0]);
        chunks += 1;
        return performance.now() - start < MILLISECONDS;
      });
    } catch (error) {
      // Which input it is.
      await together(String(chunks), () => true);
      throw error;
    }
    const [inputs, seconds] = [chunks * CHUNK, (performance.now() - start) / 1000];
    const rate = Math.round(inputs / seconds);
    console.log(`${inputs} inputs, ${frames} of them frames, ${rate} a second by both`);
    assert.ok(frames > inputs / 20 && inputs - frames > inputs / 20);
  });
}
