/** {@link Fans}: one name on the live connection for all subscriptions of a channel. */

import type { Listener, Subscriber } from '../subscriber.js';
import { isHeader } from './header.js';
import type { Tap } from './tap.js';

/** Who listens to what. */
export class Fans {
  readonly #fans = new Map<string, Fan>();

  constructor(private readonly subscriber: Subscriber) {}

  /** Returns when the server sends what is published under the name. @throws {@link ConnectionError} */
  async join(name: string, tap: Tap): Promise<void> {
    let fan = this.#fans.get(name);
    if (fan === undefined) {
      fan = new Fan();
      this.#fans.set(name, fan);
    }
    fan.taps.add(tap);
    await this.subscriber.listen(name, fan);
  }

  /** Listens no more. */
  leave(name: string, tap: Tap): void {
    const fan = this.#fans.get(name);
    if (fan === undefined || !fan.taps.delete(tap) || fan.taps.size > 0) return;
    this.#fans.delete(name);
    this.subscriber.forget(name);
  }
}

/** The taps of one name. */
class Fan implements Listener {
  readonly taps = new Set<Tap>();
  /** Its frame comes next. */
  #header: Buffer | undefined;

  message(payload: Buffer): void {
    const header = this.#header;
    this.#header = undefined;
    if (isHeader(payload)) {
      this.#header = payload;
    } else if (header !== undefined) {
      // What comes without a header is a stranger's.
      for (const tap of this.taps) tap.push({ header, frame: payload });
    }
  }

  resumed(): void {
    this.#header = undefined;
    for (const tap of this.taps) tap.missed();
  }
}
