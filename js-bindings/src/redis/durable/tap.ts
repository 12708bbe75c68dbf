/** {@link Tap}: what the live feed brought, until the reader takes it. */

import { Notify } from '../../messenger/async.js';
import { entryLength, type Entry } from './header.js';

const ENTRIES = 16_384;
const BYTES = 8 << 20;

/**
 * Between the connection, which must never wait, and a reader that may be slow. Bounded: what does
 * not fit is dropped, all of it, because the reader finds it in the log.
 */
export class Tap {
  #entries: Entry[] = [];
  #bytes = 0;
  #missed = false;
  readonly arrived = new Notify();

  /** An entry came. */
  push(entry: Entry): void {
    if (this.#missed) return;
    this.#bytes += entryLength(entry);
    if (this.#entries.length >= ENTRIES || this.#bytes > BYTES) return this.missed();
    this.#entries.push(entry);
    if (this.#entries.length === 1) this.arrived.notify();
  }

  /** The connection was another one for a while, or there was none. */
  missed(): void {
    this.clear();
    this.#missed = true;
    this.arrived.notify();
  }

  /** Forgets what came so far: the log is read from here on. */
  clear(): void {
    this.#entries = [];
    this.#bytes = 0;
    this.#missed = false;
  }

  /** What has come: entries, in order; or that something may have been missed. */
  take(): Entry[] | 'missed' {
    if (this.#missed) {
      this.#missed = false;
      return 'missed';
    }
    const entries = this.#entries;
    this.clear();
    return entries;
  }
}
