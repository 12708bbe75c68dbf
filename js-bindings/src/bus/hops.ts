/**
 * What an event carries so that chains of events end: the path it took, and budgets of time and
 * cost. The same rules as Rust's `core::hops`.
 */

import { Event, type EventInit, type Micros } from '../event.js';

/** The longest path, which is also the most that a frame carries. */
export const MAX_HOPS = 64;

/** The longest name of a place, in bytes. */
const MAX_HOP_LEN = 255;

const U64_MAX = 2n ** 64n - 1n;

/** How often one path of events may lead through a handler. */
export interface LoopGuard {
  /** How often this handler may be on the path. Default: 1. */
  readonly maxVisits?: number | undefined;
  /** How long the path may be. Default: 64. */
  readonly maxHops?: number | undefined;
}

/**
 * Why an event must not go on: what is left of its budget does not pay for it (`budget_spent`), its
 * path is too long (`too_many_hops`), or the name of a place is not 1 to 255 bytes (`place_name`).
 */
export class HopError extends Error {
  override readonly name = 'HopError';

  constructor(
    /** What stands in the way. */
    readonly code: 'budget_spent' | 'too_many_hops' | 'place_name',
    message: string,
  ) {
    super(message);
  }
}

/** Whether an event with this path may not enter `place`. */
export function isLoop(guard: LoopGuard, path: readonly string[], place: string): boolean {
  if (path.length > (guard.maxHops ?? MAX_HOPS)) return true;
  let visits = 0;
  for (const hop of path) if (hop === place) visits++;
  return visits >= (guard.maxVisits ?? 1);
}

/**
 * What may still be spent on an event and on all that it causes: its attribute `budget`; undefined
 * is no limit. What is no decimal number of 64 bits is a budget of 0.
 */
export function budgetOf(event: Event): bigint | undefined {
  const text = event.attributes['budget'];
  if (text === undefined) return undefined;
  if (!/^0*[0-9]{1,20}$/.test(text)) return 0n;
  const budget = BigInt(text);
  return budget <= U64_MAX ? budget : 0n;
}

/**
 * The event with a budget, for the one that starts a chain: {@link causedBy} never lets it grow.
 * The unit is the program's: hops, if nothing else is {@link spend spent}; calls of a model, or
 * cents, if it says so.
 *
 * @throws RangeError for what is no integer of 64 bits.
 */
export function withBudget<T extends string, P>(
  init: EventInit<T, P>,
  budget: number | bigint,
): Event<T, P> {
  return marked(Event.of(init) as Event<T, P>, { budget: String(amount('budget', budget)) });
}

/**
 * Pays for something: the event with what is left of its budget, to name as the cause of what comes
 * of it. The same event if it has no limit.
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { Event, budgetOf, causedBy, spend, withBudget } from 'swarmbus';
 *
 * const question = withBudget({ type: 'question' }, 7);
 * const paid = spend(question, 5); // a call of the large model
 * assert.equal(budgetOf(causedBy({ type: 'answer' }, paid, 'oracle')), 1n);
 * assert.throws(() => spend(paid, 5), { code: 'budget_spent' });
 * ```
 *
 * @throws HopError when the budget does not pay for it.
 */
export function spend<T extends string, P>(event: Event<T, P>, cost: number | bigint): Event<T, P> {
  const budget = left(event, amount('cost', cost));
  return budget === undefined ? event : marked(event, { budget: String(budget) });
}

/**
 * Shares the budget among so many events that this one is going to cause: copies of it, each the
 * cause of one. The shares add up to the budget; what cannot be shared evenly goes to the first
 * ones. The deadline is not shared: time passes for all of them at once.
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { budgetOf, causedBy, splitBudget, withBudget } from 'swarmbus';
 *
 * const task = withBudget({ type: 'task' }, 11);
 * const parts = splitBudget(task, 3).map((share) => causedBy({ type: 'part' }, share, 'splitter'));
 * assert.deepEqual(parts.map(budgetOf), [3n, 3n, 2n]); // 4, 4 and 3 before the hop
 * ```
 */
