/** Messengers, over a real server. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Channel, Event, Messenger, RequestError, To, liveHandles } from 'swarmbus';
import type { Message, MessengerOptions, Transport } from 'swarmbus';
import { RedisTransport } from 'swarmbus/redis';

import { RedisServer, until } from '../support/redis.js';

let server: RedisServer;
let transport: Transport;
before(async () => {
  server = await RedisServer.start();
  // A machine that is busy with other things may take its time.
  transport = await RedisTransport.connect(server.url, {
    connectTimeout: 60_000,
    responseTimeout: 60_000,
  });
});
after(async () => {
  await (transport as Transport | undefined)?.close();
  await server[Symbol.asyncDispose]();
});

/** Messengers that are closed at the end. */
async function joined(
  who: readonly string[],
  work: (...messengers: Messenger[]) => Promise<void>,
  options: MessengerOptions = {},
): Promise<void> {
  const messengers = await Promise.all(
    who.map((name) => {
      const [swarm = '', agent = ''] = name.split('/');
      return Messenger.join(transport, swarm, agent, options);
    }),
  );
  try {
    await work(...messengers);
  } finally {
    await Promise.all(messengers.map((messenger) => messenger.close(1_000)));
  }
}

/** What a messenger gets, as `agent:payload`. */
function heard(messenger: Messenger): string[] {
  const all: string[] = [];
  messenger.on('>', (message) => void all.push(`${message.agent}:${String(message.payload)}`));
  return all;
}

for (const durable of [false, true]) {
  test(`messages reach those they are for and nobody else, ${durable ? 'durable' : 'live'}`, () =>
    joined(
      ['a/a1', 'a/a2', 'b/b1'],
      async (a1, a2, b1) => {
        const [to1, to2, toB] = [a1, a2, b1].map((messenger) => heard(messenger as Messenger)) as [
          string[],
          string[],
          string[],
        ];
        const text = (payload: string): Event => new Event({ type: 'note.sent', payload });
        await a1?.send(To.swarm('a'), text('swarm'));
        await a1?.send(To.agent('b1'), text('agent'));
        await a1?.broadcast(text('all'));
        await b1?.broadcast(text('back'));
        await until(
          () => to2.length === 2 && toB.length === 2 && to1.length === 1,
          'all have come',
        );
        assert.deepEqual(to1, ['b1:back']);
        assert.deepEqual(to2.sort(), ['a1:swarm', 'b1:back']);
        assert.deepEqual(toB.sort(), ['a1:agent', 'a1:all']);
        const stats = a1?.stats();
        assert.deepEqual([stats?.sent, stats?.received, stats?.own], [3, 1, 2]);
        const passed = b1
          ?.history()
          .map(({ sent, channel }) => `${sent ? '>' : '<'} ${channel.name}`);
        assert.deepEqual(passed?.sort(), ['< agent:b1', '< broadcast', '> broadcast']);
        assert.equal(a2?.history()[0]?.event.target, 'swarm:a');
      },
      { durable },
    ));
}

