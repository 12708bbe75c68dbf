// One client library of Redis, doing what the group `redis` of the comparison asks of it.
//
//   node rival.mjs node-redis|ioredis URL
//
// Reads `throughput EVENTS` or `latency EVENTS RATE`, a line each, and answers with a line:
// nanoseconds from the first event published to the last received, or the 99th percentile of
// the nanoseconds that an event took. Every event has 200 bytes: its number, when it was
// published, and zeros. The subscriber has a thread of its own and checks that each event comes
// once and in order.

import { createInterface } from 'node:readline';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';

const EVENT = 200;
const CHANNEL = `bench:${isMainThread ? process.argv[2] : workerData.library}`;
// As many as the other clients of the comparison send together.
const PIPELINE = 512;

const libraries = {
  async 'node-redis'(url) {
    const { createClient, RESP_TYPES } = await import('redis');
    const client = createClient({ url, commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } } });
    await client.connect();
    return {
      // Commands of one turn of the event loop leave together.
      publish: (event) => client.publish(CHANNEL, event),
      publishAll: (events) => Promise.all(events.map((event) => client.publish(CHANNEL, event))),
      subscribe: (listener) => client.subscribe(CHANNEL, listener, true),
    };
  },
  async ioredis(url) {
    const { Redis } = await import('ioredis');
    const client = new Redis(url, { enableAutoPipelining: true });
    return {
      publish: (event) => client.publish(CHANNEL, event),
      async publishAll(events) {
        const pipeline = client.pipeline();
        for (const event of events) pipeline.publish(CHANNEL, event);
        for (const [error] of await pipeline.exec()) if (error) throw error;
      },
      async subscribe(listener) {
        client.on('messageBuffer', (_channel, event) => listener(event));
        await client.subscribe(CHANNEL);
      },
    };
  },
};

function event(number) {
  const bytes = Buffer.alloc(EVENT);
  bytes.writeDoubleLE(number, 0);
  bytes.writeBigUInt64LE(process.hrtime.bigint(), 8);
  return bytes;
}

if (isMainThread) {
  await main(process.argv[2], process.argv[3]);
} else {
  await receive(workerData.library, workerData.url);
}

async function main(library, url) {
  const subscriber = new Worker(fileURLToPath(import.meta.url), { workerData: { library, url } });
  subscriber.on('error', (error) => {
    console.error(error);
    process.exit(1);
  });
  const answers = [];
  const waiting = [];
  subscriber.on('message', (answer) => {
    const next = waiting.shift();
    if (next) next(answer);
    else answers.push(answer);
  });
  const answer = () =>
    answers.length > 0 ? answers.shift() : new Promise((resolve) => waiting.push(resolve));

  const publisher = await libraries[library](url);
  await answer();
  for await (const line of createInterface({ input: process.stdin })) {
    const [what, events, rate] = line.split(' ');
    subscriber.postMessage(Number(events));
    await answer();
    const began = process.hrtime.bigint();
    if (what === 'throughput') await flood(publisher, Number(events));
    else await pace(publisher, Number(events), Number(rate));
    const { ended, p99 } = await answer();
    console.log(String(what === 'throughput' ? ended - began : p99));
  }
  process.exit(0);
}

async function flood(publisher, count) {
  // Two pipelines, so that the server works on one while the other is made.
  let before = Promise.resolve();
  for (let number = 0; number < count; ) {
    const batch = [];
    while (batch.length < PIPELINE && number < count) batch.push(event(number++));
    const now = publisher.publishAll(batch);
    await before;
    before = now;
  }
  await before;
}

// Waits for nobody: what is late has no influence on what comes next.
async function pace(publisher, count, rate) {
  const began = performance.now();
  const sent = [];
  for (let number = 0; number < count; ) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const due = Math.min(count, ((performance.now() - began) * rate) / 1000);
    while (number < due) sent.push(publisher.publish(event(number++)));
  }
  await Promise.all(sent);
}

async function receive(library, url) {
  let [expected, count] = [0, 0];
  let took = new Float64Array(0);
  const subscriber = await libraries[library](url);
  await subscriber.subscribe((bytes) => {
    const now = process.hrtime.bigint();
    const number = bytes.readDoubleLE(0);
    if (bytes.length !== EVENT || number !== expected) {
      throw new Error(`event ${expected} was expected, ${number} came`);
    }
    took[expected++] = Number(now - bytes.readBigUInt64LE(8));
    if (expected === count) {
      took.sort();
      parentPort.postMessage({ ended: now, p99: took[Math.ceil(count * 0.99) - 1] });
    }
  });
  parentPort.on('message', (events) => {
    [expected, count, took] = [0, events, new Float64Array(events)];
    parentPort.postMessage('ready');
  });
  parentPort.postMessage('ready');
}
