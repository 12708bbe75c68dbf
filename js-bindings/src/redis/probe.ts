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
  ) {
    this.#key = probeKey(publisher.settings.prefix, publisher.instance);
  }

  /** Returns when its channel is listened to. @throws {@link ConnectionError} */
  async start(): Promise<void> {
    await this.subscriber.listen(this.#key, {
      message: (payload) => {
        // A stranger can say what it likes here, and delay one probe.
        const number = Number(payload.toString('latin1'));
        if (number > this.#echo.value) this.#echo.set(number);
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
    if (!(await this.#echo.until((came) => came >= number, patience))) {
      const why = ConnectionError.timedOut(patience);
      this.subscriber.link.giveUp(subscriber.number, why);
      throw why;
    }
    return performance.now() - began;
  }

  /** Pings until `signal` is aborted. */
  async run(signal: AbortSignal, eachTime: () => void): Promise<void> {
    const { probeEvery, responseTimeout } = this.publisher.settings;
    for (;;) {
      await sleep(probeEvery, signal);
      if (signal.aborted) return;
      // What is wrong is in the state of the connections.
      await this.ping(responseTimeout).catch(() => undefined);
      if (!signal.aborted) eachTime();
    }
  }
}
