/** The transport over Redis, on a real server, with both clients. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';

import {
  Channel,
  Event,
  Position,
  TransportError,
  TransportPublishError,
  liveHandles,
} from 'swarmbus';
import type { Inbox, Received } from 'swarmbus';
import { ConnectionError, RedisTransport, SettingsError, ioredis, nodeRedis } from 'swarmbus/redis';
import type { RedisOptions } from 'swarmbus/redis';

import { RedisServer, until } from '../support/redis.js';

let server: RedisServer;
before(async () => {
  server = await RedisServer.start();
});
after(() => server[Symbol.asyncDispose]());

const event = (payload: unknown): Event => new Event({ type: 'test.event', payload });
const numbers = (count: number, from = 1): Event[] =>
  Array.from({ length: count }, (_, n) => event(from + n));

/** The next event of an inbox. */
async function next(inbox: Inbox): Promise<Received> {
  const incoming = await inbox.next();
  assert.equal(incoming?.kind, 'event', String(incoming ?? inbox.error));
  return incoming as Received;
}

/** Two transports on one server, closed at the end. */
async function pair(
  work: (here: RedisTransport, there: RedisTransport) => Promise<void>,
  options: RedisOptions = {},
  url = server.url,
): Promise<void> {
  const here = await RedisTransport.connect(url, options);
  const there = await RedisTransport.connect(url, options);
  try {
    await work(here, there);
  } finally {
    await here.closeWithin(0);
    await there.closeWithin(0);
  }
}

let channels = 0;
const name = (): string => `c${(channels += 1)}-${process.pid}`;

