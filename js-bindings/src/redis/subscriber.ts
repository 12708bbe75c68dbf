/**
 * {@link Subscriber}: one connection that listens, for everybody who listens.
 *
 * What is listened to is a set of names, each with its {@link Listener}. A loop brings the server's
 * idea of that set in line with ours, and every new connection begins with all of it; each
 * SUBSCRIBE has to be acknowledged.
 */

import { Notify, Watch } from '../messenger/async.js';
import { ConnectionError } from './connection-error.js';
import type { Connection } from './driver.js';
import { Link, answered, type Current, type Duty } from './link.js';
import type { Settings } from './settings.js';

/** Takes the messages of one name: briefly, and without waiting. */
export interface Listener {
  message(payload: Buffer): void;
  /** From here to `resumed` messages are missed. */
  interrupted?(): void;
  /** Listens again. */
  resumed?(): void;
  /** The server does not allow it, or not any more. */
  refused?(error: ConnectionError): void;
}

/** Names of one SUBSCRIBE. */
const CHUNK = 512;

/** What the server has said about a name. */
type Ack = 'pending' | 'active' | ConnectionError;

interface Topic {
  listener: Listener;
  /** The connection that it is acknowledged on; 0 for none. */
  on: number;
  readonly ack: Watch<Ack>;
}

/** The connection that listens. */
export class Subscriber implements Duty {
  readonly name = 'subscriber';
  /** One that is subscribed may not ask for the server's role: the probe looks after it. */
  readonly unchecked = true;
  readonly link: Link;
  readonly #wanted = new Map<string, Topic>();
  /** Perhaps still known to the server. */
  #unwanted: string[] = [];
  readonly #changed = new Notify();
  /** Of the connection, or of the next: what comes from older ones comes too late. */
  #number = 0;
  #closed = false;

  constructor(
    private readonly settings: Settings,
    instance: string,
  ) {
    this.link = new Link(settings, this, instance);
    void this.#keepInLine();
  }

  /**
   * Listens to a name; one that has a listener already gets the new one. Returns when the server
   * has acknowledged it. @throws {@link ConnectionError}
   */
  async listen(name: string, listener: Listener): Promise<void> {
    if (this.#closed) throw ConnectionError.closed();
    let topic = this.#wanted.get(name);
    if (topic === undefined) {
      topic = { listener, on: 0, ack: new Watch<Ack>('pending') };
      this.#wanted.set(name, topic);
    } else {
      topic.listener = listener;
    }
    this.#changed.notify();
    const patience = this.settings.responseTimeout;
    await topic.ack.until((ack) => ack !== 'pending', patience);
    const ack = topic.ack.value;
    if (ack === 'pending') throw this.link.error ?? ConnectionError.timedOut(patience);
    if (ack !== 'active') throw ack;
  }

  /** Does not listen to it any more. */
  forget(name: string): void {
    const topic = this.#wanted.get(name);
    if (topic === undefined) return;
    this.#wanted.delete(name);
    topic.ack.set(ConnectionError.closed());
    // One that is not acknowledged yet is left when it is.
    if (topic.on !== 0) this.#unwanted.push(name);
    this.#changed.notify();
  }

  /** Ends the connection and forgets all listeners. */
  close(): void {
    this.#closed = true;
    this.link.close();
    for (const topic of this.#wanted.values()) topic.ack.set(ConnectionError.closed());
    this.#wanted.clear();
    this.#changed.notify();
  }

  message(number: number, name: string, payload: Buffer): void {
    if (number >= this.#number) this.#wanted.get(name)?.listener.message(payload);
  }

  async begin({ number, connection }: Current): Promise<void> {
    this.#number = number;
    this.#unwanted = [];
    await this.#subscribe(number, connection, this.#missing(number));
  }

  ended(): void {
    this.#number += 1;
    for (const topic of [...this.#wanted.values()]) {
      if (topic.on === 0) continue;
      if (topic.ack.value === 'active') topic.ack.set('pending');
      topic.listener.interrupted?.();
    }
  }

  /** What this connection does not listen to yet. */
  #missing(number: number): string[] {
    const missing: string[] = [];
    for (const [name, topic] of this.#wanted) if (topic.on !== number) missing.push(name);
    return missing;
  }

  /** Subscribes, many names at a time. An error is one of the connection. */
  async #subscribe(
    number: number,
    connection: Connection,
    names: readonly string[],
  ): Promise<void> {
    for (let at = 0; at < names.length; at += CHUNK) {
      const chunk = names.slice(at, at + CHUNK);
      const error = await this.#try(connection, chunk);
      if (error === undefined) {
        this.#acknowledged(number, chunk, 'active');
        continue;
      }
      // One that may not be subscribed to has all of them refused.
      for (const name of chunk) {
        this.#acknowledged(number, [name], (await this.#try(connection, [name])) ?? 'active');
      }
    }
  }

  /** Returns when the server has acknowledged each of them, or why they may not be listened to. */
  async #try(
    connection: Connection,
    names: readonly string[],
  ): Promise<ConnectionError | undefined> {
    const outcome = await answered(connection.subscribe(names), this.settings.responseTimeout);
    if ('reply' in outcome) return undefined;
    const error = ConnectionError.answered(outcome.refused, 'SUBSCRIBE');
    if (error.code === 'no_permission') return error;
    throw error;
  }

  #acknowledged(number: number, names: readonly string[], ack: Ack): void {
    if (number < this.#number) return;
    for (const name of names) {
      const topic = this.#wanted.get(name);
      if (topic === undefined) {
        // Forgotten while it was on its way.
        this.#unwanted.push(name);
        this.#changed.notify();
        continue;
      }
      topic.on = number;
      topic.ack.set(ack);
      if (ack === 'active') topic.listener.resumed?.();
      else if (ack !== 'pending') topic.listener.refused?.(ack);
    }
  }

  /** Has the server know of changes. */
  async #adjust(number: number, connection: Connection): Promise<void> {
    const unwanted = this.#unwanted.filter((name) => !this.#wanted.has(name));
    this.#unwanted = [];
    for (let at = 0; at < unwanted.length; at += CHUNK) {
      const chunk = unwanted.slice(at, at + CHUNK);
      await answered(connection.unsubscribe(chunk), this.settings.responseTimeout);
      // Wanted again in the meantime, they have to be subscribed again.
      for (const name of chunk) {
        const topic = this.#wanted.get(name);
        if (topic !== undefined) topic.on = 0;
      }
    }
    await this.#subscribe(number, connection, this.#missing(number));
  }

  async #keepInLine(): Promise<void> {
    for (;;) {
      await this.#changed.wait();
      if (this.#closed) return;
      const current = await this.link.next(0).catch(() => undefined);
      if (current === undefined) return;
      try {
        await this.#adjust(current.number, current.connection);
      } catch (error) {
        // The next connection begins with everything.
        this.link.giveUp(current.number, ConnectionError.from(error));
      }
    }
  }
}