test('a request ends in an answer or in the reason why not', () =>
  joined(['a/asker', 'b/answerer'], async (asker, answerer) => {
    if (asker === undefined || answerer === undefined) return;
    answerer.respond('stock.asked', (message: Message<{ of: string }>) => ({
      of: message.payload.of,
      count: 12,
    }));
    answerer.respond('stock.broken', () => {
      throw new Error('no stock today');
    });
    const ended: boolean[] = [];
    answerer.respond('stock.slow', async (_, signal) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      ended.push(true);
    });
    const to = To.agent('answerer');
    const request = new Event({
      type: 'stock.asked',
      payload: { of: 'planks' },
      correlationId: 'c-1',
      priority: 7,
    });
    const answer = await asker.request(to, request);
    assert.deepEqual(answer.payload, { of: 'planks', count: 12 });
    assert.deepEqual(
      [answer.correlationId, answer.priority, answer.source],
      ['c-1', 7, 'answerer'],
    );
    const code = (event: Event, code: string, more = {}) =>
      assert.rejects(asker.request(to, event), { name: 'RequestError', code, ...more });
    await code(new Event({ type: 'stock.broken' }), 'failed', {
      message: 'the other side failed: no stock today',
    });
    await code(new Event({ type: 'unknown' }), 'refused', { refusal: 'no-responder' });
    const soon = (Date.now() + 100) * 1_000;
    await code(new Event({ type: 'stock.slow', deadline: soon }), 'no_answer');
    await until(() => ended.length === 1, 'the responder is told');
    await code(new Event({ type: 'stock.asked', deadline: 1 }), 'expired');
    await assert.rejects(asker.request(To.tasks('q'), { type: 'x' }), { code: 'tasks' });
    const gone = new AbortController();
    const waiting = asker.request(to, { type: 'stock.slow' }, { signal: gone.signal });
    assert.equal(asker.waiting, 1);
    gone.abort();
    await assert.rejects(waiting, { code: 'aborted' });
    assert.equal(asker.waiting, 0);
    const { requests, answered, refused, unanswered } = asker.stats();
    assert.deepEqual([requests, answered, refused, unanswered], [5, 2, 1, 1]);
  }));

test('of a swarm the first answer counts, and requests and answers at once are bounded', () =>
  joined(
    ['a/asker', 'b/one', 'b/two', 'b/three'],
    async (asker, one, two, three) => {
      if (asker === undefined) return;
      one?.respond('who', () => 'one');
      two?.respond('who', () => 'two');
      const answer = await asker.request(To.swarm('b'), { type: 'who' });
      assert.ok(['one', 'two'].includes(String(answer.payload)));
      let finish!: () => void;
      const finished = new Promise<void>((resolve) => (finish = resolve));
      three?.respond('wait', async () => {
        await finished;
        return 'done';
      });
      const first = asker.request(To.agent('three'), { type: 'wait' });
      await until(() => three?.stats().received === 2, 'it has come');
      await assert.rejects(asker.request(To.agent('three'), { type: 'wait' }), { refusal: 'busy' });
      const second = asker
        .request(To.swarm('b'), { type: 'nobody' })
        .catch((error: RequestError) => error.code);
      await assert.rejects(asker.request(To.agent('three'), { type: 'wait' }), {
        code: 'too_many',
      });
      finish();
      assert.equal((await first).payload, 'done');
      await asker.close(1_000);
      assert.equal(await second, 'closed');
      await until(() => asker.stats().lateAnswers <= 1, 'the other answer is late');
    },
    { maxRequests: 2, maxAnswers: 1 },
  ));

test('a topic is for those who follow it', () =>
  joined(['a/a1', 'b/b1', 'c/c1'], async (a1, b1, c1) => {
    if (a1 === undefined || b1 === undefined || c1 === undefined) return;
    const [mine, yours] = [await a1.topic('election'), await b1.topic('election')];
    const votes: string[] = [];
    mine.on('vote.*', () => void votes.push('own'));
    yours.on(
      'vote.*',
      (message) => void votes.push(`${message.agent}: ${String(message.payload)}`),
    );
    const others = heard(c1);
    await mine.send({ type: 'vote.cast', payload: 'b1' });
    await until(() => votes.length === 1, 'the vote has come');
    yours.close();
    await mine.send({ type: 'vote.cast', payload: 'again' });
    await a1.send(To.agent('c1'), { type: 'end' });
    await until(() => others.length === 1, 'the end has come');
    assert.deepEqual([votes, others], [['a1: b1'], ['a1:undefined']]);
  }));

