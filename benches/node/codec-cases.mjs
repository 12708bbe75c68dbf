/**
 * What is timed: a call for JSON, one for the rival, and a check that both did what
 * they should. Results are kept for a while, so that nothing is optimised away and
 * the garbage collector has its usual work.
 */
import assert from 'node:assert/strict';

import { codec } from './codec-rivals.mjs';
import { workload } from './codec-workloads.mjs';

const kept = new Array(16).fill(null);
let at = 0;
const keep = (value) => {
  kept[at++ & 15] = value;
};

/** Bytes as a socket delivers them: parts of one large piece, a new view for each event. */
function delivered(all) {
  const ends = [];
  let end = 0;
  for (const bytes of all) ends.push((end += bytes.length));
  const piece = Buffer.allocUnsafeSlow(end);
  let start = 0;
  for (const bytes of all) {
    piece.set(bytes, start);
    start += bytes.length;
  }
  return { piece, ends };
}

function eachDelivered({ piece, ends }, run) {
  return () => {
    let start = 0;
    for (const end of ends) {
      keep(run(piece.subarray(start, end)));
      start = end;
    }
  };
}

const each = (list, run) => () => {
  for (const one of list) keep(run(one));
};

async function encoding(name, rival) {
  const events = workload(name);
  const [json, other] = [await codec('json'), await codec(rival)];
  return {
    events: events.length,
    json: each(events, json.encode),
    other: each(events, other.encode),
    verify() {
      for (const event of events) {
        assert.deepStrictEqual(other.plain(other.decode(Buffer.from(other.encode(event)))), event);
      }
    },
  };
}

async function decoding(name, rival) {
  const events = workload(name);
  const [json, other] = [await codec('json'), await codec(rival)];
  const texts = delivered(events.map(json.encode));
  // Some codecs learn while they write.
  for (const event of events) other.encode(event);
  const frames = delivered(events.map((event) => Buffer.from(other.encode(event))));
  return {
    events: events.length,
    json: eachDelivered(texts, json.decode),
    other: eachDelivered(frames, other.decode),
    verify() {
      let start = 0;
      frames.ends.forEach((end, n) => {
        assert.deepStrictEqual(
          other.plain(other.decode(frames.piece.subarray(start, end))),
          events[n],
        );
        start = end;
      });
    },
  };
}

/**
 * 256 events to their routes, by type and priority: nothing else is looked at. Of 100 KB half as
 * many, as a frame ends at 16 MiB.
 */
async function routing(name) {
  const events = workload(name);
  const length = name === '100KB' ? 128 : 256;
  const batch = Array.from({ length }, (_, n) => events[n % events.length]);
  const types = [...new Set(batch.map((event) => event.type))];
  const { encodeBatch, TypeTable, routeBatch } = await import('swarmbus');
  const numbers = new Map(types.map((type, n) => [type, n + 1]));
  const table = new TypeTable();
  for (const [type, number] of numbers) table.set(type, number);
  const texts = batch.map((event) => Buffer.from(JSON.stringify(event)));
  const frame = encodeBatch(batch);
  const routes = new Int32Array(length);
  const priorities = new Uint8Array(length);
  let sink = 0;
  return {
    events: length,
    json() {
      for (const text of texts) {
        const event = JSON.parse(text.toString());
        sink += numbers.get(event.type) + event.priority;
      }
    },
    other() {
      const count = routeBatch(frame, table, routes, priorities);
      for (let n = 0; n < count; n++) sink += routes[n] + priorities[n];
    },
    verify() {
      const expected = batch.map((event) => [numbers.get(event.type), event.priority]);
      routes.fill(0);
      assert.equal(routeBatch(frame, table, routes, priorities), length);
      assert.deepEqual(
        Array.from(routes, (route, n) => [route, priorities[n]]),
        expected,
      );
      assert.ok(Number.isFinite(sink));
    },
  };
}

/** What a forwarder changes. */
const CHANGES = {
  priority: { priority: 1 },
  'priority, hop': { priority: 1, hop: 'gateway-2' },
  'priority, target, hop': { priority: 1, target: 'agent:planner-2', hop: 'gateway-2' },
};

/**
 * The same event with another priority, target, one more hop. The bytes are at hand, as a client
 * of Redis gives them, or `cut` from a larger piece: then making a view of each is measured, too.
 */
async function forwarding(name, rival) {
  const events = workload(name).map((event) => ({ ...event, hops: ['edge-1'] }));
  const { encode, decode, forward } = await import('swarmbus');
  const changes = CHANGES[rival.replace(/, cut$/, '')];
  const { priority, target, hop } = changes;
  const texts = events.map((event) => Buffer.from(JSON.stringify(event)));
  const frames = events.map((event) => Buffer.from(encode(event)));
  const pass = (bytes) => forward(bytes, changes);
  const eachOf = rival.endsWith(', cut')
    ? (list, run) => eachDelivered(delivered(list), run)
    : each;
  return {
    events: events.length,
    json: eachOf(texts, (bytes) => {
      const event = JSON.parse(bytes.toString());
      event.priority = priority;
      if (target !== undefined) event.target = target;
      if (hop !== undefined) event.hops.push(hop);
      return Buffer.from(JSON.stringify(event));
    }),
    other: eachOf(frames, pass),
    verify() {
      frames.forEach((bytes, n) => {
        const passed = decode(pass(bytes));
        assert.equal(passed.priority, 1);
        assert.equal(passed.target, target ?? events[n].target);
        assert.deepEqual(passed.hops, hop === undefined ? ['edge-1'] : ['edge-1', hop]);
        assert.deepStrictEqual(passed.payload, events[n].payload);
        // What was given stays as it was.
        assert.deepEqual(decode(bytes).hops, ['edge-1']);
      });
    },
  };
}

/** 768 floats, as an embedding has them: as bytes, and as a JSON array. */
function embedding() {
  return Float32Array.from({ length: 768 }, (_, n) => Math.sin(n * 12.9898) * 0.5);
}

async function embeddingCases(direction) {
  const { encode, decode, typedArray } = await import('swarmbus');
  const vector = embedding();
  const numbers = Array.from(vector);
  const header = { type: 'memory.vector', source: 'embedder', priority: 5 };
  const event = { ...header, payload: vector };
  const text = Buffer.from(JSON.stringify({ ...header, payload: numbers }));
  const bytes = Buffer.from(encode(event));
  const read = (frame) => typedArray(decode(frame).payload, Float32Array);
  const encodes = direction === 'encode';
  return {
    events: 64,
    json: encodes
      ? () => {
          for (let n = 0; n < 64; n++) {
            keep(Buffer.from(JSON.stringify({ ...header, payload: Array.from(vector) })));
          }
        }
      : () => {
          for (let n = 0; n < 64; n++) keep(new Float32Array(JSON.parse(text.toString()).payload));
        },
    other: () => {
      for (let n = 0; n < 64; n++) keep(encodes ? encode(event) : read(bytes));
    },
    verify: () => assert.deepEqual(read(Buffer.from(encode(event))), vector),
  };
}

export function cases(operation, name, rival) {
  switch (operation) {
    case 'encode':
      return encoding(name, rival);
    case 'decode':
      return decoding(name, rival);
    case 'route':
      return routing(name);
    case 'forward':
      return forwarding(name, rival);
    case 'float32':
      return embeddingCases(name);
    default:
      throw new Error(`unknown operation ${operation}`);
  }
}