for (const driver of [nodeRedis(), ioredis()]) {
  describe(`over ${driver.name}`, () => {
    const options: RedisOptions = { driver };

    test('everybody who listens to a live channel gets an event once', () =>
      pair(async (here, there) => {
        const [news, other] = [Channel.live(name()), Channel.live(name())];
        const inboxes = await Promise.all([
          here.subscribe(news),
          there.subscribe(news),
          there.subscribe(news),
        ]);
        const elsewhere = await there.subscribe(other);
        await here.publishBatch(news, numbers(1_000));
        await here.publish(other, event('else'));
        for (const inbox of inboxes) {
          for (let n = 1; n <= 1_000; n += 1) assert.equal((await next(inbox)).event.payload, n);
        }
        assert.equal((await next(elsewhere)).event.payload, 'else');
        assert.ok((await here.ping()) > 0);
      }, options));

    test('a payload that publishes while it is written comes in its place, and nothing is missing', () =>
      pair(async (here, there) => {
        for (const channel of [Channel.live(name()), Channel.durable(name())]) {
          const inbox = await there.subscribe(channel);
          await here.publish(channel, event('before'));
          const toJSON = (): string => {
            void here.publish(channel, event('inner'));
            return 'outer';
          };
          await here.publish(channel, { type: 'x', payload: { toJSON } });
          await here.publish(channel, event('after'));
          const came: unknown[] = [];
          while (came.at(-1) !== 'after') came.push((await next(inbox)).event.payload);
          // It may be written more than once.
          const once = came.filter((payload, n) => came.indexOf(payload) === n);
          assert.deepEqual(once, ['before', 'inner', 'outer', 'after']);
          assert.equal(came.length - once.length, came.filter((it) => it === 'inner').length - 1);
        }
      }, options));

    test('a channel that was left is listened to again, and nothing comes twice', () =>
      pair(async (here, there) => {
        for (const channel of [Channel.live(name()), Channel.durable(name())]) {
          const before = await there.subscribe(channel);
          before.close();
          const inboxes = [await there.subscribe(channel), await there.subscribe(channel)];
          inboxes[0]?.close();
          await here.publishBatch(channel, numbers(3));
          for (let n = 1; n <= 3; n += 1)
            assert.equal((await next(inboxes[1] as Inbox)).event.payload, n);
          await here.publish(channel, event('last'));
          assert.equal((await next(inboxes[1] as Inbox)).event.payload, 'last');
        }
      }, options));

    test('an event arrives as it was published', () =>
      pair(async (here, there) => {
        const sent = new Event({
          type: 'order.placed',
          payload: { id: 17, bytes: new Uint8Array([1, 2, 3]) },
          source: 'shop',
          priority: 8,
          target: 'swarm:blue',
          correlationId: 'c-1',
          attributes: { tenant: 'acme' },
          hops: ['edge'],
        });
        sent.stamp(1_700_000_000_123_456, 42, 7);
        for (const channel of [
          Channel.live(name()),
          Channel.durable(name()),
          Channel.group(name()),
        ]) {
          const inbox = await there.subscribe(channel);
          await here.publish(channel, sent);
          const { event: came } = await next(inbox);
          for (const field of [
            'id',
            'type',
            'source',
            'priority',
            'target',
            'correlationId',
            'hops',
          ] as const) {
            assert.deepEqual(came[field], sent[field], field);
          }
          assert.deepEqual({ ...came.attributes }, { tenant: 'acme' });
          assert.deepEqual((came.payload as { id: number }).id, 17);
        }
      }, options));

    test('a durable channel is read from its beginning, from a position, and from now on', () =>
      pair(async (here, there) => {
        const log = Channel.durable(name());
        await here.publishConfirmed(log, numbers(3));
        const fresh = await there.subscribe(log);
        const all = await there.subscribe(log, { start: 'beginning' });
        assert.equal((await next(all)).event.payload, 1);
        const second = await next(all);
        const saved = JSON.parse(JSON.stringify(second.position)) as string;
        const resumed = await there.subscribe(log, { start: Position.parse(saved) });
        await here.publish(log, event(4));
        for (const n of [3, 4]) assert.equal((await next(all)).event.payload, n);
        for (const n of [3, 4]) assert.equal((await next(resumed)).event.payload, n);
        assert.equal((await next(fresh)).event.payload, 4);
        const history = await there.history(log, 2);
        assert.deepEqual(
          history.map((received) => received.event.payload),
          [3, 4],
        );
      }, options));

    test('a task goes to one of a group, and again until it is done', () =>
      pair(async (here, there) => {
        const tasks = Channel.group(name());
        const [a, b] = await Promise.all([here.subscribe(tasks), there.subscribe(tasks)]);
        const other = await there.subscribe(tasks, { group: 'others' });
        await here.publishBatch(tasks, numbers(20));
        const done: unknown[] = [];
        const work = async (inbox: Inbox): Promise<void> => {
          for await (const incoming of inbox) {
            if (incoming.kind === 'gap') continue;
            if (incoming.event.payload === 7 && !incoming.redelivered) {
              incoming.nack(1);
              continue;
            }
            done.push(incoming.event.payload);
            incoming.ack();
          }
        };
        const working = [work(a), work(b)];
        await until(() => done.length === 20, 'all tasks are done');
        assert.deepEqual(
          done.sort((x, y) => Number(x) - Number(y)),
          Array.from({ length: 20 }, (_, n) => n + 1),
        );
        for (let n = 1; n <= 20; n += 1) assert.equal((await next(other)).event.payload, n);
        await Promise.all([here.flush(), there.flush()]);
        const pending = await server.run('XPENDING', `swarmbus:{${tasks.name}}:tasks`, 'workers');
        assert.match(pending, /^\*4\r\n:0/);
        a.close();
        b.close();
        await Promise.all(working);
      }, options));

    test('what was delivered too often is a dead letter', () =>
      pair(async (here, there) => {
        const tasks = Channel.group(name());
        const inbox = await there.subscribe(tasks, { maxDeliveries: 3 });
        await here.publish(tasks, event('poison'));
        for (let n = 1; n <= 3; n += 1) {
          const task = await next(inbox);
          assert.equal(task.deliveries, n);
          task.nack();
        }
        await there.flush();
        const [dead] = await here.deadLetters(tasks, 10);
        assert.deepEqual(
          [dead?.event.payload, dead?.group, dead?.deliveries],
          ['poison', 'workers', 3],
        );
        for (const none of [0, -1, Number.NaN]) {
          assert.deepEqual(await here.deadLetters(tasks, none), []);
          assert.deepEqual(await here.history(Channel.durable(tasks.name), none), []);
        }
      }, options));

    test('a key publishes once', () =>
      pair(async (here, there) => {
        for (const channel of [Channel.durable(name()), Channel.group(name())]) {
          const once = await Promise.all(
            [1, 2, 3].map((n) =>
              (n % 2 === 0 ? here : there).publishOnce(channel, 'key', event(n)),
            ),
          );
          assert.equal(once.filter(Boolean).length, 1);
        }
        const refused = here.publishOnce(Channel.live(name()), 'key', event(1));
        await assert.rejects(
          refused,
          (error: TransportPublishError) => error.code === 'unsupported' && error.rest.length === 1,
        );
      }, options));

    test('cut connections lose nothing in silence in live channels', () =>
      pair(async (here, there) => {
        const news = Channel.live(name());
        const inbox = await there.subscribe(news, { capacity: 100_000 });
        const seen = { events: 0, missed: 0, last: 0 };
        const reading = (async () => {
          for await (const incoming of inbox) {
            if (incoming.kind === 'gap') {
              seen.missed += incoming.missed ?? 0;
            } else {
              const n = incoming.event.payload as number;
              assert.ok(n > seen.last, `${n} after ${seen.last}`);
              seen.last = n;
              seen.events += 1;
            }
          }
        })();
        let sent = 0;
        const publish = async (until: () => boolean): Promise<void> => {
          while (!until()) {
            await here.publish(news, event((sent += 1)));
            if (sent % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
          }
        };
        await publish(() => seen.events > 500);
        for (const kind of ['pubsub', 'normal', 'pubsub'] as const) {
          const before = seen.events;
          await server.cut(kind);
          await publish(() => seen.events > before + 500);
        }
        await here.flush().catch((error: TransportError) => assert.equal(error.code, 'lost'));
        // The last of them may be missing: the next shows that.
        await until(async () => {
          await here.publish(news, event((sent += 1)));
          return seen.events + seen.missed >= sent - 10;
        }, 'everything is delivered or reported');
        await until(() => seen.events + seen.missed === sent, 'all has come');
        inbox.close();
        await reading;
      }, options));

    test('cut connections lose and double nothing in durable channels', () =>
      pair(async (here, there) => {
        const log = Channel.durable(name());
        const inbox = await there.subscribe(log);
        const seen: number[] = [];
        const reading = (async () => {
          for await (const incoming of inbox) {
            assert.equal(incoming.kind, 'event', String(incoming));
            if (incoming.kind === 'event') seen.push(incoming.event.payload as number);
          }
        })();
        let sent = 0;
        for (const kind of ['normal', 'pubsub', 'normal', 'pubsub'] as const) {
          const before = seen.length;
          await server.cut(kind);
          while (seen.length < before + 300) {
            await here.publish(log, event((sent += 1)));
            if (sent % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
          }
        }
        await here.flush();
        await until(() => seen.length >= sent, 'all has come');
        assert.deepEqual(
          seen,
          Array.from({ length: sent }, (_, n) => n + 1),
        );
        inbox.close();
        await reading;
      }, options));

    test('cut connections leave no task undone and double none without a mark', () =>
      pair(async (here, there) => {
        const tasks = Channel.group(name());
        const inbox = await there.subscribe(tasks, { redeliverAfter: 2_000 });
        const done = new Map<number, number>();
        let unmarked = 0;
        const reading = (async () => {
          for await (const incoming of inbox) {
            if (incoming.kind === 'gap') assert.fail(String(incoming));
            const n = incoming.event.payload as number;
            if (done.has(n) && !incoming.redelivered) unmarked += 1;
            done.set(n, (done.get(n) ?? 0) + 1);
            incoming.ack();
          }
        })();
        let sent = 0;
        for (const kind of ['normal', 'normal', 'normal'] as const) {
          const before = done.size;
          await here.publishBatch(tasks, numbers(200, sent + 1));
          sent += 200;
          await server.cut(kind);
          await until(() => done.size > before + 100, 'work goes on');
        }
        await until(() => done.size === sent, 'all tasks are done');
        assert.equal(unmarked, 0);
        inbox.close();
        await reading;
      }, options));

    test('a wrong password, a replica and an empty address are told apart', async () => {
      await using guarded = await RedisServer.start('--requirepass', 'pa55word');
      const code = (expected: string) => (error: ConnectionError) => {
        assert.ok(error instanceof ConnectionError, String(error));
        assert.equal(error.code, expected, error.message);
        assert.ok(!error.message.includes('pa55'), error.message);
        return true;
      };
      await assert.rejects(
        RedisTransport.connect(`${guarded.url}?pass=pa55wrong`, options),
        code('wrong_password'),
      );
      await assert.rejects(RedisTransport.connect(guarded.url, options), code('wrong_password'));
      const ok = await RedisTransport.connect(`${guarded.url}?pass=pa55word`, options);
      await ok.close();
      await guarded.run('AUTH', 'pa55word');
      await assert.rejects(
        RedisTransport.connect('unix:///nowhere/redis.sock', options),
        code('unreachable'),
      );
      await using replica = await RedisServer.start('--replicaof', '127.0.0.1', '1');
      await assert.rejects(RedisTransport.connect(replica.url, options), (error: ConnectionError) =>
        ['wrong_role', 'loading'].includes(error.code),
      );
    });
  });
}

test('settings that make no sense are refused, without the password', async () => {
  for (const url of [
    '',
    'localhost',
    'http://localhost',
    'redis://u:pa55@h/x',
    'redis://u:pa55@h:99999',
  ]) {
    await assert.rejects(RedisTransport.connect(url), (error: SettingsError) => {
      assert.ok(error instanceof SettingsError);
      return !error.message.includes('pa55');
    });
  }
  await assert.rejects(RedisTransport.connect(server.url, { prefix: 'a{b}' }), { code: 'prefix' });
  for (const numbers of [
    { batchEvents: 0 },
    { batchDelay: Infinity },
    { backoff: { base: Number.NaN, cap: 1 } },
    { backoff: { base: 1, cap: -1 } },
  ])
    await assert.rejects(RedisTransport.connect(server.url, numbers), { code: 'number' });
  for (const overflow of ['drop' as 'reject', { policy: 'adaptive_rate', cut: 2 } as const]) {
    await assert.rejects(RedisTransport.connect(server.url, { overflow }), { code: 'overflow' });
  }
});

test('what a mode cannot do is refused', () =>
  pair(async (here) => {
    const [live, group] = [Channel.live(name()), Channel.group(name())];
    await assert.rejects(here.subscribe(live, { start: 'beginning' }), { code: 'unsupported' });
    await assert.rejects(here.subscribe(group, { start: new Position('0'.repeat(16), 1) }), {
      code: 'unsupported',
    });
    await assert.rejects(here.subscribe(group, { group: 'two words' }), { code: 'name' });
    await assert.rejects(here.history(live, 1), { code: 'unsupported' });
    await assert.rejects(here.deadLetters(live, 1), { code: 'unsupported' });
    await assert.rejects(
      here.publish(live, { type: 'x', priority: 10 }),
      (error: TransportPublishError) => {
        assert.deepEqual([error.code, error.rest.length], ['unfit', 1]);
        return true;
      },
    );
  }));

test('after a close everything fails, and inboxes end', () =>
  pair(async (here) => {
    const news = Channel.live(name());
    const inboxes = [
      await here.subscribe(news),
      await here.subscribe(Channel.durable(name())),
      await here.subscribe(Channel.group(name())),
    ];
    await here.close();
    await here.close();
    for (const inbox of inboxes) {
      assert.equal(await inbox.next(), undefined);
      assert.equal(inbox.error, undefined);
    }
    await assert.rejects(here.publish(news, event(1)), { code: 'closed' });
    // Nobody awaits these: they are counted, and no unhandled rejections.
    const before = here.refused;
    void here.publish(news, event(1));
    void here.publishBatch(Channel.durable(name()), [event(1), event(2)]);
    await immediate();
    assert.equal(here.refused, before + 3);
    await assert.rejects(here.flush(), { code: 'closed' });
    await assert.rejects(here.subscribe(news), { code: 'closed' });
    assert.equal(here.state.kind, 'closed');
  }));

test('a slow live inbox is told what it missed, a durable one reads it later', () =>
  pair(async (here, there) => {
    const [news, log] = [Channel.live(name()), Channel.durable(name())];
    const slow = await there.subscribe(news, { capacity: 10 });
    const patient = await there.subscribe(log, { capacity: 10 });
    const witness = await there.subscribe(news);
    await here.publishBatch(news, numbers(1_000));
    await here.publishBatch(log, numbers(1_000));
    for (let n = 1; n <= 1_000; n += 1) await next(witness);
    for (let n = 1; n <= 10; n += 1) assert.equal((await next(slow)).event.payload, n);
    const gap = await slow.next();
    assert.deepEqual(gap?.kind === 'gap' && [gap.missed, gap.reason], [990, 'slow']);
    for (let n = 1; n <= 1_000; n += 1) assert.equal((await next(patient)).event.payload, n);
  }));

test('what the log no longer has is a gap of its size', () =>
  pair(
    async (here, there) => {
      const log = Channel.durable(name());
      await here.publishConfirmed(log, [event(0)]);
      const first = (await there.history(log, 1))[0]?.position;
      await here.publishConfirmed(log, numbers(2_000));
      const inbox = await there.subscribe(log, { start: first });
      const gap = await inbox.next();
      assert.ok(
        gap?.kind === 'gap' && gap.reason === 'trimmed' && gap.missed !== undefined,
        String(gap),
      );
      const { missed } = gap as { missed: number };
      for (let n = missed + 1; n <= 2_000; n += 1)
        assert.equal((await next(inbox)).event.payload, n);
    },
    { retention: 10, batchEvents: 1 },
  ));

test('a server that loses everything begins a new epoch', () =>
  pair(async (here, there) => {
    const [log, tasks] = [Channel.durable(name()), Channel.group(name())];
    const [reader, worker] = [await there.subscribe(log), await there.subscribe(tasks)];
    for (const channel of [log, tasks]) await here.publishConfirmed(channel, [event(1)]);
    assert.equal((await next(reader)).event.payload, 1);
    (await next(worker)).ack();
    await there.flush();
    await server.run('FLUSHALL');
    for (const [channel, inbox] of [
      [log, reader],
      [tasks, worker],
    ] as const) {
      await here.publishConfirmed(channel, [event(2)]);
      const gap = await inbox.next();
      assert.ok(gap?.kind === 'gap' && gap.reason === 'new_epoch', String(gap));
      assert.equal((await next(inbox)).event.payload, 2);
    }
  }));

test('nothing durable is lost when the server is killed and comes back', async () => {
  await using own = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always');
  await pair(
    async (here, there) => {
      const [log, tasks] = [Channel.durable(name()), Channel.group(name())];
      const [reader, worker] = [
        await there.subscribe(log),
        await there.subscribe(tasks, { redeliverAfter: 1_000 }),
      ];
      const states: string[] = [];
      there.onState((state) => {
        states.push(state.kind);
        throw new Error('a listener that fails');
      });
      const read: number[] = [];
      const done = new Set<number>();
      void (async () => {
        for await (const incoming of reader) {
          assert.equal(incoming.kind, 'event', String(incoming));
          if (incoming.kind === 'event') read.push(incoming.event.payload as number);
        }
      })();
      void (async () => {
        for await (const incoming of worker) {
          if (incoming.kind === 'gap') assert.fail(String(incoming));
          assert.ok(!done.has(incoming.event.payload as number) || incoming.redelivered);
          done.add(incoming.event.payload as number);
          incoming.ack();
        }
      })();
      let sent = 0;
      for (let round = 0; round < 2; round += 1) {
        await here.publishBatch(log, numbers(500, sent + 1));
        await here.publishBatch(tasks, numbers(500, sent + 1));
        sent += 500;
        await until(() => read.length > sent - 400, 'some have come');
        await own.kill();
        await until(() => here.state.kind === 'disconnected', 'it is noticed');
        await here.publishBatch(log, numbers(100, sent + 1));
        await here.publishBatch(tasks, numbers(100, sent + 1));
        sent += 100;
        await own.begin();
        await here.flush();
      }
      await until(() => read.length >= sent && done.size === sent, 'all has come');
      assert.deepEqual(
        read,
        Array.from({ length: sent }, (_, n) => n + 1),
      );
      await until(() => there.state.kind === 'connected', 'all connections are back');
      assert.ok(states.includes('disconnected') && states.at(-1) === 'connected', String(states));
    },
    {},
    own.url,
  );
});

test('what a server lost that had confirmed it is missed by those who did not have it', async () => {
  await using own = await RedisServer.start();
  await pair(
    async (here, there) => {
      const log = Channel.durable(name());
      await here.publishConfirmed(log, numbers(100));
      const reader = await there.subscribe(log, { start: 'beginning' });
      // From here on it will forget, as a replica does that was behind.
      await own.run('SAVE');
      await here.publishConfirmed(log, numbers(100, 101));
      for (let n = 1; n <= 200; n += 1) assert.equal((await next(reader)).event.payload, n);
      await own.kill();
      await own.begin();
      await here.publishConfirmed(log, numbers(10, 201));
      for (let n = 201; n <= 210; n += 1) {
        const { event, position } = await next(reader);
        assert.deepEqual([event.payload, position?.term], [n, 1]);
      }
      const late = await there.subscribe(log, { start: 'beginning' });
      for (let n = 1; n <= 100; n += 1) assert.equal((await next(late)).event.payload, n);
      const gap = await late.next();
      assert.ok(gap?.kind === 'gap' && gap.missed === 100 && gap.reason === 'lost', String(gap));
      assert.equal((await next(late)).event.payload, 201);
    },
    {},
    own.url,
  );
});

test('tasks that another server may have given to somebody are marked, those of one that keeps all are not', async () => {
  for (const keeps of [false, true]) {
    const args = keeps ? ['--appendonly', 'yes', '--appendfsync', 'always'] : [];
    await using own = await RedisServer.start(...args);
    await pair(
      async (here, there) => {
        const tasks = Channel.group(name());
        const first = await there.subscribe(tasks, { capacity: 1 });
        await here.publishConfirmed(tasks, numbers(5));
        const held = await next(first);
        await first.close();
        if (!keeps) await own.run('SAVE');
        await own.kill();
        await own.begin();
        await here.publishConfirmed(tasks, numbers(2, 6));
        const worker = await there.subscribe(tasks);
        for (let n = 2; n <= 7; n += 1) {
          const task = await next(worker);
          assert.deepEqual([task.event.payload, task.redelivered], [n, !keeps && n <= 5]);
          task.ack();
        }
        held.ack();
      },
      {},
      own.url,
    );
  }
});

test('while the server is away, the policy decides', async () => {
  await using own = await RedisServer.start();
  const news = Channel.live('news');
  const filled = async (options: RedisOptions): Promise<RedisTransport> => {
    await own.begin();
    const transport = await RedisTransport.connect(own.url, { bufferEvents: 10, ...options });
    await own.kill();
    await until(() => transport.state.kind === 'disconnected', 'it is noticed');
    // By one connection; the other has ended too, and hears of it within a few turns.
    for (let turn = 0; turn < 100; turn += 1) await immediate();
    for (let n = 0; n < 10; n += 1)
      await transport.publish(news, { type: 'x', payload: n, priority: n });
    return transport;
  };
  await own.kill();
  const left = async (transport: RedisTransport): Promise<unknown[]> =>
    (await transport.closeWithin(0)).map((entry) => entry.event.payload);

  let transport = await filled({ patience: 50 });
  const refused = transport.publish(news, event('new'));
  await assert.rejects(
    refused,
    (error: TransportPublishError) => error.event?.payload === 'new' && error.isTemporary,
  );
  assert.deepEqual(await left(transport), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

  transport = await filled({ overflow: 'drop_oldest' });
  await transport.publish(news, event('new'));
  assert.deepEqual(await left(transport), [1, 2, 3, 4, 5, 6, 7, 8, 9, 'new']);

  transport = await filled({ overflow: 'drop_lowest_priority' });
  await transport.publish(news, event('new'));
  await assert.rejects(transport.publish(news, { type: 'x', priority: 1 }), { code: 'full' });
  assert.deepEqual(await left(transport), [1, 2, 3, 4, 5, 6, 7, 8, 9, 'new']);

  // A publisher that waits goes on when there is room.
  transport = await filled({});
  const waiting = [
    transport.publish(news, event('a')),
    transport.publishBatch(news, [event('b'), event('c')]),
  ];
  await own.begin();
  await Promise.all(waiting);
  await transport.flush();
  await transport.close();
});

test('adaptive_rate slows publishers down before the buffer is full, and urgent events pass', async () => {
  await using own = await RedisServer.start();
  const handles = liveHandles();
  const news = Channel.live('news');
  const overflow = { policy: 'adaptive_rate', minRate: 1 } as const;
  const transport = await RedisTransport.connect(own.url, { bufferEvents: 100, overflow });
  await own.kill();
  await until(() => transport.state.kind === 'disconnected', 'it is noticed');
  let waiting: Promise<void> | undefined;
  for (let n = 0; waiting === undefined; n += 1) {
    const published = transport.publish(news, event(n));
    let isAccepted = false;
    void published.then(() => (isAccepted = true));
    for (let turn = 0; turn < 20 && !isAccepted; turn += 1) await immediate();
    if (!isAccepted) waiting = published;
  }
  let hasWaited = true;
  void waiting.then(() => (hasWaited = false));
  // There is still room for it, and it does not wait its turn.
  await transport.publish(news, { type: 'urgent', priority: 9 });
  assert.ok(hasWaited, 'it has passed the one that waits');
  await own.begin();
  await waiting;
  for (let n = 0; n < 1_000; n += 1) await transport.publish(news, event(n));
  await transport.flush();
  assert.equal(transport.refused, 0);
  await transport.close();
  assert.equal(liveHandles(), handles, 'linear memory goes back');
});

test('a publisher that falls silent says where it is', () =>
  pair(
    async (here, there) => {
      const news = Channel.live(name());
      const inbox = await there.subscribe(news);
      await here.publish(news, event(1));
      await next(inbox);
      // Breaks the subscriber's connection only, and what is published meanwhile is the last.
      await server.cut('pubsub');
      await here.publish(news, event(2));
      const last = await inbox.next();
      const gap = last?.kind === 'gap' && last.missed === 1 && last.reason === 'disconnected';
      assert.ok(gap || (last?.kind === 'event' && last.event.payload === 2), String(last));
    },
    { probeEvery: 100 },
  ));
