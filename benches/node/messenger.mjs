/**
 * Live messages from one Node.js process to another over Redis: swarmbus against `redis` and
 * `ioredis`, whose users publish the same events as JSON texts.
 *
 *     node messenger.mjs [--json FILE] [--quick] [--rounds N] [--events N]
 *
 * It starts a redis-server of its own. Each implementation runs in two processes of its own; rounds
 * are interleaved. A round is over when the subscriber has read the payload of every event, and has
 * added up a number that is in it: what is missing or wrong fails the bench. Publishers wait for
 * what their library offers: swarmbus for room in its buffer, the others for the answers to each
 * thousand events.
 */
import assert from 'node:assert/strict';
import { fork, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const OURS = ['swarmbus', 'swarmbus publishBatch', 'swarmbus over ioredis'];
const RIVALS = ['redis', 'ioredis'];
const IMPLEMENTATIONS = [...OURS, ...RIVALS];

/** Events of about 200 bytes as JSON. */
function events(count, from) {
  return Array.from({ length: count }, (_, n) => ({
    type: 'task.progress',
    source: `worker-${n % 16}`,
    priority: 5,
    payload: {
      task: from + n,
      state: n % 3 === 0 ? 'running' : 'waiting',
      progress: (n % 100) / 100,
      tags: ['image', 'resize', 'batch-7'],
      note: 'resized to 1024 x 768, quality 80',
    },
  }));
}

/** What each side does, with nothing of this package in that of the rivals. */
const sides = {
  async swarmbus(path, name) {
    const { Channel } = await import('swarmbus');
    const { RedisTransport, ...drivers } = await import('swarmbus/redis');
    const driver = name.endsWith('ioredis') ? drivers.ioredis() : drivers.nodeRedis();
    const transport = await RedisTransport.connect(`unix://${path}`, { driver });
    const channel = Channel.live(name.replaceAll(' ', '-'));
    const batches = name.endsWith('publishBatch');
    return {
      async publish(list) {
        for (let at = 0; batches && at < list.length; at += 1_000) {
          await transport.publishBatch(channel, list.slice(at, at + 1_000));
        }
        for (const event of batches ? [] : list) await transport.publish(channel, event);
        await transport.flush();
      },
      async subscribe(each) {
        const inbox = await transport.subscribe(channel, { capacity: 1_000_000 });
        (async () => {
          for await (const batch of inbox.batches()) {
            for (const incoming of batch) each(incoming.kind === 'event' ? incoming.event.payload : undefined);
          }
        })();
      },
    };
  },
  async redis(path) {
    const { createClient } = await import('redis');
    const client = createClient({ socket: { path } });
    await client.connect();
    return {
      async publish(list) {
        for (let at = 0; at < list.length; at += 1_000) {
          const some = list.slice(at, at + 1_000);
          await Promise.all(some.map((event) => client.publish('bench-redis', JSON.stringify(event))));
        }
      },
      async subscribe(each) {
        await client.subscribe('bench-redis', (text) => each(JSON.parse(text).payload));
      },
    };
  },
  async ioredis(path) {
    const { Redis } = await import('ioredis');
    const client = new Redis({ path });
    return {
      async publish(list) {
        for (let at = 0; at < list.length; at += 1_000) {
          const some = list.slice(at, at + 1_000);
          await Promise.all(some.map((event) => client.publish('bench-ioredis', JSON.stringify(event))));
        }
      },
      async subscribe(each) {
        client.on('message', (_, text) => each(JSON.parse(text).payload));
        await client.subscribe('bench-ioredis');
      },
    };
  },
};

function side(name, path) {
  if (name === 'redis' || name === 'ioredis') return sides[name](path);
  return sides.swarmbus(path, name);
}

/** One side of a pair, told what to do by its parent. */
async function child(name, role, path) {
  const own = await side(name, path);
  if (role === 'publisher') {
    process.on('message', async ({ count, from }) => {
      const list = events(count, from);
      process.send({ began: Date.now() });
      await own.publish(list);
    });
  } else {
    let [left, sum, last] = [0, 0, -1];
    process.on('message', ({ count, from }) => {
      [left, sum, last] = [count, 0, from - 1];
      process.send({ ready: true });
    });
    await own.subscribe((payload) => {
      assert.ok(payload !== undefined, 'events are missing');
      assert.equal(payload.task, last + 1);
      last = payload.task;
      sum += payload.task;
      left -= 1;
      if (left === 0) process.send({ ended: Date.now(), sum });
    });
  }
  process.send({ connected: true });
}

/** Waits for a word of a child. */
function word(process, name) {
  return new Promise((resolve, reject) => {
    const heard = (message) => {
      if (!(name in message)) return;
      process.off('message', heard).off('exit', ended);
      resolve(message);
    };
    const ended = (code) => reject(new Error(`a process has ended with code ${code}`));
    process.on('message', heard).once('exit', ended);
  });
}

async function pair(name, path) {
  const start = async (role) => {
    const process = fork(fileURLToPath(import.meta.url), ['--child', name, '--role', role, '--path', path]);
    await word(process, 'connected');
    return process;
  };
  const [publisher, subscriber] = [await start('publisher'), await start('subscriber')];
  let from = 0;
  return {
    /** Events delivered in a second. */
    async round(count) {
      subscriber.send({ count, from });
      await word(subscriber, 'ready');
      const [began, ended] = [word(publisher, 'began'), word(subscriber, 'ended')];
      publisher.send({ count, from });
      const { ended: end, sum } = await ended;
      assert.equal(sum, (count * (2 * from + count - 1)) / 2);
      from += count;
      return (count * 1_000) / Math.max(1, end - (await began).began);
    },
    end() {
      publisher.kill();
      subscriber.kill();
    },
  };
}

async function server(folder) {
  const path = join(folder, 'redis.sock');
  const args = ['--port', '0', '--unixsocket', path, '--save', '', '--client-output-buffer-limit', 'pubsub 0 0 0'];
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout })) {
    if (/ready to accept/i.test(line)) break;
  }
  child.stdout.resume();
  return { path, end: () => child.kill() };
}

