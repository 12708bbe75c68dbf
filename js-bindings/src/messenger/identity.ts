/** Who somebody is, whom a message is for, and what their channels are called. */

import type { Target } from '../event.js';
import { Channel, utf8Length, type Mode } from './channel.js';

/** Longest name of a swarm, agent, topic or task queue, in bytes. */
const MAX_AGENT_NAME_LEN = 80;

/** Why a name is none: it is empty or too long, or has a character that is not allowed. */
export class NameError extends Error {
  override readonly name = 'NameError';

  constructor(
    /** Which rule it breaks. */
    readonly code: 'length' | 'character',
    message: string,
  ) {
    super(message);
  }
}

function check(name: string): string {
  const length = utf8Length(name);
  if (length < 1 || length > MAX_AGENT_NAME_LEN) {
    throw new NameError('length', `a name is 1 to ${MAX_AGENT_NAME_LEN} bytes long, not ${length}`);
  }
  if (/[\s\p{Cc}\p{Cs}/{}]/u.test(name)) {
    const rule = 'a name has no white space, control characters, slashes or braces';
    throw new NameError('character', `${rule}: ${JSON.stringify(name)}`);
  }
  return name;
}

/** A live channel whose name begins with its kind. @throws {@link NameError} */
export function channelOf(kind: string, name: string): Channel {
  return Channel.live(`${kind}:${check(name)}`);
}

/**
 * An agent of a swarm. Several messengers may have one identity: then each gets the messages, but
 * for its own.
 */
export class Identity {
  /** The name of its swarm. */
  readonly swarm: string;
  /** Its own name. */
  readonly agent: string;

  /** @throws {@link NameError} */
  constructor(swarm: string, agent: string) {
    this.swarm = check(swarm);
    this.agent = check(agent);
  }

  /** `swarm/agent`. */
  toString(): string {
    return `${this.swarm}/${this.agent}`;
  }
}

/** Whom a message is for. Make one and keep it. */
export class To {
  readonly #channels = new Map<Mode, Channel>();

  private constructor(
    /** What it is. */
    readonly kind: 'swarm' | 'agent' | 'broadcast' | 'tasks',
    /** Of the swarm, agent or queue; empty for a broadcast. */
    readonly name: string,
    private readonly live: Channel,
  ) {}

  /** All agents of one swarm. @throws {@link NameError} */
  static swarm(name: string): To {
    return new To('swarm', name, channelOf('swarm', name));
  }

  /** One agent, in whatever swarm it is. @throws {@link NameError} */
  static agent(name: string): To {
    return new To('agent', name, channelOf('agent', name));
  }

  /** One of those who work on this queue. @throws {@link NameError} */
  static tasks(queue: string): To {
    return new To('tasks', queue, channelOf('tasks', queue));
  }

  /** All agents of all swarms but the sender's. */
  static broadcast(): To {
    return new To('broadcast', '', Channel.live('broadcast'));
  }

  /** The channel that it means, when messages are delivered like this. */
  channel(messages: Mode): Channel {
    const mode = this.kind === 'tasks' ? 'group' : messages;
    const known = this.#channels.get(mode) ?? this.live.withMode(mode);
    this.#channels.set(mode, known);
    return known;
  }

  /** What is written on the event, unless it says so itself. */
  get target(): Target | undefined {
    if (this.kind === 'swarm') return `swarm:${this.name}`;
    return this.kind === 'agent' ? `agent:${this.name}` : undefined;
  }

  /** `swarm NAME`, `agent NAME`, `tasks NAME` or `broadcast`. */
  toString(): string {
    return this.kind === 'broadcast' ? this.kind : `${this.kind} ${this.name}`;
  }
}
