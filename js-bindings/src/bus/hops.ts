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
  /** Default: 1. */
  readonly maxVisits?: number;
  /** Default: 64. */
  readonly maxHops?: number;
}

/**
 * Why an event must not go on: what is left of its budget does not pay for it (`budget_spent`), its
 * path is too long (`too_many_hops`), or the name of a place is not 1 to 255 bytes (`place_name`).
 */
export class HopError extends Error {
  override readonly name = 'HopError';

  constructor(
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
 * What may still be spent on an event and on all that it causes; undefined is no limit. What is no
 * decimal number of 64 bits is a budget of 0.
 */
export function budgetOf(event: Event): bigint | undefined {
  const text = event.attributes['budget'];
  if (text === undefined) return undefined;
  if (!/^[0-9]{1,40}$/.test(text)) return 0n;
  const budget = BigInt(text);
  return budget <= U64_MAX ? budget : 0n;
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
  const budget = least(budgetOf(event), left(cause, BigInt(cost)));
  const { replayed } = cause.attributes;
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
      ...(replayed !== undefined && { replayed }),
    },
  });
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
