/** Types of events by their names: `EventBus<{ 'task.done': TaskDone }>`. */

import type { Event, EventInit } from '../event.js';

/** From each event type to what its payload is. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AnyEvents = Record<string, any>;

/** The event types of a map. */
export type TypeOf<M> = keyof M & string;

/** Any event of a map, as it is published. */
export type InitOf<M> = { [K in TypeOf<M>]: Event<K, M[K]> | InitWith<K, M[K]> }[TypeOf<M>];

/** The payload may be left out only where it may be undefined. */
type InitWith<K extends string, P> = undefined extends P
  ? EventInit<K, P>
  : EventInit<K, P> & { readonly payload: unknown };

type Token<T extends string> = T extends '*' ? string : T;

/** A pattern as a template of types; `*` and `>` become any text. */
type Template<P extends string> = P extends `${infer First}.${infer Rest}`
  ? `${Token<First>}.${Template<Rest>}`
  : P extends '*' | '>'
    ? string
    : P;

/** The types of a map that a pattern matches, or a few more: `*` is taken for any text. */
export type Matching<M, P> =
  P extends TypeOf<M>
    ? P
    : P extends `/${string}/`
      ? TypeOf<M>
      : P extends string
        ? Extract<TypeOf<M>, Template<P>>
        : TypeOf<M>;

/** The events that a handler of a pattern gets. */
export type EventOf<M, P> = { [K in Matching<M, P>]: Event<K, M[K]> }[Matching<M, P>];
