/**
 * {@link Probe}: tries whether what is published still arrives.
 *
 * A connection can look well and be none: the other end is gone and nobody said so, or publisher
 * and subscriber have come to different servers after a failover. So a number goes the way of every
 * event and has to come back.
 */

import { Watch, sleep } from '../messenger/async.js';
import { ConnectionError } from './connection-error.js';
import { probeKey } from './keys.js';
import type { Link } from './link.js';
import type { Subscriber } from './subscriber.js';

export class Probe {
  readonly #key: string;
  #last = 0;
  /** The highest number that came back. */
  readonly #echo = new Watch(0);

  constructor(
    private readonly publisher: Link,
    private readonly subscriber: Subscriber,
    /** Nobody is interested any more. */
    private readonly end: AbortSignal,
  ) {
    this.#key = probeKey(publisher.settings.prefix, publisher.instance);
  }

  /** Returns when its channel is listened to. @throws {@link ConnectionError} */
  async start(): Promise<void> {
    await this.subscriber.listen(this.#key, {
      message: (payload) => {
        // A stranger can say what it likes here: what was not sent yet does not come back.
        const number = Number(payload.toString('latin1'));
        if (number > this.#echo.value && number <= this.#last) this.#echo.set(number);
      },
    });
  }

  /**
   * How many milliseconds an event takes from here to the server and back. A connection that does
   * not carry it is given up. @throws {@link ConnectionError}
   */
  async ping(patience: number): Promise<number> {
    const publisher = await this.publisher.ready(patience);
    const subscriber = await this.subscriber.link.ready(patience);
    this.#last += 1;
    const number = this.#last;
    const began = performance.now();
    try {
      await this.publisher.ask(publisher.connection, ['PUBLISH', this.#key, number], patience);
    } catch (error) {
      const why = ConnectionError.from(error);
      if (why.breaksConnection) this.publisher.giveUp(publisher.number, why);
      throw why;
    }
    if (!(await this.#echo.until((came) => came >= number, patience, this.end))) {
      if (this.end.aborted) throw ConnectionError.closed();
      const why = ConnectionError.timedOut(patience);
      this.subscriber.link.giveUp(subscriber.number, why);
      throw why;
    }
    return performance.now() - began;
  }

  /** Pings until the end. */
  async run(eachTime: () => void): Promise<void> {
    const { probeEvery, responseTimeout } = this.publisher.settings;
    for (;;) {
      await sleep(probeEvery, this.end);
      if (this.end.aborted) return;
      // What is wrong is in the state of the connections.
      await this.ping(responseTimeout).catch(() => undefined);
      if (!this.end.aborted) eachTime();
    }
  }
}