test('tasks are worked on, tried again, and given up', () =>
  joined(['office/boss', 'office/clerk'], async (boss, clerk) => {
    if (boss === undefined || clerk === undefined) return;
    const done: string[] = [];
    const tries = new Map<unknown, number>();
    const worker = await clerk.work(
      'images',
      (task) => {
        const count = (tries.get(task.payload) ?? 0) + 1;
        tries.set(task.payload, count);
        if (task.payload === 'broken' || (task.payload === 'twice' && count === 1))
          throw new Error('not this time');
        done.push(String(task.payload));
      },
      { maxDeliveries: 2, redeliverAfter: 5_000 },
    );
    for (const payload of ['17.png', 'twice', 'broken']) {
      await boss.send(To.tasks('images'), { type: 'image.resize', payload });
    }
    const channel = To.tasks('images').channel('live');
    await until(
      async () => (await transport.deadLetters(channel, 10)).length === 1,
      'one is given up',
    );
    await until(() => done.length === 2, 'the others are done');
    await worker.stop();
    assert.deepEqual([done.sort(), tries.get('broken')], [['17.png', 'twice'], 2]);
    const { tasksDone, tasksFailed } = clerk.stats();
    assert.deepEqual([tasksDone, tasksFailed], [2, 3]);
  }));

test('durable messages wait for one who comes back', async () => {
  const options = { durable: true };
  const sender = await Messenger.join(transport, 'x', 'sender', options);
  let receiver = await Messenger.join(transport, 'y', 'receiver', options);
  const first = heard(receiver);
  const send = (payload: number): Promise<void> =>
    sender.send(To.agent('receiver'), { type: 'n', payload });
  await send(1);
  await until(() => first.length === 1, 'the first has come');
  const saved = JSON.parse(JSON.stringify(receiver.positions())) as Record<string, string>;
  await receiver.close();
  await send(2);
  await sender.flush();
  let second: string[] = [];
  receiver = await Messenger.join(
    transport,
    'y',
    'receiver',
    { ...options, resume: saved },
    (messenger) => {
      second = heard(messenger);
    },
  );
  await send(3);
  await until(() => second.length === 2, 'the others have come');
  assert.deepEqual([first, second], [['sender:1'], ['sender:2', 'sender:3']]);
  await receiver.close();
  await sender.close();
  await assert.rejects(send(4), { code: 'closed' });
});

test('what nobody awaits ends no process when it fails, and is counted', () =>
  joined(['a/a1'], async (a1) => {
    const topic = await a1?.topic('votes');
    // No event: it cannot be carried.
    void a1?.send(To.agent('b1'), { type: '' });
    void a1?.broadcast({ type: '' });
    void topic?.send({ type: '' });
    await until(() => a1?.stats().notSent === 3, 'all are counted');
    await a1?.close();
    void a1?.send(To.agent('b1'), { type: 'x' });
    await until(() => a1?.stats().notSent === 4, 'that of a closed one, too');
  }));

test('a handler that fails is counted, and told of, and others are called', () =>
  joined(['a/a1'], async (a1) => {
    const errors: unknown[] = [];
    const b1 = await Messenger.join(transport, 'b', 'b1', {
      onError: (error) => void errors.push(error),
    });
    b1.on('x', () => Promise.reject(new Error('async')));
    const once = b1.on('x', () => void errors.push('called'));
    await a1?.send(To.agent('b1'), { type: 'x' });
    await until(() => errors.length === 2, 'both were called');
    once.close();
    await a1?.send(To.agent('b1'), { type: 'x' });
    await until(() => errors.length === 3, 'one was called');
    assert.deepEqual(
      [b1.stats().failed, errors.filter((error) => error === 'called').length],
      [2, 1],
    );
    await b1.close();
  }));

test('a request whose deadline is far away waits for its answer', () =>
  joined(['a/asker', 'b/answerer'], async (asker, answerer) => {
    const began = performance.now();
    answerer?.respond('far.asked', () =>
      until(() => performance.now() - began > 20, 'it takes a little').then(() => 'here'),
    );
    const deadline = (Date.now() + 60 * 24 * 3_600_000) * 1_000;
    const answer = await asker?.request(To.agent('answerer'), { type: 'far.asked', deadline });
    assert.equal(answer?.payload, 'here');
  }));

