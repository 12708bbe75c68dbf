/** Deadlines of events: microseconds on the wire, milliseconds for timers. */

import type { Event } from '../event.js';

/** When an event is worth nothing any more, in milliseconds since 1970; `Infinity` for never. */
export function deadlineMillis(event: Event): number {
  return event.deadline === undefined ? Infinity : Number(event.deadline) / 1_000;
}

/** Whether an event comes too late. */
export function isLate(event: Event): boolean {
  return event.deadline !== undefined && deadlineMillis(event) <= Date.now();
}

/** The event as a handler with a time limit gets it: what it causes is to be over before it is. */
export function lowered(event: Event, limit: number): Event {
  const end = Math.floor((Date.now() + limit) * 1_000);
  return deadlineMillis(event) * 1_000 <= end ? event : event.with({ deadline: end });
}
