// `load-test --node-agents`: a worker in Node.js, which joins by the `swarmbus` package. Rust does
// the same in child.rs, wire.rs and seen.rs; what the two processes say is in protocol.rs.
import { createInterface } from 'node:readline';

import { Channel, Event } from 'swarmbus';
import { RedisTransport } from 'swarmbus/redis';

const { mode, channels, own, agent, source, type, places, payload } = JSON.parse(process.argv[1]);

const HEADER_LEN = 40;
const TRAILER_LEN = 12;
const RESULT = 1;
const SILENCE = 10_000;
const LOOK = 20;

// Numbers of one agent that have come: all below `base`, and those in `later`.
class Seen {
  #base = 0;
  #later = new Set();

  note(number) {
    if (number < this.#base || this.#later.has(number)) return false;
    this.#later.add(number);
    // What is that old and has not come will not come.
    while (this.#later.delete(this.#base) || this.#later.size > 1 << 16) this.#base += 1;
    return true;
  }
}

// As `checksum` in message.rs.
function checksum(body) {
  const words = Math.floor(body.length / 8) + 1;
  const padded = new Uint8Array(words * 8);
  padded.set(body);
  const view = new DataView(padded.buffer);
  let sum = BigInt(body.length);
  let sums = 0n;
  for (let n = 0; n < words; n += 1) {
    sum = BigInt.asUintN(64, sum + view.getBigUint64(n * 8, true));
    sums = BigInt.asUintN(64, sums + sum);
  }
  return sum ^ BigInt.asUintN(64, (sums << 32n) | (sums >> 32n));
}

const part = {
  delivered: 0,
  handled: 0,
  duplicated: 0,
  redelivered: 0,
  gaps: 0,
  reported: 0,
  unknown: 0,
  unsent: 0,
  given_up: 0,
  corrupted: 0,
  stuck: 0,
  tasks: { accepted: 0, rejected: 0, timed_out: 0, late_votes: 0, unfinished: 0 },
  latency: [],
  rss_peak: 0,
  cpu_us: 0,
};
const published = channels.map(() => 0);
const next = channels.map(() => 0);
const latency = new Map();
const seen = new Map();
const body = crypto.getRandomValues(new Uint8Array(payload - HEADER_LEN - TRAILER_LEN));
const sum = checksum(body);
const targets = channels.map((name) => Channel.of(mode, name));
let replying = true;

// Nanoseconds since 1970, to the microsecond that this clock has.
const now = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1_000)) * 1_000n;

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

const transport = await RedisTransport.connect(process.env.SWARMBUS_REDIS, {
  retention: 200_000,
  retentionTime: 60_000,
  remember: 60_000,
});
const inbox = await transport.subscribe(targets[own], { capacity: 16_384 });

// A task that came in for the first time: its result, for each process with a validator of it.
function handle(bytes, batches) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const at = bytes.length - TRAILER_LEN;
  if (at < HEADER_LEN || view.getBigUint64(32, true) !== checksum(bytes.subarray(HEADER_LEN, at))) {
    part.corrupted += 1;
    return;
  }
  part.handled += 1;
  const arrived = now();
  const took = Number(arrived - view.getBigUint64(24, true));
  const digits = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, took))) - 2);
  const rounded = Math.max(1, Math.round(took / digits) * digits);
  latency.set(rounded, (latency.get(rounded) ?? 0) + 1);
  if (!replying) return;
  for (const place of places) {
    const reply = new Uint8Array(HEADER_LEN + body.length + TRAILER_LEN);
    reply.set(bytes.subarray(0, 24));
    reply.set(body, HEADER_LEN);
    const out = new DataView(reply.buffer);
    out.setUint8(0, RESULT);
    out.setBigUint64(24, arrived, true);
    out.setBigUint64(32, sum, true);
    out.setUint32(HEADER_LEN + body.length, agent, true);
    out.setBigUint64(HEADER_LEN + body.length + 4, BigInt(next[place]), true);
    next[place] += 1;
    batches[place].push(new Event({ type, payload: reply, source }));
  }
}

function take(received, batches) {
  const bytes = received.event.payload;
  if (!(bytes instanceof Uint8Array) || bytes.length < TRAILER_LEN) {
    part.corrupted += 1;
    received.ack();
    return;
  }
  const trailer = new DataView(bytes.buffer, bytes.byteOffset + bytes.length - TRAILER_LEN, TRAILER_LEN);
  const sender = trailer.getUint32(0, true);
  const numbers = seen.get(sender) ?? new Seen();
  seen.set(sender, numbers);
  if (numbers.note(Number(trailer.getBigUint64(4, true)))) {
    part.delivered += 1;
    handle(bytes, batches);
  } else if (received.redelivered) {
    part.redelivered += 1;
  } else {
    part.duplicated += 1;
  }
  received.ack();
}

// Whether a batch is being dealt with: what it leads to is published before the books are closed.
let busy = false;

async function receive() {
  for (;;) {
    busy = false;
    const batch = await inbox.nextBatch();
    if (batch.length === 0) return;
    busy = true;
    const batches = channels.map(() => []);
    for (const incoming of batch) {
      if (incoming.kind === 'event') {
        take(incoming, batches);
      } else {
        part.gaps += 1;
        if (incoming.missed === undefined) part.unknown += 1;
        else part.reported += incoming.missed;
      }
    }
    for (const place of places) {
      const events = batches[place];
      if (events.length === 0) continue;
      const rest = await transport.publishBatch(targets[place], events).then(
        () => 0,
        (error) => error.rest.length,
      );
      published[place] += events.length - rest;
      part.given_up += rest;
    }
  }
}
const receiving = receive();

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function carryOut(order) {
  if (order === 'Stop') {
    say({ Stopped: { published: published.reduce((a, b) => a + b), delivered: part.delivered } });
  } else if (order === 'Quiet') {
    replying = false;
    while (busy) await wait(1);
    await transport.flush().catch((error) => {
      if (error.code !== 'lost') throw error;
      part.unsent = error.events;
    });
    say({ Published: published });
  } else if (order?.Expect !== undefined) {
    let [last, since] = [-1, Date.now()];
    for (;;) {
      const came = part.delivered + part.reported;
      if (came >= order.Expect || Date.now() - since > SILENCE) break;
      if (came !== last) [last, since] = [came, Date.now()];
      await wait(LOOK);
    }
    // Answers to tasks.
    await transport.flush();
    part.latency = [...latency];
    const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
    part.rss_peak = maxRSS * 1_024;
    part.cpu_us = userCPUTime + systemCPUTime;
    await transport.close();
    await receiving;
    say({ Report: part });
  }
}

say('Ready');
for await (const line of createInterface({ input: process.stdin })) await carryOut(JSON.parse(line));