export function splitBudget<T extends string, P>(event: Event<T, P>, ways: number): Event<T, P>[] {
  const budget = budgetOf(event);
  return Array.from({ length: ways }, (_, way) => {
    if (budget === undefined) return event;
    const more = BigInt(way) < budget % BigInt(ways) ? 1n : 0n;
    return marked(event, { budget: String(budget / BigInt(ways) + more) });
  });
}

/** The event marked as played again from a log. What it causes is marked too. */
export function replayed<T extends string, P>(event: Event<T, P>): Event<T, P> {
  return marked(event, { replayed: 'true' });
}

/**
 * Whether an event, or one that led to it, is played again: a handler with effects outside may then
 * leave them out.
 */
export function isReplayed(event: Event): boolean {
  const mark = event.attributes['replayed'];
  return mark !== undefined && mark !== 'false';
}

/**
 * The event, published because of `cause` by the place `by`, which is best the handler's name.
 *
 * | field | becomes |
 * | --- | --- |
 * | causation id | the cause's id |
 * | correlation id | unless set: the cause's, or else its id |
 * | traceparent, session | unless set: the cause's |
 * | hops | the cause's and `by` |
 * | deadline | the earlier of the two |
 * | budget | what the cause has left after this hop, which costs `cost`, or the own if that is smaller |
 * | replayed | also if the cause is |
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { EventBus, causedBy } from 'swarmbus';
 *
 * const bus = new EventBus();
 * // Answers its own answers: without the loop guard, for ever.
 * bus.subscribe('said', (event) => bus.publish(causedBy({ type: 'said' }, event, 'echo')), {
 *   name: 'echo',
 * });
 * await bus.publish({ type: 'said' });
 * await bus.drain();
 * const { delivered, looped } = bus.ledger().outcomes;
 * assert.deepEqual([delivered, looped], [1, 1]);
 * ```
 *
 * @throws HopError and then the event must not be published.
 */
export function causedBy<T extends string, P>(
  init: EventInit<T, P>,
  cause: Event,
  by: string,
  cost: number | bigint = 1,
): Event<T, P> {
  const length = new TextEncoder().encode(by).length;
  if (length < 1 || length > MAX_HOP_LEN) {
    throw new HopError('place_name', `the name of a place is 1 to ${MAX_HOP_LEN} bytes long`);
  }
  if (cause.hops.length >= MAX_HOPS) {
    const text = `the event took ${cause.hops.length + 1} hops, at most ${MAX_HOPS} are allowed`;
    throw new HopError('too_many_hops', text);
  }
  const event = Event.of(init) as Event<T, P>;
  const budget = least(budgetOf(event), left(cause, amount('cost', cost)));
  return event.with<P>({
    traceparent: event.traceparent ?? cause.traceparent,
    session: event.session ?? cause.session,
    correlationId: event.correlationId ?? cause.correlationId ?? cause.id,
    causationId: cause.id,
    hops: [...cause.hops, by],
    deadline: least<Micros>(event.deadline, cause.deadline),
    attributes: {
      ...event.attributes,
      ...(budget !== undefined && { budget: String(budget) }),
      ...(isReplayed(cause) && { replayed: 'true' }),
    },
  });
}

function marked<T extends string, P>(
  event: Event<T, P>,
  marks: Readonly<Record<string, string>>,
): Event<T, P> {
  return event.with<P>({ attributes: { ...event.attributes, ...marks } });
}

function amount(what: string, value: number | bigint): bigint {
  if (value >= 0 && value <= U64_MAX && (typeof value === 'bigint' || Number.isInteger(value))) {
    return BigInt(value);
  }
  throw new RangeError(`${what} is an integer from 0 to 2^64 - 1, not ${value}`);
}

/** What a cause has left after a hop. */
function left(cause: Event, cost: bigint): bigint | undefined {
  const budget = budgetOf(cause);
  if (budget === undefined) return undefined;
  if (budget >= cost) return budget - cost;
  const text = `the event's budget is spent: ${budget} left, ${cost} needed`;
  throw new HopError('budget_spent', text);
}

function least<N extends number | bigint>(a: N | undefined, b: N | undefined): N | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a <= b ? a : b;
}
