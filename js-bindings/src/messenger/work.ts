/** Working on a queue of tasks. */

import { Backoff } from '../backoff.js';
import { Notify } from './async.js';
import type { Channel } from './channel.js';
import type { Handler, Hub } from './hub.js';
import type { Inbox } from './inbox.js';
import type { Received } from './incoming.js';
import { Message } from './message.js';
import { positive } from './number.js';
import type { SubscribeOptions } from './options.js';
import type { TransportError } from './transport-error.js';

/** How to work on a queue of tasks. */
export interface WorkOptions extends Omit<SubscribeOptions, 'capacity'> {
  /** How many tasks are worked on at once; twice as many are fetched. Default 16. */
  concurrent?: number | undefined;
  /**
   * How long a task that went wrong waits before it is tried again, here or elsewhere. How often is
   * `maxDeliveries`. Default {@link Backoff.RETRY}.
   */
  backoff?: Backoff | undefined;
}

/** A worker. `await using` stops it. */
export class Worker {
  /**
   * Settles when it works no more: with what ended it, if nobody did that on purpose. It never
   * fails.
   */
  readonly ended: Promise<TransportError | undefined>;
  readonly #stop: () => void;

  /** For messengers. */
  constructor(stop: () => void, ended: Promise<TransportError | undefined>) {
    this.#stop = stop;
    this.ended = ended;
  }

  /** Takes no more tasks and waits for those it is working on. */
  async stop(): Promise<void> {
    this.#stop();
    await this.ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** How to subscribe for such work. */
export function subscribing({
  concurrent = 16,
  backoff: _,
  ...options
}: WorkOptions): SubscribeOptions {
  return { ...options, capacity: positive('concurrent', concurrent) * 2 };
}

/** Begins to work on what comes in. */
export function startWork(
  hub: Hub,
  channel: Channel,
  inbox: Inbox,
  handle: Handler,
  options: WorkOptions,
): Worker {
  const { concurrent = 16, backoff = Backoff.RETRY } = options;
  const ended = new Notify();
  const running = new Set<Promise<void>>();
  let stopped = false;

  const one = async (received: Received): Promise<void> => {
    const message = new Message(received.event, 'tasks');
    hub.history.note(false, channel, received.event);
    hub.counts.received += 1;
    try {
      await handle(message);
      hub.counts.tasksDone += 1;
      received.ack();
    } catch (error) {
      hub.counts.tasksFailed += 1;
      hub.failed(error, message);
      received.nack(backoff.delay(received.deliveries - 1));
    }
  };
  const work = async (): Promise<void> => {
    for (;;) {
      while (running.size >= concurrent) await ended.wait();
      const incoming = stopped ? undefined : await inbox.next();
      if (incoming === undefined) break;
      if (incoming.kind === 'gap') {
        hub.gap(channel, incoming);
        continue;
      }
      const task: Promise<void> = one(incoming).then(() => {
        running.delete(task);
        ended.notify();
      });
      running.add(task);
    }
    await Promise.all(running);
  };
  const stop = (): void => {
    stopped = true;
    inbox.close();
  };
  hub.closing.signal.addEventListener('abort', stop);
  if (hub.isClosed) stop();
  const done = work().finally(() => hub.closing.signal.removeEventListener('abort', stop));
  hub.spawn(done);
  return new Worker(
    stop,
    done.then(() => inbox.error),
  );
}
