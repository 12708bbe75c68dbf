/**
 * What a forwarder changes, and the checks of it.
 */

import type { Micros, Target } from '../event.js';
import { EncodeError } from './error.js';
import { isTooLate } from './layout.js';

/** What a forwarder changes; everything else is copied. */
export interface Changes {
  /** 0 to 9. */
  readonly priority?: number | undefined;
  /** Another deadline; `null` for none. */
  readonly deadline?: Micros | null | undefined;
  /** Another target; `null` for everybody. */
  readonly target?: Target | null | undefined;
  /** One more place at the end of the hop path. */
  readonly hop?: string | undefined;
  /** Another hop path in place of the one that is there; `hop` comes behind it. */
  readonly hops?: readonly string[] | undefined;
}

/** @throws EncodeError for what is no priority. */
export function checkPriority(priority: number): void {
  if (!(priority >= 0 && priority <= 9) || (priority | 0) !== priority) {
    throw new EncodeError('field', `priority is an integer from 0 to 9, not ${String(priority)}`);
  }
}

/** @throws EncodeError for what is no deadline. */
export function halves(time: Micros): [low: number, high: number] {
  const fits =
    typeof time === 'bigint'
      ? time > 0n && time < 1n << 64n
      : Number.isSafeInteger(time) && time > 0;
  const whole = fits ? BigInt(time) : 0n;
  const [low, high] = [Number(whole & 0xffff_ffffn), Number(whole >> 32n)];
  if (!fits || isTooLate(low, high)) {
    throw new EncodeError(
      'field',
      `deadline is microseconds since 1970, until the year 9999, not ${String(time)}`,
    );
  }
  return [low, high];
}