test('whoever asks is told when the answer cannot be sent', () =>
  joined(['a/asker', 'b/answerer'], async (asker, answerer) => {
    answerer?.respond('odd.asked', () => {
      const circle: Record<string, unknown> = {};
      return (circle['itself'] = circle);
    });
    const asked = asker?.request(To.agent('answerer'), { type: 'odd.asked' });
    await assert.rejects(asked as Promise<Event>, { name: 'RequestError', code: 'failed' });
    assert.deepEqual([answerer?.stats().failed, answerer?.stats().answers], [1, 0]);
  }));

test('what fails to begin leaves nothing behind', async () => {
  const own = await RedisTransport.connect(server.url);
  const before = liveHandles();
  const liveOnly = Object.create(own, {
    features: { value: { ...own.features, modes: ['live'] } },
  }) as Transport;
  await assert.rejects(Messenger.join(liveOnly, 'a', 'one', { durable: true }), {
    code: 'unsupported',
  });
  for (const options of [
    { requestTimeout: Number.NaN },
    { requestTimeout: 0 },
    { maxRequests: -1 },
    { maxAnswers: 0.5 },
    { history: -1 },
    { capacity: 0 },
  ])
    await assert.rejects(Messenger.join(own, 'a', 'one', options), RangeError);
  assert.equal(liveHandles(), before);
  const messenger = await Messenger.join(own, 'a', 'one');
  const joined = liveHandles();
  await own.close();
  for (let n = 0; n < 10; n += 1)
    await assert.rejects(messenger.topic(`t${n}`), { code: 'closed' });
  assert.equal(liveHandles(), joined);
  await messenger.close();
});

test('a worker that may work no more says why', async () => {
  await using own = await RedisServer.start();
  const transport = await RedisTransport.connect(own.url);
  const messenger = await Messenger.join(transport, 'a', 'one');
  const worker = await messenger.work('stones', () => undefined);
  await own.run('ACL', 'SETUSER', 'default', 'resetkeys', '%RW~nothing:*');
  const error = await worker.ended;
  assert.equal(error?.code, 'refused');
  await messenger.close(0);
  await transport.closeWithin(0);
});

test('names are checked', async () => {
  assert.throws(() => To.swarm('two words'), { name: 'NameError', code: 'character' });
  assert.throws(() => To.agent('x'.repeat(81)), { code: 'length' });
  await assert.rejects(Messenger.join(transport, 'a/b', 'c'), { name: 'NameError' });
});

test('a close gives up answers that take too long', async () => {
  const asker = await Messenger.join(transport, 'a', 'asks');
  const slow = await Messenger.join(transport, 'b', 'slow');
  let signal: AbortSignal | undefined;
  slow.respond('slow', (_, over) => {
    signal = over;
    return new Promise(() => undefined);
  });
  const answer = asker.request(To.agent('slow'), { type: 'slow' }).catch(({ code }) => code);
  await until(() => signal !== undefined, 'the request');
  assert.equal(await slow.close(1), false);
  await until(() => signal?.aborted === true, 'the signal');
  assert.equal(await asker.close(1_000), true);
  assert.equal(await answer, 'closed');
});

test('what is no channel, option or setting is refused by name', async () => {
  const channel = Channel.live('x');
  const refused = { code: 'unsupported', message: /Channel\.live/ };
  await assert.rejects(transport.subscribe('live:x' as never), refused);
  await assert.rejects(transport.publish('live:x' as never, Event.of({ type: 'a' })), refused);
  await assert.rejects(transport.subscribe(channel, { from: 'beginning' } as never), {
    code: 'unsupported',
    message: /^from must be one of start, group, /,
  });
  for (const options of [{ prefx: 'a' }, { driver: 'ioredis' }, { driver: {} }, { prefix: 5 }]) {
    const connected = RedisTransport.connect('redis://127.0.0.1:1', options as never);
    await assert.rejects(connected, { code: 'setting' });
  }
});
