/** What goes wrong between a transport and its server, on a real server, with both clients. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';

import { Channel, Event } from 'swarmbus';
import { RedisTransport, ioredis, nodeRedis } from 'swarmbus/redis';
import type { Call, Connection, Driver, Outcome, RedisOptions } from 'swarmbus/redis';

import { RedisServer, until } from '../support/redis.js';

let server: RedisServer;
before(async () => {
  server = await RedisServer.start();
  // A client that is loaded for the first time takes longer than some tests have.
  for (const driver of [nodeRedis(), ioredis()])
    await (await RedisTransport.connect(server.url, { driver })).close();
});
after(() => server[Symbol.asyncDispose]());

const event = (payload: unknown): Event => new Event({ type: 'test.event', payload });

let channels = 0;
const name = (): string => `t${(channels += 1)}-${process.pid}`;

/** A transport that is closed at the end. */
async function connected(
  work: (transport: RedisTransport) => Promise<void>,
  options: RedisOptions = {},
  url = server.url,
): Promise<void> {
  const transport = await RedisTransport.connect(url, options);
  try {
    await work(transport);
  } finally {
    await transport.closeWithin(0);
  }
}

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, 'localhost');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** The same driver with another way to connect. */
function through(driver: Driver, connect: (call: Call) => Promise<Connection>): Driver {
  return { name: driver.name, connect };
}

for (const driver of [nodeRedis(), ioredis()]) {
  describe(`over ${driver.name}`, () => {
    test('tries to connect to a server that does not answer leave no socket behind', async () => {
      await using own = await RedisServer.start();
      const sockets = (): number =>
        process.getActiveResourcesInfo().filter((kind) => kind === 'PipeWrap').length;
      const before = sockets();
      let tries = 0;
      const counting = through(driver, (call) => {
        tries += 1;
        return driver.connect(call);
      });
      const quick = { connectTimeout: 500, responseTimeout: 500, probeEvery: 50 };
      const transport = await RedisTransport.connect(`${own.url}?db=1`, {
        driver: counting,
        backoff: { base: 1, cap: 1 },
        ...quick,
      });
      own.freeze();
      await until(() => tries > 8, 'it tries again and again');
      await transport.closeWithin(0);
      await until(() => sockets() === before, 'all sockets are gone');
    });

    test('a server that takes no writes is not waited for without end', async () => {
      await using own = await RedisServer.start();
      // As during a failover by hand.
      await own.run('CLIENT', 'PAUSE', '15000', 'WRITE');
      const options = { driver, responseTimeout: 200 };
      await assert.rejects(RedisTransport.connect(own.url, options), { code: 'timed_out' });
    });

    test('what TLS fails with is told apart, and with the right certificate it does not', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'swarmbus-tls-'));
      const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
      const made = spawnSync('openssl', [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
        ...['-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'],
        ...['-keyout', key, '-out', certificate],
      ]);
      assert.equal(made.status, 0, String(made.stderr));
      const port = await freePort();
      const files = ['--tls-cert-file', certificate, '--tls-key-file', key];
      const ca = ['--tls-ca-cert-file', certificate, '--tls-auth-clients', 'no'];
      await using own = await RedisServer.start('--tls-port', String(port), ...files, ...ca);
      assert.ok(own);
      const url = `rediss://localhost:${port}`;
      for (let n = 0; n < 20; n += 1)
        await assert.rejects(RedisTransport.connect(url, { driver }), { code: 'tls' });
      const tls = { ca: readFileSync(certificate) };
      await connected(async (transport) => void (await transport.ping()), { driver, tls }, url);
      const nobody = `rediss://localhost:${await freePort()}`;
      await assert.rejects(RedisTransport.connect(nobody, { driver }), { code: 'unreachable' });
      rmSync(folder, { recursive: true });
    });

    test('answers to tasks reach the server before a close', () =>
      connected(
        async (here) => {
          const tasks = Channel.group(name());
          const there = await RedisTransport.connect(server.url, { driver });
          const inbox = await there.subscribe(tasks);
          await here.publishBatch(
            tasks,
            Array.from({ length: 50 }, (_, n) => event(n)),
          );
          for (let n = 0; n < 50; n += 1) {
            const task = await inbox.next();
            if (task?.kind === 'event') task.ack();
          }
          await there.close();
          const pending = await server.run('XPENDING', `swarmbus:{${tasks.name}}:tasks`, 'workers');
          assert.match(pending, /^\*4\r\n:0/);
        },
        { driver },
      ));
  });
}

test('a flush tells of all that was lost, in whichever mode', async () => {
  await using own = await RedisServer.start();
  await connected(
    async (transport) => {
      const all = [Channel.live(name()), Channel.durable(name())];
      for (const channel of all) await transport.publish(channel, event(0));
      await transport.flush();
      await own.kill();
      await until(() => transport.state.kind === 'disconnected', 'it is noticed');
      // By one connection; the others have ended too, and hear of it within a few turns.
      for (let turn = 0; turn < 100; turn += 1) await immediate();
      for (const channel of all)
        await transport.publishBatch(channel, [event(1), event(2), event(3), event(4)]);
      await own.begin();
      await until(() => transport.state.kind === 'connected', 'it is back');
      await assert.rejects(transport.flush(), { code: 'lost', events: 6 });
      await transport.flush();
    },
    { overflow: 'drop_oldest', bufferEvents: 1 },
    own.url,
  );
});

