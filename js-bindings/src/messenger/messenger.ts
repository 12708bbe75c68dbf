/** {@link Messenger}: agents of several processes talk to each other, over any transport. */

import { Event, type EventInit } from '../event.js';
import { deferred, timeout, within } from './async.js';
import { DIRECT, type Listening } from './handlers.js';
import type { Passed } from './history.js';
import { Hub, nowMicros, type Handler, type Responder } from './hub.js';
import { Identity, To, channelOf } from './identity.js';
import { MARK, marked, type Message, type Scope } from './message.js';
import { Receiver } from './receive.js';
import { RequestError, notSent, refusedError, type Ended } from './request.js';
import { settingsOf, type MessengerOptions, type Positions } from './settings.js';
import type { MessengerStats } from './stats.js';
import { Topic } from './topic.js';
import { TransportError } from './transport-error.js';
import type { ConnectionState, Transport } from './transport.js';
import { startWork, subscribing, type WorkOptions, type Worker } from './work.js';
import { quietly } from '../quiet.js';

/**
 * An agent of a swarm on a transport.
 *
 * | to | who gets it | channel |
 * | --- | --- | --- |
 * | `To.swarm` | every agent of that swarm | `swarm:NAME` |
 * | `To.agent` | that agent | `agent:NAME` |
 * | `To.broadcast` | every agent of every other swarm | `broadcast` |
 * | `To.tasks` | one of those who `work` on the queue | `tasks:NAME`, a group channel |
 * | `topic` | everybody else who follows the topic | `topic:NAME` |
 * | an answer | the messenger that asked | `reply:NODE`, always live |
 *
 * A messenger never gets what it sent itself. The handlers of a channel are called one after the
 * other: one that takes long holds up its channel.
 *
 * ```ts no_run
 * import { Messenger, To } from 'swarmbus';
 * import { RedisTransport } from 'swarmbus/redis';
 *
 * await using transport = await RedisTransport.connect('redis://127.0.0.1:6379');
 * await using scout = await Messenger.join(transport, 'scouts', 'scout-1');
 * scout.on('site.*', (message) => console.log(message.agent, message.payload));
 * await scout.send(To.swarm('builders'), { type: 'site.found', payload: 'behind the hill' });
 * const answer = await scout.request(To.agent('builder-1'), { type: 'stock.asked' });
 * console.log(answer.payload);
 * ```
 */
export class Messenger {
  readonly #hub: Hub;

  private constructor(hub: Hub) {
    this.#hub = hub;
  }

  /**
   * Joins as an agent of a swarm. `prepare` adds handlers before anything can come in, so that they
   * miss nothing: for one that resumes.
   *
   * @throws {@link NameError}, {@link TransportError}, RangeError for settings that make no sense, and
   * what `prepare` throws.
   */
  static async join(
    transport: Transport,
    swarm: string,
    agent: string,
    options: MessengerOptions = {},
    prepare?: (messenger: Messenger) => void,
  ): Promise<Messenger> {
    const identity = new Identity(swarm, agent);
    const settings = settingsOf(options);
    if (!transport.features.modes.includes(settings.mode)) {
      throw TransportError.unsupported(`this transport has no ${settings.mode} channels`);
    }
    const hub = new Hub(transport, identity, settings);
    const messenger = new Messenger(hub);
    try {
      prepare?.(messenger);
      const ending = hub.closing.signal;
      const answers = channelOf('reply', hub.node);
      await new Receiver(hub, answers, 'agent', hub.handlers, {}, ending).startAnswers();
      for (const to of [To.swarm(swarm), To.agent(agent), To.broadcast()]) {
        const channel = to.channel(hub.mode);
        const receiver = new Receiver(
          hub,
          channel,
          to.kind,
          hub.handlers,
          hub.subscribing(channel),
          ending,
        );
        await receiver.start();
      }
      return messenger;
    } catch (error) {
      await messenger.close(0);
      throw error;
    }
  }

  /** Who this is. */
  get identity(): Identity {
    return this.#hub.identity;
  }

  /**
   * Sends an event. It returns when the transport has it. An event without an id and a timestamp
   * gets them.
   *
   * A failure that nobody awaits is no unhandled rejection: it is counted as `notSent`, and that is
   * all.
   *
   * @throws {@link TransportPublishError}
   */
  send(to: To, init: Event | EventInit): Promise<void> {
    return quietly(this.#send(to, init));
  }

  async #send(to: To, init: Event | EventInit): Promise<void> {
    const event = Event.of(init);
    this.#hub.refuseIfClosed(event);
    const addressed =
      event.target === undefined && to.target !== undefined
        ? event.with({ target: to.target })
        : event;
    await this.#hub.send(to.channel(this.#hub.mode), addressed);
  }

  /** Sends an event to every agent of every other swarm, as {@link send} does. @throws {@link TransportPublishError} */
  broadcast(event: Event | EventInit): Promise<void> {
    return this.send(To.broadcast(), event);
  }

  /**
   * Handles messages whose type a pattern matches (`task.created`, `task.*`, `task.>`, or a regular expression),
   * which were sent to this agent, its swarm, or everybody, or only to one of these.
   */
  on<P = unknown>(
    pattern: string | RegExp,
    handler: (message: Message<P>) => unknown,
    options: { only?: Exclude<Scope, 'topic' | 'tasks'> } = {},
  ): Listening {
    const scopes = options.only === undefined ? DIRECT : [options.only];
    return this.#hub.handlers.insert(pattern, scopes, handler as Handler);
  }

  /**
   * Answers requests whose type a pattern matches, with the payload that is returned or promised. Of
   * several that match, the first one answers. An error is told to the one who asks. An answer has
   * until the request's deadline; then `signal` is aborted.
   */
  respond<P = unknown>(
    pattern: string | RegExp,
    responder: (message: Message<P>, signal: AbortSignal) => unknown,
  ): Listening {
    return this.#hub.responders.insert(pattern, DIRECT, responder as Responder);
  }

