/**
 * {@link Carrier}: how frames of one mode get to the server. The publisher collects events into
 * frames and keeps them in order; a carrier says what a frame is in Redis's terms.
 */

import { ConnectionError } from './connection-error.js';
import type { Arg, Outcome } from './driver.js';
import type { Current, Link } from './link.js';
import type { Lane } from './outbox.js';

/** Room in front of a frame, for what a mode says about it. */
export const HEADROOM = 32;

/** Events of one channel that travel together. */
export interface Parcel {
  readonly lane: Lane;
  /** {@link HEADROOM} bytes, and a frame of the codec. */
  readonly message: Buffer;
  /** How many events it holds: at least 1. */
  readonly count: number;
  /** The number of the first in its lane, from 1. */
  readonly first: number;
  /** The lowest ticket of the round that it was packed in. */
  readonly ticket: number;
  /** It was sent before, and nobody knows what became of that. */
  again: boolean;
}

/** The frame of a parcel. */
export function frameIn(parcel: Parcel): Buffer {
  return parcel.message.subarray(HEADROOM);
}

/**
 * What the server made of a parcel: it has it; or it does not have it, and may take it later, or
 * never will.
 */
export type Judgement =
  'taken' | { readonly notNow: ConnectionError } | { readonly refused: ConnectionError };

/** How frames of one mode get to the server. */
export interface Carrier {
  /** The mode. */
  readonly name: string;
  /** Whether a hole in the numbers of a lane must show at the subscriber. */
  readonly numbered: boolean;
  /**
   * Whether a parcel is sent again when the connection broke before its answer: then the command
   * must do nothing the second time. Such carriers have one parcel of a channel on its way at a
   * time, so that none overtakes the one before it. If not, its events count as lost.
   */
  readonly resends: boolean;
  /** Called with each new connection before the first parcel, and after a `notNow`. */
  prepare?(link: Link, current: Current): Promise<void>;
  /** The one command that carries a parcel. */
  command(parcel: Parcel): readonly Arg[];
  /** A command that tells subscribers the number of a lane's next event. */
  position?(lane: Lane, next: number): readonly Arg[];
  /** What the answer to a parcel's command means. */
  judge(outcome: Outcome): Judgement;
}