test('what the server does not take is handed back by a close', () =>
  connected(
    async (transport) => {
      const tasks = Channel.group(name());
      await transport.subscribe(tasks, { capacity: 1 });
      await transport.publishConfirmed(tasks, [event(1), event(2)]);
      await transport.publishBatch(tasks, [event(3), event(4)]);
      // It was sent, and the channel is full.
      await assert.rejects(transport.flush(), { code: 'refused' });
      await transport.publish(tasks, event(5));
      const left = await transport.closeWithin(0);
      assert.deepEqual(
        left.map(({ channel, event: { payload } }) => [channel.name, payload]),
        [3, 4, 5].map((payload) => [tasks.name, payload]),
      );
    },
    { maxTasks: 2, patience: 100 },
  ));

test('what a stranger says to the probe does not keep it from finding a dead connection', () => {
  let isDead = false;
  const driver = nodeRedis();
  const dying = through(driver, (call) =>
    driver.connect({
      ...call,
      onMessage: (channel, payload) => {
        if (!isDead) call.onMessage(channel, payload);
      },
    }),
  );
  return connected(
    async (transport) => {
      const [probe = ''] =
        (await server.run('PUBSUB', 'CHANNELS', `probed:{probe}:*`)).match(/probed:\S+/) ?? [];
      for (const number of ['9e99', 'Infinity', '123456'])
        await server.run('PUBLISH', probe, number);
      await transport.ping();
      isDead = true;
      await assert.rejects(transport.ping(), { code: 'timed_out' });
      isDead = false;
    },
    { driver: dying, prefix: 'probed', responseTimeout: 200 },
  );
});

test('a connection that breaks while it subscribes has subscribed to nothing', () => {
  const driver = nodeRedis();
  let state: 'well' | 'breaking' | 'gone' = 'well';
  let isTriedAgain = false;
  const breaking = through(driver, async (call) => {
    if (state === 'gone') {
      isTriedAgain = true;
      throw new Error('gone');
    }
    const connection = await driver.connect(call);
    const subscribe = async (names: readonly string[]): Promise<Outcome> => {
      const outcome = await connection.subscribe(names);
      if (state === 'breaking') {
        state = 'gone';
        await server.cut('pubsub');
      }
      return outcome;
    };
    return {
      send: (commands) => connection.send(commands),
      subscribe,
      unsubscribe: (names) => connection.unsubscribe(names),
      destroy: () => connection.destroy(),
    };
  });
  return connected(
    async (transport) => {
      // More than go into one SUBSCRIBE.
      const all = Array.from({ length: 600 }, () => Channel.live(name()));
      await Promise.all(all.map((channel) => transport.subscribe(channel)));
      state = 'breaking';
      await server.cut('pubsub');
      await until(() => isTriedAgain, 'it breaks');
      const again = transport.subscribe(all[0] as Channel);
      await assert.rejects(again, { code: 'disconnected' });
    },
    { driver: breaking, responseTimeout: 500 },
  );
});

test('times may be as long as one likes', async () => {
  const overflows: string[] = [];
  const warned = (warning: Error): void => void overflows.push(warning.name);
  process.on('warning', warned);
  const long = Number.MAX_SAFE_INTEGER;
  await connected(
    async (transport) => {
      const [news, log, tasks] = [
        Channel.live(name()),
        Channel.durable(name()),
        Channel.group(name()),
      ];
      for (const channel of [news, log, tasks]) {
        const inbox = await transport.subscribe(channel, { redeliverAfter: 2 ** 40 });
        await transport.publish(channel, event(1));
        await transport.flush();
        const received = await inbox.next();
        assert.equal(received?.kind, 'event');
      }
      await transport.ping();
    },
    {
      connectTimeout: long,
      responseTimeout: long,
      probeEvery: long,
      patience: long,
      checkEvery: long,
    },
  );
  process.off('warning', warned);
  assert.deepEqual(overflows, []);
});

test('a publisher waits no longer than it is told to, whatever the clock on the wall does', async (t) => {
  await using own = await RedisServer.start();
  const options = { bufferEvents: 1, patience: 100 };
  await connected(
    async (transport) => {
      const news = Channel.live(name());
      await own.kill();
      await until(() => transport.state.kind === 'disconnected', 'it is noticed');
      let why: unknown;
      // The publisher's own connection may be noticed later: what it still takes makes room.
      const publishing = async (): Promise<never> => {
        for (;;) await transport.publish(news, event(1));
      };
      const waiting = publishing().catch((error: unknown) => (why = error));
      const { now } = Date;
      t.mock.method(Date, 'now', () => now() - 3_600_000);
      await until(() => why !== undefined, 'it is refused', 5_000);
      await waiting;
    },
    options,
    own.url,
  );
});

test('a worker whose channel is gone does not ask the server without a pause', async () => {
  await using own = await RedisServer.start();
  await connected(
    async (transport) => {
      const tasks = Channel.group(name());
      const inbox = await transport.subscribe(tasks);
      await transport.publish(tasks, event(1));
      await inbox.next();
      // The group cannot be made again.
      await own.run('CONFIG', 'SET', 'maxmemory', '1');
      const calls = async (): Promise<number> =>
        Number(/xreadgroup:calls=(\d+)/.exec(await own.run('INFO', 'commandstats'))?.[1] ?? 0);
      const [first, began] = [await calls(), performance.now()];
      await own.run('FLUSHALL');
      await until(async () => (await calls()) >= first + 5, 'it asks again');
      // 50, 100, 200 and 400 ms, less what passed before the first.
      assert.ok(performance.now() - began > 500);
      inbox.close();
    },
    {},
    own.url,
  );
});
