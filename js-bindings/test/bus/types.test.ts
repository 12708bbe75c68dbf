/** What the types of the bus let through, and what they do not: checked by the compiler. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EventBus, type Matching } from 'swarmbus';

interface Events {
  'task.done': { id: number };
  'task.failed': { id: number; reason: string };
  'agent.joined': string;
  tick: undefined;
}

type Equal<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

const holds: [
  Equal<Matching<Events, 'task.done'>, 'task.done'>,
  Equal<Matching<Events, 'task.*'>, 'task.done' | 'task.failed'>,
  Equal<Matching<Events, '*.joined'>, 'agent.joined'>,
  Equal<Matching<Events, '>'>, keyof Events>,
  Equal<Matching<Events, RegExp>, keyof Events>,
] = [true, true, true, true, true];

test('events, patterns and handlers are typed by the map', async () => {
  const bus = new EventBus<Events>();
  bus.subscribe('task.*', ({ payload }) => {
    const id: number = payload.id;
    return id;
  });
  bus.subscribe('task.>', (event) => {
    if (event.type === 'task.failed') return event.payload.reason.length;
    // @ts-expect-error: only failures have a reason
    return event.payload.reason as unknown;
  });
  bus.subscribe('agent.joined', async ({ payload }) => payload.toUpperCase());
  // @ts-expect-error: a string
  bus.subscribe('agent.joined', ({ payload }) => payload.id as unknown);

  await bus.publish({ type: 'task.done', payload: { id: 1 } });
  await bus.publish({ type: 'tick' });
  // @ts-expect-error: no such type
  await bus.publish({ type: 'task.gone', payload: { id: 1 } });
  // @ts-expect-error: no such field
  bus.tryPublish({ type: 'task.done', payload: { name: 1 } });
  // @ts-expect-error: it needs a payload
  bus.tryPublish({ type: 'agent.joined' });
  await bus.close();
  assert.ok(holds.every(Boolean));
});

test('without a map, everything goes', async () => {
  const bus = new EventBus();
  bus.subscribe('any.*', ({ payload }) => payload.whatever as unknown);
  await bus.publish({ type: 'any.thing', payload: { whatever: 1 } });
  await bus.close();
});