  /**
   * Sends a request and waits for the answer, until the event's deadline or else for
   * `requestTimeout`. Of a swarm, the first answer counts. @throws {@link RequestError}
   */
  async request<P = unknown>(
    to: To,
    init: Event | EventInit,
    options: { signal?: AbortSignal } = {},
  ): Promise<Event<string, P>> {
    const [hub, event] = [this.#hub, Event.of(init)];
    if (to.kind === 'tasks')
      throw new RequestError('tasks', 'a queue of tasks gives no answers', { event });
    if (options.signal?.aborted === true) throw abortedError(event, options.signal);
    const now = nowMicros();
    const limit =
      event.deadline === undefined
        ? hub.settings.requestTimeout
        : (Number(event.deadline) - now) / 1_000;
    if (limit <= 0)
      throw new RequestError('expired', `the deadline of ${event.type} has passed`, { event });
    const ended = deferred<Ended | 'late' | 'aborted'>();
    const number = hub.pending.begin(to.kind === 'agent', (how) => ended.resolve(how));
    if (number === undefined) {
      const { limit: most } = hub.pending;
      throw new RequestError(
        'too_many',
        `${most} requests wait for their answers, which is the limit`,
        { event },
      );
    }
    const aborted = (): void => ended.resolve('aborted');
    options.signal?.addEventListener('abort', aborted);
    const timer = timeout(() => ended.resolve('late'), limit);
    let refused;
    try {
      hub.counts.requests += 1;
      const deadline = now + Math.ceil(limit * 1_000);
      const request = marked(event.with({ deadline }), MARK.request, number.toString(16));
      this.send(to, request).catch((error: unknown) => ended.reject(notSent(error, event)));
      const how = await ended.promise;
      refused = hub.pending.leave(number);
      return this.#ended(
        how === 'late' && refused !== undefined ? { refused } : how,
        event,
        limit,
        options.signal,
      ) as Event<string, P>;
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', aborted);
      hub.pending.leave(number);
    }
  }

  #ended(
    how: Ended | 'late' | 'aborted',
    event: Event,
    limit: number,
    signal: AbortSignal | undefined,
  ): Event {
    const { counts } = this.#hub;
    if (how === 'closed') throw new RequestError('closed', 'the messenger is closed', { event });
    if (how === 'aborted') throw abortedError(event, signal);
    if (how === 'late') {
      counts.unanswered += 1;
      throw new RequestError('no_answer', `there was no answer within ${Math.round(limit)} ms`, {
        event,
      });
    }
    if ('refused' in how) {
      counts.refused += 1;
      throw refusedError(how.refused, event);
    }
    counts.answered += 1;
    if ('failed' in how)
      throw new RequestError('failed', `the other side failed: ${how.failed}`, { event });
    return how.answer;
  }

  /** Requests that wait for their answers. */
  get waiting(): number {
    return this.#hub.pending.size;
  }

  /** Follows a topic: a channel on which those who care coordinate. @throws {@link TransportError} */
  async topic(name: string): Promise<Topic> {
    if (this.#hub.isClosed) throw TransportError.closed();
    return Topic.follow(this.#hub, name);
  }

  /**
   * Works on a queue of tasks: each goes to one worker of a group. One whose handler succeeds is
   * acknowledged, one that fails is put back, and comes again here or elsewhere; after as many
   * deliveries as may be, it is a dead letter of the channel. @throws {@link TransportError}
   */
  async work<P = unknown>(
    queue: string,
    handler: (message: Message<P>) => unknown,
    options: WorkOptions = {},
  ): Promise<Worker> {
    if (this.#hub.isClosed) throw TransportError.closed();
    const channel = To.tasks(queue).channel(this.#hub.mode);
    const inbox = await this.#hub.transport.subscribe(channel, subscribing(options));
    return startWork(this.#hub, channel, inbox, handler as Handler, options);
  }

  /** Waits until the other side has everything that was sent. @throws {@link TransportError} */
  flush(): Promise<void> {
    return this.#hub.transport.flush();
  }

  /** The last messages, sent and received, oldest first. */
  history(): Passed[] {
    return this.#hub.history.all();
  }

  /** What was done so far. */
  stats(): MessengerStats {
    return { ...this.#hub.counts };
  }

  /**
   * Where this messenger is in its durable channels: after the last message whose handlers have
   * returned. To be saved, and given to `resume` after a restart.
   */
  positions(): Positions {
    return this.#hub.positions();
  }

  /** How the transport's connection is. */
  get state(): ConnectionState {
    return this.#hub.transport.state;
  }

  /**
   * Ends the messenger: nothing is received or sent any more, and requests that wait end as `closed`.
   * Waits at most for `limit` milliseconds until handlers, answers and tasks at work are done, and
   * until the transport has sent everything; `false` if that was not enough. The transport stays
   * open. A handler that waits for this waits for itself.
   */
  async close(limit = 5_000): Promise<boolean> {
    const hub = this.#hub;
    hub.closing.abort();
    hub.pending.close();
    const deadline = performance.now() + limit;
    let done = await hub.settled(limit);
    hub.over.abort();
    hub.handlers.free();
    hub.responders.free();
    if (limit > 0) {
      const flushed = hub.transport.flush().then(
        () => true,
        () => false,
      );
      done =
        (await within(flushed, Math.max(1, deadline - performance.now()), () => false)) && done;
    }
    return done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function abortedError(event: Event, signal: AbortSignal | undefined): RequestError {
  return new RequestError('aborted', 'whoever asked gave up', { event, cause: signal?.reason });
}
