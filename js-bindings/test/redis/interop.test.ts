/** A Node process and a Rust process talk to each other, in all modes and both directions. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Channel, Event, Messenger, Position, To } from 'swarmbus';
import { RedisTransport } from 'swarmbus/redis';

import { Peer } from '../support/peer.js';
import { programPath } from '../support/programs.js';
import { RedisServer, until } from '../support/redis.js';

let server: RedisServer;
let program: string;
before(async () => {
  program = programPath('peer');
  server = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always');
});
after(() => server[Symbol.asyncDispose]());

const to = (count: number, from = 1): number[] => Array.from({ length: count }, (_, n) => from + n);
const events = (numbers: number[]): Event[] =>
  numbers.map((n) => new Event({ type: 'test.event', payload: String(n) }));

/** Node's inbox of a channel, and what has come so far. */
async function listen(
  transport: RedisTransport,
  channel: string,
  start?: 'beginning' | Position,
): Promise<{
  numbers: number[];
  positions: Position[];
  gaps: (number | undefined)[];
  close: () => void;
}> {
  const inbox = await transport.subscribe(Channel.parse(channel), { start });
  const seen = {
    numbers: [] as number[],
    positions: [] as Position[],
    gaps: [] as (number | undefined)[],
  };
  void (async () => {
    for await (const incoming of inbox) {
      if (incoming.kind === 'gap') {
        seen.gaps.push(incoming.missed);
        continue;
      }
      seen.numbers.push(Number(incoming.event.payload));
      if (incoming.position !== undefined) seen.positions.push(incoming.position);
      incoming.ack();
    }
  })();
  return { ...seen, close: () => inbox.close() };
}

const sum = (numbers: (number | null | undefined)[]): number =>
  numbers.reduce((sum: number, n) => sum + (n ?? 0), 0);

test('live: both sides get what the other publishes, and are told what is missing', async () => {
  await using node = await RedisTransport.connect(server.url, { probeEvery: 200 });
  await using rust = await Peer.start(program, server.url);
  await rust.order({ do: 'subscribe', channel: 'live:to-rust' });
  const here = await listen(node, 'live:to-node');
  await node.publishBatch(Channel.live('to-rust'), events(to(1_000)));
  await rust.order({ do: 'publish', channel: 'live:to-node', from: 1, count: 1_000 });
  await until(
    () => here.numbers.length === 1_000 && rust.numbers('live:to-rust').length === 1_000,
    'all have come',
  );
  assert.deepEqual([here.numbers, rust.numbers('live:to-rust')], [to(1_000), to(1_000)]);

  // Both subscribers are cut off while both sides publish.
  let sent = 1_000;
  const came = (numbers: number[], gaps: (number | null | undefined)[]): number =>
    numbers.length + sum(gaps);
  for (let round = 0; round < 3; round += 1) {
    await server.cut('pubsub');
    await node.publishBatch(Channel.live('to-rust'), events(to(100, sent + 1)));
    await rust.order({ do: 'publish', channel: 'live:to-node', from: sent + 1, count: 100 });
    sent += 100;
  }
  // Whoever falls silent says where it is.
  const all = (): [number, number] => [
    came(here.numbers, here.gaps),
    came(
      rust.numbers('live:to-rust'),
      rust.gaps('live:to-rust').map(({ missed }) => missed),
    ),
  ];
  await until(() => all().every((n) => n === sent), `${sent} have come or are reported`, 30_000);
});

test('durable: one log for both, from the beginning, from a position, and through cuts and a restart', async () => {
  await using node = await RedisTransport.connect(server.url);
  await using rust = await Peer.start(program, server.url);
  const log = 'durable:log';
  const channel = Channel.parse(log);
  await rust.order({ do: 'subscribe', channel: log });
  const here = await listen(node, log);
  let sent = 0;
  const publish = async (count: number): Promise<void> => {
    // One after the other, so that the order is known.
    await node.publishConfirmed(channel, events(to(count, sent + 1)));
    await rust.order({ do: 'publish', channel: log, from: sent + count + 1, count });
    sent += 2 * count;
  };
  await publish(300);
  for (const kind of ['pubsub', 'normal', 'pubsub'] as const) {
    await server.cut(kind);
    await publish(100);
  }
  await server.kill();
  await node.publishBatch(channel, events(to(50, sent + 1)));
  await server.begin();
  await node.flush();
  sent += 50;
  await publish(50);
  await until(
    () => here.numbers.length >= sent && rust.numbers(log).length >= sent,
    'all have come',
  );
  assert.deepEqual([here.numbers, rust.numbers(log)], [to(sent), to(sent)]);
  assert.deepEqual([here.gaps, rust.gaps(log)], [[], []]);

  // Positions are the same on both sides, and good for both.
  const theirs = rust.words.flatMap(({ event }) =>
    event?.channel === log ? [event.position] : [],
  );
  assert.deepEqual(theirs, here.positions.map(String));
  const saved = theirs[99] as string;
  const resumed = await listen(node, log, Position.parse(saved));
  await using second = await Peer.start(program, server.url);
  await second.order({ do: 'subscribe', channel: log, start: String(here.positions[99]) });
  await until(
    () => resumed.numbers.length === sent - 100 && second.numbers(log).length === sent - 100,
    'the rest',
  );
  assert.deepEqual(
    [resumed.numbers, second.numbers(log)],
    [to(sent - 100, 101), to(sent - 100, 101)],
  );
  assert.deepEqual(
    (await node.history(channel, 3)).map(({ event }) => Number(event.payload)),
    to(3, sent - 2),
  );
});

