/** {@link Lanes}: how the events of one publisher are numbered, channel by channel. */

import type { Channel } from '../index.js';
import { MAIN_PURPOSE, key } from './keys.js';
import type { Lane } from './outbox.js';
import { randomWord } from './words.js';

/** Channels whose numbering is remembered. One that is forgotten begins anew under another number. */
const MAX_LANES = 4_096;

/** How often subscribers are told where a channel that has fallen silent is. */
const POSITIONS = 3;

/** How far a channel is. */
export interface Numbering {
  readonly lane: Lane;
  /** The number of its next event. */
  next: number;
  /** How often the position is still to be told after the last event. */
  positions: number;
}

/** An event has the next number. */
export function count(numbering: Numbering): void {
  numbering.next += 1;
  numbering.positions = POSITIONS;
}

/** The channels of one publisher. */
export class Lanes {
  /** By the names of channels; the oldest first. */
  readonly #known = new Map<string, Numbering>();
  #lastUsed: Numbering | undefined;

  constructor(private readonly prefix: string) {}

  of(channel: Channel): Numbering {
    // Mostly the next event is for the same channel.
    if (this.#lastUsed?.lane.channel === channel) return this.#lastUsed;
    const known = this.#known.get(channel.name);
    return (this.#lastUsed = known ?? this.#begin(channel));
  }

  /** Those of which a position is still to be told, which is done by that. */
  due(): Numbering[] {
    const due = [...this.#known.values()].filter(({ positions }) => positions > 0);
    for (const numbering of due) numbering.positions -= 1;
    return due;
  }

  #begin(channel: Channel): Numbering {
    const numbering: Numbering = {
      lane: {
        channel,
        key: key(this.prefix, channel, MAIN_PURPOSE[channel.mode]),
        publisher: randomWord(),
        born: performance.now(),
      },
      next: 1,
      positions: 0,
    };
    if (this.#known.size >= MAX_LANES) this.#forgetOne();
    this.#known.set(channel.name, numbering);
    return numbering;
  }

  /** Forgets the channel that is in nobody's way: one that has told its position. */
  #forgetOne(): void {
    let oldest: string | undefined;
    for (const [name, { positions }] of this.#known) {
      oldest ??= name;
      if (positions === 0) {
        oldest = name;
        break;
      }
    }
    if (oldest !== undefined) this.#known.delete(oldest);
  }
}
