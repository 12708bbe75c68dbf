/**
 * What the codecs are measured with: events of agents at work, the same in every
 * run, and real JSON found in npm packages.
 */
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

/*
 * Fields are assigned one by one: an object made by spreading another gets a hidden
 * class of its own each time in Node 20, and every codec is slower with those.
 */

/** Numbers that look random and are the same each time. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const TYPES = [
  'agent.task.completed',
  'agent.task.assigned',
  'agent.heartbeat',
  'swarm.vote.cast',
  'memory.write.ack',
  'agent.task.failed',
  'swarm.topology.changed',
  'tool.call.result',
];
const WORDS = `the coordinator merges shard results into a vector index before it reports latency
  and a retry budget to its parent swarm once consensus with a quorum has been reached again`
  .trim()
  .split(/\s+/);
const OTHER_SCRIPTS = [
  'résumé du plan',
  '任务已完成',
  'größere Änderung',
  'задача выполнена',
  'fini ✅',
  'café 🚀',
];

class Maker {
  constructor(seed) {
    this.random = generator(seed);
  }
  below(n) {
    return Math.floor(this.random() * n);
  }
  one(list) {
    return list[this.below(list.length)];
  }
  hex(n) {
    return Array.from({ length: n }, () => this.below(16).toString(16)).join('');
  }
  uuid() {
    return [8, 4, 4, 4, 12].map((n) => this.hex(n)).join('-');
  }
  text(n) {
    let text = this.one(WORDS);
    while (text.length < n) text += ` ${this.one(WORDS)}`;
    return text;
  }
  fraction(digits) {
    return Math.round(this.random() * 10 ** digits) / 10 ** digits;
  }
  header() {
    return {
      id: this.uuid(),
      type: this.one(TYPES),
      source: `swarm-${this.below(9)}/agent-${this.below(100)}`,
      target: `swarm:swarm-${this.below(9)}`,
      priority: this.below(10),
      timestamp: 1_763_660_000_000_000 + this.below(1e9),
    };
  }
  longHeader() {
    const event = this.header();
    event.correlationId = this.uuid();
    event.traceparent = `00-${this.hex(32)}-${this.hex(16)}-01`;
    return event;
  }
  step(n) {
    return {
      step: n,
      name: `${this.one(WORDS)}-${this.below(1000)}`,
      status: this.one(['ok', 'retry', 'skipped']),
      durationMs: this.below(5000),
      score: this.fraction(4),
      cached: this.random() < 0.5,
      note: this.random() < 0.2 ? this.one(OTHER_SCRIPTS) : this.text(24),
      error: null,
    };
  }
  small() {
    const event = this.header();
    event.payload = { taskId: `task-${this.below(10_000)}`, ok: true, attempt: this.below(5) };
    return event;
  }
  task(steps, numbers, summary) {
    const event = this.longHeader();
    event.payload = {
      taskId: `task-${this.below(10_000)}`,
      agent: {
        name: `coder-${this.below(99)}`,
        role: 'implementer',
        capabilities: ['rust', 'wasm', 'review'],
        load: this.random(),
      },
      summary: this.text(summary),
      localized: this.one(OTHER_SCRIPTS),
      steps: Array.from({ length: steps }, (_, n) => this.step(n)),
      metrics: Array.from({ length: numbers }, (_, n) =>
        n % 3 ? this.below(100_000) : this.fraction(6),
      ),
      tags: ['alpha', 'beta', 'gamma'],
      final: true,
    };
    return event;
  }
  /** One of 40 shapes. */
  poly() {
    const shape = this.below(40);
    const event = this.longHeader();
    const payload = {};
    for (let n = 0; n < 6 + (shape % 7); n++) {
      const key = WORDS[(shape * 7 + n * 3) % WORDS.length] + (shape * 31 + n);
      const kind = n % 4;
      if (kind === 0) payload[key] = this.text(20);
      else if (kind === 1) payload[key] = this.below(9999);
      else if (kind === 2)
        payload[key] = { a: this.below(99), [`b${shape}`]: this.one(WORDS), ok: true };
      else payload[key] = this.one(WORDS);
    }
    event.type = `agent.custom.event${shape}`;
    event.payload = payload;
    return event;
  }
}

const MADE = {
  '200B': [128, (maker) => maker.small()],
  '1KB': [128, (maker) => maker.task(2, 12, 60)],
  '10KB': [32, (maker) => maker.task(45, 250, 240)],
  '100KB': [8, (maker) => maker.task(480, 2600, 240)],
  poly: [120, (maker) => maker.poly()],
};

/** Files of npm packages, as payload of one event each. */
const CORPORA = {
  'mime-db': 'mime-db/db.json',
  'mdn-data': 'mdn-data/css/properties.json',
  'world-atlas': 'world-atlas/countries-110m.json',
};

export const SIZES = ['200B', '1KB', '10KB', '100KB', 'poly'];
export const REAL = Object.keys(CORPORA);

/** The events of a workload. */
export function workload(name) {
  const maker = new Maker(777);
  if (name in MADE) {
    const [count, make] = MADE[name];
    return Array.from({ length: count }, () => make(maker));
  }
  const path = createRequire(import.meta.url).resolve(CORPORA[name]);
  const payload = JSON.parse(readFileSync(path, 'utf8'));
  const event = maker.longHeader();
  event.payload = payload;
  return [event];
}