test('group: both work on one queue, also when one of them dies', async () => {
  await using node = await RedisTransport.connect(server.url);
  const tasks = 'group:tasks';
  const channel = Channel.parse(tasks);
  const here = await listen(node, tasks);
  await using rust = await Peer.start(program, server.url);
  await rust.order({ do: 'subscribe', channel: tasks });
  let sent = 0;
  const done = (): Set<number> => new Set([...here.numbers, ...rust.numbers(tasks)]);
  for (const kind of ['normal', 'pubsub', 'normal'] as const) {
    await node.publishBatch(channel, events(to(300, sent + 1)));
    await rust.order({ do: 'publish', channel: tasks, from: sent + 301, count: 300 });
    sent += 600;
    await server.cut(kind);
    await until(() => done().size > sent - 100, 'work goes on');
  }
  await until(() => done().size === sent, 'all is done', 40_000);
  assert.ok(here.numbers.length > 0 && rust.numbers(tasks).length > 0, 'both have worked');
  // What Node did not answer, Rust is given.
  here.close();
  const dying = await RedisTransport.connect(server.url);
  const inbox = await dying.subscribe(channel, {
    redeliverAfter: 300,
    group: 'second',
    start: 'new',
  });
  await node.publishBatch(channel, events([9_001, 9_002]));
  assert.equal((await inbox.next())?.kind, 'event');
  await dying.close();
  await using heir = await Peer.start(program, server.url);
  await heir.order({ do: 'subscribe', channel: tasks, group: 'second' });
  const other = await node.subscribe(channel, { group: 'second', redeliverAfter: 300 });
  const rest: number[] = [];
  void (async () => {
    for await (const incoming of other) {
      if (incoming.kind === 'gap') continue;
      rest.push(Number(incoming.event.payload));
      incoming.ack();
    }
  })();
  const again = (): Set<number> => new Set([...rest, ...heir.numbers(tasks)]);
  await until(() => again().has(9_001) && again().has(9_002), 'the dead one is inherited from');
  other.close();
});

for (const durable of [false, true]) {
  test(`messengers understand each other, ${durable ? 'durable' : 'live'}`, async () => {
    await using node = await RedisTransport.connect(server.url);
    await using rust = await Peer.start(program, server.url);
    const agent = `ferris-${durable}`;
    await rust.order({ do: 'join', swarm: 'rust', agent, durable });
    await using here = await Messenger.join(node, 'js', `node-${durable}`, { durable });
    const heard: string[] = [];
    here.on<string>(
      'note.*',
      ({ scope, agent, payload }) => void heard.push(`${scope} ${agent}: ${payload}`),
    );
    here.respond<string>('ask.text', ({ payload }) => `node: ${payload}`);
    here.respond('ask.broken', () => {
      throw new Error('broken in node');
    });
    const note = (payload: string): Event => new Event({ type: 'note.sent', payload });
    for (const to of [To.swarm('rust'), To.agent(agent), To.broadcast()])
      await here.send(to, note(to.kind));
    await here.send(To.tasks('rust'), note('tasks'));
    await until(() => rust.heard().length === 4, 'Rust has heard all');
    assert.deepEqual(
      rust.heard().sort(),
      ['agent', 'broadcast', 'swarm', 'tasks'].map((scope) => `${scope} node-${durable}: ${scope}`),
    );
    const worked: string[] = [];
    await using _worker = await here.work<string>(
      'js',
      ({ agent, payload }) => void worked.push(`${agent}: ${payload}`),
    );
    for (const to of ['swarm:js', `agent:node-${durable}`, 'broadcast', 'tasks:js']) {
      await rust.order({ do: 'send', to, text: to });
    }
    await until(() => heard.length === 3 && worked.length === 1, 'Node has heard all');
    assert.deepEqual(heard.sort(), [
      `agent ${agent}: agent:node-${durable}`,
      `broadcast ${agent}: broadcast`,
      `swarm ${agent}: swarm:js`,
    ]);
    assert.deepEqual(worked, [`${agent}: tasks:js`]);

    const ask = (type: string, payload: string): Promise<Event> =>
      here.request(To.agent(agent), { type, payload });
    assert.equal((await ask('ask.text', 'hello')).payload, 'rust: hello');
    await assert.rejects(ask('ask.broken', ''), { code: 'failed', message: /broken in rust/ });
    await assert.rejects(ask('unknown', ''), { code: 'refused', refusal: 'no-responder' });
    const request = (ty: string): Promise<string | null> =>
      rust.order({ do: 'request', to: `agent:node-${durable}`, ty, text: 'hello' });
    assert.equal(await request('ask.text'), 'node: hello');
    assert.equal(await request('ask.broken'), 'failed: broken in node');
    assert.equal(await request('unknown'), 'refused: NoResponder');

    // Through a cut: the answer, or in live channels an error that says why not.
    await server.cut('pubsub');
    await server.cut('normal');
    await until(async () => {
      const deadline = (Date.now() + 1_000) * 1_000;
      const event = { type: 'ask.text', payload: 'again', deadline };
      const answer = await here.request(To.agent(agent), event).catch(() => undefined);
      return answer?.payload === 'rust: again';
    }, 'they talk again');
  });
}
