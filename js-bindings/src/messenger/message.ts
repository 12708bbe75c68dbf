/** {@link Message}: an event from another messenger, and the marks it carries. */

import type { Event } from '../event.js';

/** Extension attributes that messengers write. */
export const MARK = {
  /** `swarm/agent/node` of the sender. */
  sender: 'sender',
  /** The number of a request, for its sender. */
  request: 'request',
  /** The number of the request that this answers. */
  answer: 'answer',
  /** Why there is no other answer than this. */
  refusal: 'refusal',
} as const;

/**
 * What a message was sent to: the receiver's swarm, the receiver itself, all other swarms, a topic
 * of coordination, or a queue of tasks.
 */
export type Scope = 'swarm' | 'agent' | 'broadcast' | 'topic' | 'tasks';

/** Where an event comes from, as it says itself. */
export interface Sender {
  /** Its swarm. */
  readonly swarm: string;
  /** Its name there. */
  readonly agent: string;
  /** Its messenger, as several may have one name. */
  readonly node: string;
}

export function senderOf(event: Event): Sender | undefined {
  const [swarm, agent, node] = event.attributes[MARK.sender]?.split('/') ?? [];
  return swarm === undefined || agent === undefined || node === undefined
    ? undefined
    : { swarm, agent, node };
}

/** An event from another messenger. */
export class Message<P = unknown> {
  constructor(
    /** The event. It carries the sender as the attribute `sender`. */
    readonly event: Event<string, P>,
    /** What it was sent to. */
    readonly scope: Scope,
  ) {}

  /** What the event carries. */
  get payload(): P {
    return this.event.payload;
  }

  /** The sender's swarm; `undefined` for events that no messenger sent. */
  get swarm(): string | undefined {
    return senderOf(this.event)?.swarm;
  }

  /** The sender's name in its swarm; `undefined` for events that no messenger sent. */
  get agent(): string | undefined {
    return senderOf(this.event)?.agent;
  }
}

/** With one mark more. */
export function marked(event: Event, mark: string, value: string): Event {
  return event.with({ attributes: { ...event.attributes, [mark]: value } });
}
