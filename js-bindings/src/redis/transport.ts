/** {@link RedisTransport}: a transport over one Redis or Valkey server. */

import {
  type Channel,
  checkOptions,
  type ConnectionState,
  type DeadTask,
  type Encodable,
  Event,
  type EventInit,
  type Features,
  type Inbox,
  type Mode,
  type Received,
  type SubscribeOptions,
  type Transport,
  TransportError,
  TransportPublishError,
} from '../index.js';
import { Watch } from '../messenger/async.js';
import { checkMode } from '../messenger/options.js';
import { quietly } from '../quiet.js';
import { ConnectionError } from './connection-error.js';
import { Durable } from './durable.js';
import { DurableCarrier } from './durable/carrier.js';
import { Groups } from './group.js';
import { GroupCarrier } from './group/carrier.js';
import { key, probeKey } from './keys.js';
import { Link, type Current, type LinkState } from './link.js';
import { Live, liveCarrier } from './live.js';
import { Probe } from './probe.js';
import { Publisher } from './publisher.js';
import { Server } from './script.js';
import { settingsOf, type RedisOptions, type Settings } from './settings.js';
import { Subscriber } from './subscriber.js';
import { randomWord } from './words.js';

/** What is needed for durable and group channels: two connections, made when the first is used. */
interface Streams {
  /** For what is published. */
  readonly sending: Link;
  /** For what is read and answered. */
  readonly server: Server;
  readonly durable: Durable;
  readonly groups: Groups;
  readonly publishers: Readonly<Record<'durable' | 'group', Publisher>>;
}

/**
 * Joins swarms through a Redis or Valkey server, 7.0 or newer. It connects again without end when a
 * connection breaks, with growing delays. The same keys, frames and promises as the transport of
 * the Rust crate: processes of both talk to each other.
 *
 * ```ts no_run
 * import { Channel } from 'swarmbus';
 * import { RedisTransport } from 'swarmbus/redis';
 *
 * await using transport = await RedisTransport.connect('redis://127.0.0.1:6379');
 * const news = Channel.live('swarm-b');
 * await using inbox = await transport.subscribe(news);
 * await transport.publish(news, { type: 'task.created', payload: 'resize image 17' });
 * const received = await inbox.next();
 * if (received?.kind === 'event') received.event.payload; // 'resize image 17'
 * ```
 */
export class RedisTransport implements Transport {
  /** What it can do: all modes. */
  readonly features: Features = {
    modes: ['live', 'durable', 'group'],
    reportsGaps: true,
    crossesProcesses: true,
  };
  readonly #settings: Settings;
  readonly #instance = randomWord();
  readonly #state = new Watch<ConnectionState>({ kind: 'connecting' });
  readonly #publishing: Link;
  readonly #subscriber: Subscriber;
  readonly #publisher: Publisher;
  readonly #live: Live;
  readonly #probe: Probe;
  readonly #end = new AbortController();
  #streams: Streams | undefined;
  /** Events that got to no publisher. */
  #refused = 0;
  #closing: Promise<{ channel: Channel; event: Event }[]> | undefined;

