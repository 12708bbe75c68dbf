/**
 * Events delivered to handlers, against the harness that the seeds measured with: a synchronous
 * EventEmitter, 10,000 emits of five types, a handler that calls JSON.stringify on an object of 117
 * bytes and tests one regular expression.
 *
 *     node bus.mjs [--json FILE] [--quick]
 *
 * Each rival is measured in a process of its own, in turns with that harness; ratios are medians of
 * rounds of 10,000 events. Every round is checked: how many events came to handlers, and the sum of
 * what was in them; swarmbus's ledger must balance.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { writeFileSync } from 'node:fs';
import { execPath } from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const TYPES = ['task.created', 'task.done', 'agent.joined', 'vote.cast', 'note'];
const EMITS = 10_000;

const events = Array.from({ length: EMITS }, (_, i) => {
  const event = { type: TYPES[i % 5], source: `agent-${i % 7}`, payload: { id: i, name: '' } };
  event.payload.name = 'x'.repeat(117 - JSON.stringify(event).length);
  return event;
});
assert.ok(events.every((event) => JSON.stringify(event).length === 117));
const SUM = (EMITS * (EMITS - 1)) / 2;

/** A way to bring all events to their handlers once: how many came, and the sum of their ids. */
const RIVALS = {
  /** What the seeds measured. */
  harness() {
    const emitter = new EventEmitter();
    const seen = { count: 0, sum: 0 };
    const pattern = /"id":\d+/;
    for (const type of TYPES) {
      emitter.on(type, (event) => {
        if (pattern.test(JSON.stringify(event))) seen.count++;
        seen.sum += event.payload.id;
      });
    }
    return { seen, run: () => emitAll(emitter) };
  },
  eventemitter() {
    const emitter = new EventEmitter();
    const seen = { count: 0, sum: 0 };
    for (const type of TYPES) emitter.on(type, (event) => note(seen, event));
    return { seen, run: () => emitAll(emitter) };
  },
  async mitt() {
    const { default: mitt } = await import('mitt');
    const emitter = mitt();
    const seen = { count: 0, sum: 0 };
    for (const type of TYPES) emitter.on(type, (event) => note(seen, event));
    return { seen, run: () => emitAll(emitter) };
  },
  async emittery() {
    const { default: Emittery } = await import('emittery');
    const emitter = new Emittery();
    const seen = { count: 0, sum: 0 };
    // Its listeners get an object with the data in it.
    for (const type of TYPES) emitter.on(type, (event) => note(seen, event.data ?? event));
    return {
      seen,
      async run() {
        for (const event of events) await emitter.emit(event.type, event);
      },
    };
  },
  'swarmbus publish': () => swarmbus(publishEach),
  'swarmbus tryPublish': () =>
    swarmbus((bus) => {
      for (const event of events) bus.tryPublish(event);
    }),
  'swarmbus publishBatch': () => swarmbus((bus) => bus.publishBatch(events)),
  'swarmbus dispatch': () =>
    swarmbus((bus) => {
      for (const event of events) bus.dispatch(event);
    }),
  'swarmbus publish, async handler': () => swarmbus(publishEach, true),
};

function note(seen, event) {
  seen.count++;
  seen.sum += event.payload.id;
}

function emitAll(emitter) {
  for (const event of events) emitter.emit(event.type, event);
}

async function publishEach(bus) {
  for (const event of events) await bus.publish(event);
}

/** Breaker, loop guard, dead letters and ledger are on, as they are by default. */
async function swarmbus(publishAll, isAsync = false) {
  const { EventBus } = await import('swarmbus');
  // Room for all of them, so that tryPublish is never refused.
  const bus = new EventBus({ capacity: 2 * EMITS });
  const seen = { count: 0, sum: 0 };
  const handler = isAsync ? async (event) => note(seen, event) : (event) => note(seen, event);
  for (const type of TYPES) bus.subscribe(type, handler);
  let runs = 0;
  return {
    seen,
    async run() {
      await publishAll(bus);
      assert.equal(await bus.drain(), 0);
      runs++;
    },
    end() {
      const ledger = bus.ledger();
      assert.ok(ledger.balances());
      assert.equal(ledger.outcomes.delivered, runs * EMITS);
      assert.equal(bus.breakers().length, TYPES.length);
    },
  };
}

const now = () => Number(process.hrtime.bigint());
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

/** Nanoseconds for one event. */
async function time({ seen, run }) {
  seen.count = seen.sum = 0;
  // Nobody pays for the garbage of others.
  globalThis.gc?.({ type: 'minor' });
  const start = now();
  await run();
  const took = (now() - start) / EMITS;
  assert.deepEqual({ ...seen }, { count: EMITS, sum: SUM });
  return took;
}

async function cell(name, milliseconds) {
  const [harness, rival] = [await RIVALS.harness(), await RIVALS[name]()];
  for (let i = 0; i < 5; i++) (await time(harness), await time(rival));
  const times = { harness: [], rival: [] };
  const end = now() + milliseconds * 1e6;
  while (now() < end || times.rival.length < 15) {
    times.harness.push(await time(harness));
    times.rival.push(await time(rival));
  }
  rival.end?.();
  const ratios = times.rival.map((took, i) => times.harness[i] / took);
  const ns = median(times.rival);
  return {
    bench: 'bus',
    case: 'delivered',
    rival: name,
    ns,
    perSecond: Math.round(1e9 / ns),
    harnessNs: median(times.harness),
    ratio: median(ratios),
  };
}

function cellOf(name, milliseconds) {
  const script = fileURLToPath(import.meta.url);
  const flags = ['--expose-gc', script, '--cell', name, '--milliseconds', milliseconds];
  const { stdout, stderr, status } = spawnSync(execPath, flags, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${name} failed:\n${stderr}`);
  return JSON.parse(stdout);
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    quick: { type: 'boolean' },
    cell: { type: 'string' },
    milliseconds: { type: 'string' },
  },
});
if (options.cell !== undefined) {
  console.log(JSON.stringify(await cell(options.cell, Number(options.milliseconds ?? 2_000))));
} else {
  const rows = [];
  for (const name of Object.keys(RIVALS)) {
    const row = cellOf(name, options.quick ? '200' : '3000');
    rows.push(row);
    const figures = `${row.ns.toFixed(0).padStart(6)} ns ${String(row.perSecond).padStart(11)}/s`;
    console.log(`${name.padEnd(32)} ${figures} ${row.ratio.toFixed(2).padStart(7)} ×`);
  }
  if (options.json !== undefined) {
    writeFileSync(options.json, `${JSON.stringify(rows, undefined, 2)}\n`);
  }
}