function median(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

async function main({ quick, json, rounds, events: count }) {
  const folder = mkdtempSync(join(tmpdir(), 'swarmbus-bench-'));
  const redis = await server(folder);
  const times = Number(rounds ?? (quick ? 3 : 9));
  const each = Number(count ?? (quick ? 40_000 : 100_000));
  const pairs = {};
  const rates = Object.fromEntries(IMPLEMENTATIONS.map((name) => [name, []]));
  try {
    for (const name of IMPLEMENTATIONS) {
      pairs[name] = await pair(name, redis.path);
      // Until what runs often is compiled; that takes no longer for fewer events a round.
      await pairs[name].round(100_000);
    }
    for (let round = 0; round < times; round += 1) {
      for (const name of IMPLEMENTATIONS) rates[name].push(await pairs[name].round(each));
    }
  } finally {
    for (const one of Object.values(pairs)) one.end();
    redis.end();
    rmSync(folder, { recursive: true, force: true });
  }
  const rows = [];
  for (const ours of OURS) {
    for (const rival of RIVALS) {
      const ratios = rates[ours].map((rate, n) => rate / rates[rival][n]);
      rows.push({
        bench: 'messenger live, Node -> Node',
        ours,
        rival,
        ours_per_s: Math.round(median(rates[ours])),
        rival_per_s: Math.round(median(rates[rival])),
        ratio: Number(median(ratios).toFixed(2)),
        rounds: times,
        events: each,
      });
    }
  }
  for (const { ours, rival, ours_per_s, rival_per_s, ratio } of rows) {
    console.log(`${ours} ${ours_per_s}/s, ${rival} ${rival_per_s}/s: ${ratio} x`);
  }
  if (json !== undefined) writeFileSync(json, `${JSON.stringify(rows, undefined, 2)}\n`);
}

const { values } = parseArgs({
  options: {
    json: { type: 'string' },
    quick: { type: 'boolean' },
    rounds: { type: 'string' },
    events: { type: 'string' },
    child: { type: 'string' },
    role: { type: 'string' },
    path: { type: 'string' },
  },
});
if (values.child === undefined) await main(values);
else await child(values.child, values.role, values.path);