  private constructor(settings: Settings) {
    this.#settings = settings;
    this.#publishing = new Link(settings, publisherDuty(settings, this.#instance), this.#instance);
    this.#subscriber = new Subscriber(settings, this.#instance);
    this.#publisher = new Publisher(this.#publishing, liveCarrier);
    this.#live = new Live(this.#subscriber);
    this.#probe = new Probe(this.#publishing, this.#subscriber, this.#end.signal);
    for (const link of [this.#publishing, this.#subscriber.link])
      link.state.listen(() => this.#watch());
  }

  /**
   * Connects to the server at a URL: `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`, `rediss://…` for
   * TLS, or `unix:///PATH[?db=DB&user=USER&pass=PASSWORD]`.
   *
   * @throws {@link SettingsError} when the settings make no sense, {@link ConnectionError} when the
   * first connection cannot be made. Later ones are tried without end.
   */
  static async connect(url: string, options?: RedisOptions): Promise<RedisTransport> {
    const transport = new RedisTransport(settingsOf(url, options));
    try {
      await transport.#publishing.first();
      await transport.#subscriber.link.first();
      await transport.#probe.start();
    } catch (error) {
      await transport.closeWithin(0);
      throw error;
    }
    void transport.#probe.run(() => {
      transport.#live.sweep();
      transport.#publisher.tellPositions();
    });
    return transport;
  }

  /** Whether there is a connection. */
  get state(): ConnectionState {
    return this.#state.value;
  }

  /**
   * How many events `publish` and `publishBatch` have handed back. They tell it to whoever awaits
   * them, and otherwise it shows here alone: a publish that nobody awaits ends no process.
   */
  get refused(): number {
    const { durable, group } = this.#streams?.publishers ?? {};
    return (
      this.#refused + this.#publisher.refused + (durable?.refused ?? 0) + (group?.refused ?? 0)
    );
  }

  /** Calls `listener` with each new state; what it returns ends that. */
  onState(listener: (state: ConnectionState) => void): () => void {
    return this.#state.listen((state) => {
      try {
        listener(state);
      } catch {
        // It is no business of the connection.
      }
    });
  }

  /**
   * Publishes on a channel of its own and waits until that comes back: how many milliseconds an
   * event takes to the server and from there. For health checks. @throws {@link ConnectionError}
   */
  ping(): Promise<number> {
    return this.#probe.ping(this.#settings.responseTimeout);
  }

  /** See {@link Transport.publish}. */
  publish(channel: Channel, init: Event | EventInit): Promise<void> {
    if (channel.mode === 'live') return this.#publisher.publish(channel, init);
    return this.#at(channel.mode, [init], (publisher) => publisher.publish(channel, init));
  }

  /** See {@link Transport.publishBatch}. */
  publishBatch(channel: Channel, events: readonly (Event | EventInit)[]): Promise<void> {
    return this.#at(channel.mode, events, (publisher) => publisher.publishBatch(channel, events));
  }

  /** See {@link Transport.publishConfirmed}. */
  publishConfirmed(channel: Channel, events: readonly (Event | EventInit)[]): Promise<void> {
    return this.#at(channel.mode, events, (publisher) =>
      publisher.publishConfirmed(channel, events),
    );
  }

  /** See {@link Transport.publishOnce}. */
  async publishOnce(channel: Channel, once: string, init: Event | EventInit): Promise<boolean> {
    const event = Event.of(init);
    try {
      if (channel.mode === 'live') {
        throw TransportError.unsupported(
          'a live channel cannot tell whether an event was published before',
        );
      }
      const streams = this.#open();
      // What was published before comes before.
      await streams.publishers[channel.mode].drained();
      const mode = channel.mode === 'group' ? streams.groups : streams.durable;
      return await mode.publishOnce(channel, once, event);
    } catch (error) {
      throw new TransportPublishError([event], error as TransportError);
    }
  }

  /** See {@link Transport.flush}. */
  async flush(): Promise<void> {
    const all = [this.#publisher.flush()];
    if (this.#streams !== undefined) {
      const { publishers, groups } = this.#streams;
      all.push(publishers.durable.flush(), publishers.group.flush(), groups.flush());
    }
    // Each is asked, also when another failed: what was lost is told once.
    const failed = (await Promise.allSettled(all)).flatMap((flushed) =>
      flushed.status === 'rejected' ? [flushed.reason as TransportError] : [],
    );
    const lost = failed.filter(({ code }) => code === 'lost');
    const first = lost[0] ?? failed[0];
    if (first === undefined) return;
    if (lost.length < 2) throw first;
    const events = lost.reduce((sum, error) => sum + error.events, 0);
    throw TransportError.lost(events, first.cause as TransportError);
  }

  /** See {@link Transport.subscribe}. */
  async subscribe<P = unknown>(channel: Channel, options?: SubscribeOptions): Promise<Inbox<P>> {
    const checked = checkOptions(channel.mode, options);
    if (this.#end.signal.aborted) throw TransportError.closed();
    switch (channel.mode) {
      case 'live':
        return (await this.#live.subscribe(channel, checked)) as Inbox<P>;
      case 'durable':
        return (await this.#open().durable.subscribe(channel, checked)) as Inbox<P>;
      case 'group':
        return (await this.#open().groups.subscribe(channel, checked)) as Inbox<P>;
    }
  }

  /** See {@link Transport.history}. */
  async history<P = unknown>(channel: Channel, count: number): Promise<Received<P>[]> {
    if (channel.mode !== 'durable')
      throw TransportError.unsupported(`a ${channel.mode} channel keeps no history`);
    const most = Math.floor(count);
    return (most >= 1 ? await this.#open().durable.history(channel, most) : []) as Received<P>[];
  }

  /** See {@link Transport.deadLetters}. */
  async deadLetters<P = unknown>(channel: Channel, count: number): Promise<DeadTask<P>[]> {
    if (channel.mode !== 'group')
      throw TransportError.unsupported(`a ${channel.mode} channel has no dead letters`);
    const most = Math.min(Math.floor(count), Number.MAX_SAFE_INTEGER);
    return (most >= 1 ? await this.#open().groups.deadLetters(channel, most) : []) as DeadTask<P>[];
  }

  /**
   * Deletes what the server keeps of a durable or group channel; of a live one it keeps nothing.
   * Subscribers that are there see a gap when it is published to again. @throws {@link TransportError}
   */
  async delete(channel: Channel): Promise<void> {
    if (channel.mode === 'live') return;
    const { server } = this.#open();
    const name = (purpose: string): string => key(this.#settings.prefix, channel, purpose);
    try {
      const names = [name('log'), name('meta')];
      if (channel.mode === 'group') {
        const groups = await server.insist({ command: ['HKEYS', name('groups')] });
        names.splice(0, 2, name('tasks'), name('dead'), name('groups'));
        for (const group of Array.isArray(groups) ? groups : [])
          names.push(name(`delayed:${String(group)}`));
      }
      await server.insist({ command: ['UNLINK', ...names] });
    } catch (error) {
      throw ConnectionError.from(error).toTransport();
    }
  }

  /** See {@link Transport.close}. */
  async close(): Promise<void> {
    // As far as that is possible at once: without a connection, not at all.
    const connected = this.#publishing.error === undefined;
    await this.closeWithin(connected ? this.#settings.responseTimeout : 0);
  }

  /**
   * Closes the transport, sends what waits for as long as `patience` milliseconds, and returns what
   * is left: events that the server does not have.
   */
  closeWithin(patience: number): Promise<{ channel: Channel; event: Event }[]> {
    this.#closing ??= this.#close(patience);
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(patience: number): Promise<{ channel: Channel; event: Event }[]> {
    const began = performance.now();
    this.#end.abort();
    const streams = this.#streams;
    const { durable, group } = streams?.publishers ?? {};
    const left = await Promise.all(
      [this.#publisher, durable, group].map((publisher) => publisher?.close(patience) ?? []),
    );
    // Answers to tasks, as far as they can be sent.
    const time = patience - (performance.now() - began);
    if (time > 0) await streams?.groups.flush(time).catch(() => undefined);
    this.#live.close();
    streams?.durable.close();
    streams?.groups.close();
    streams?.server.link.close();
    streams?.sending.close();
    this.#subscriber.close();
    this.#publishing.close();
    this.#state.set({ kind: 'closed' });
    return left.flat();
  }

  #open(): Streams {
    if (this.#streams !== undefined) return this.#streams;
    if (this.#end.signal.aborted) throw TransportError.closed();
    const [settings, instance] = [this.#settings, this.#instance];
    const sending = new Link(settings, { name: 'streams' }, instance);
    const server = new Server(new Link(settings, { name: 'reader' }, instance));
    this.#streams = {
      sending,
      server,
      durable: new Durable(server, this.#subscriber),
      groups: new Groups(server),
      publishers: {
        durable: new Publisher(sending, new DurableCarrier(settings)),
        group: new Publisher(sending, new GroupCarrier(settings)),
      },
    };
    return this.#streams;
  }

  #at(
    mode: Mode,
    inits: readonly Encodable[],
    publish: (publisher: Publisher) => Promise<void>,
  ): Promise<void> {
    try {
      return publish(mode === 'live' ? this.#publisher : this.#open().publishers[checkMode(mode)]);
    } catch (error) {
      const events = inits.map((init) => Event.of(init));
      this.#refused += events.length;
      return quietly(Promise.reject(new TransportPublishError(events, error as TransportError)));
    }
  }

  /** Makes one state of those of both connections: the worse one. */
  #watch(): void {
    if (this.#state.value.kind === 'closed' || this.#end.signal.aborted) return;
    const [publishing, subscribing] = [
      this.#publishing.state.value,
      this.#subscriber.link.state.value,
    ];
    const worst: LinkState = publishing.kind === 'connected' ? subscribing : publishing;
    if (worst.kind !== 'connected' || this.#state.value.kind !== 'connected')
      this.#state.set(worst);
  }
}

/** The connection that publishes is of use only to a user that may. */
function publisherDuty(
  settings: Settings,
  instance: string,
): ConstructorParameters<typeof Link>[1] {
  const name = probeKey(settings.prefix, instance);
  return {
    name: 'publisher',
    async begin({ connection }: Current, link: Link): Promise<void> {
      await link.ask(connection, ['PUBLISH', name, 'hello']);
    },
  };
}
