/** {@link Link}: a connection that is made again whenever it breaks. */

import { Notify, Watch, aborted, sleep, timeout, within } from '../messenger/async.js';
import { ConnectionError } from './connection-error.js';
import { AnsweredError, type Arg, type Connection, type Outcome, type Reply } from './driver.js';
import type { Settings } from './settings.js';

/** How one connection is. */
export type LinkState =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'connected' }
  | { readonly kind: 'disconnected'; readonly since: Date; readonly error: ConnectionError }
  | { readonly kind: 'closed' };

/** A connection and its number: they are counted from 1. */
export interface Current {
  readonly number: number;
  readonly connection: Connection;
}

/** What one connection is for. */
export interface Duty {
  /** Shows in the server's list of clients: one word. */
  readonly name: string;
  /** Its commands wait on the server, or it can only listen: it is not checked between commands. */
  readonly unchecked?: boolean;
  /** Takes a message that was subscribed to: briefly. */
  message?(number: number, name: string, payload: Buffer): void;
  /** Called with each new connection before anybody else gets it. An error has it thrown away. */
  begin?(current: Current, link: Link): Promise<void>;
  /** Called when a connection is of no use any more, also when that shows in `begin`. */
  ended?(): void;
}

/** A connection that lived this long shows that the server is well. */
const STABLE = 1_000;

/** What is known of one connection while it lasts. */
class Life {
  /** Why it is of no use any more. */
  error: ConnectionError | undefined;
  /** It failed, or somebody has a doubt about it. */
  readonly wake = new Notify();
  /** Aborted when it failed. */
  readonly over = new AbortController();

  constructor(readonly number: number) {}

  fail(error: ConnectionError): void {
    this.error ??= error;
    this.wake.notify();
    this.over.abort();
  }

  /** Until it fails, somebody doubts it, or so many milliseconds have passed. */
  async wait(ms: number | undefined): Promise<void> {
    const timer = ms === undefined ? undefined : timeout(() => this.wake.notify(), ms);
    await this.wake.wait();
    clearTimeout(timer);
  }
}

/** What is answered in time. @throws {@link ConnectionError} */
export async function answered<T>(answer: Promise<T>, patience: number): Promise<T> {
  const late = (): never => {
    throw ConnectionError.timedOut(patience);
  };
  try {
    return await within(answer, patience, late);
  } catch (error) {
    throw ConnectionError.from(error);
  }
}

/** OpenSSL's, or about a certificate: other errors of a socket name what the system was asked for. */
function isOfTls({ code, syscall }: NodeJS.ErrnoException): boolean {
  return code === 'EPROTO' || (code !== undefined && syscall === undefined);
}

/** A supervised connection: made again without end, with growing delays. */
export class Link {
  readonly state = new Watch<LinkState>({ kind: 'connecting' });
  readonly #current = new Watch<Current | undefined>(undefined);
  readonly #end = new AbortController();
  /** Of the newest connection. */
  #life: Life | undefined;

  constructor(
    readonly settings: Settings,
    readonly duty: Duty,
    /** Who we are, in the names of connections. */
    readonly instance: string,
  ) {
    void this.#supervise();
  }

  /** Returns when it is connected. @throws {@link ConnectionError} if the first try fails. */
  async first(): Promise<void> {
    await this.state.until((state) => state.kind !== 'connecting');
    const error = this.error;
    if (error !== undefined) throw error;
  }

  /** The connection, as soon as there is one. @throws {@link ConnectionError} after `patience`, at once when closed. */
  async ready(patience: number): Promise<Current> {
    return (
      (await this.next(0, patience)) ??
      Promise.reject(this.error ?? ConnectionError.timedOut(patience))
    );
  }

  /**
   * The connection, as soon as there is one with a higher number than this; `undefined` if `patience`
   * was not enough. @throws {@link ConnectionError} only when closed.
   */
  async next(after: number, patience?: number): Promise<Current | undefined> {
    const signal = this.#end.signal;
    await this.#current.until(
      (current) => current !== undefined && current.number > after,
      patience,
      signal,
    );
    if (signal.aborted) throw ConnectionError.closed();
    const current = this.#current.value;
    return current !== undefined && current.number > after ? current : undefined;
  }

  /** A command failed in a way that may be the connection's fault: it is checked at once. */
  doubt(): void {
    this.#life?.wake.notify();
  }

  /** The connection of this number is of no use: replace it. */
  giveUp(number: number, error: ConnectionError): void {
    if (this.#life?.number === number) this.#life.fail(error);
  }

  isCurrent(number: number): boolean {
    return this.#current.value?.number === number;
  }

  /** Returns when the connection of this number is gone, or when `signal` is aborted. */
  async lost(number: number, signal?: AbortSignal): Promise<void> {
    await this.#current.until((current) => current?.number !== number, undefined, signal);
  }

  /** Why there is no connection; `undefined` if there is one, or was none yet. */
  get error(): ConnectionError | undefined {
    const state = this.state.value;
    if (state.kind === 'disconnected') return state.error;
    return state.kind === 'closed' ? ConnectionError.closed() : undefined;
  }

  /** One command and its answer. @throws {@link ConnectionError} */
  async ask(connection: Connection, command: readonly Arg[], patience?: number): Promise<Reply> {
    const [outcome] = await this.askAll(connection, [command], patience);
    if (outcome === undefined) throw ConnectionError.protocol('no answer');
    if ('refused' in outcome) throw ConnectionError.answered(outcome.refused, String(command[0]));
    return outcome.reply;
  }

  /** Several commands and their answers. @throws {@link ConnectionError} if the connection broke. */
  async askAll(
    connection: Connection,
    commands: readonly (readonly Arg[])[],
    patience = this.settings.responseTimeout,
  ): Promise<Outcome[]> {
    return answered(connection.send(commands), patience);
  }

  close(): void {
    if (this.#end.signal.aborted) return;
    this.#end.abort();
    this.#life?.fail(ConnectionError.closed());
    this.#current.set(undefined);
    this.state.set({ kind: 'closed' });
  }

  async #supervise(): Promise<void> {
    const { base, cap } = this.settings.backoff;
    const end = this.#end.signal;
    let failures = 0;
    for (let number = 1; !end.aborted; number += 1) {
      let lived = 0;
      try {
        lived = await this.#live(number);
      } catch (error) {
        this.#disconnected(ConnectionError.from(error));
      }
      if (lived >= STABLE) failures = 0;
      await sleep(Math.random() * Math.min(cap, base * 2 ** failures), end);
      failures = Math.min(failures + 1, 30);
    }
  }

  /** The life of one connection; returns how long it was. */
  async #live(number: number): Promise<number> {
    const life = new Life(number);
    this.#life = life;
    const connection = await this.#dial(life);
    try {
      const current: Current = { number, connection };
      await Promise.race([this.duty.begin?.(current, this), aborted(life.over.signal)]);
      if (life.error !== undefined) throw life.error;
      const born = performance.now();
      this.#current.set(current);
      this.state.set({ kind: 'connected' });
      const every = this.duty.unchecked === true ? undefined : this.settings.probeEvery;
      while (life.error === undefined) {
        await life.wait(every);
        if (life.error === undefined && every !== undefined) {
          await this.#recheck(connection).catch((error: unknown) =>
            life.fail(ConnectionError.from(error)),
          );
        }
      }
      this.#disconnected(life.error);
      return performance.now() - born;
    } finally {
      this.duty.ended?.();
      connection.destroy();
    }
  }

  /** A connection to a master that is new enough and lets us in. */
  async #dial(life: Life): Promise<Connection> {
    const { settings, duty } = this;
    const limit = settings.connectTimeout;
    const dialled = settings.driver.connect({
      address: settings.address,
      timeout: limit,
      tls: settings.tls,
      signal: life.over.signal,
      onMessage: (name, payload) => duty.message?.(life.number, name, payload),
      onEnd: (error) => life.fail(ConnectionError.lost(error.message)),
    });
    const late = (): never => {
      // Whoever comes too late is sent away.
      void dialled.then(
        (connection) => connection.destroy(),
        () => undefined,
      );
      const error = ConnectionError.timedOut(limit);
      life.fail(error);
      throw error;
    };
    const connection = await within(dialled, limit, late).catch((error: unknown) => {
      throw this.#refused(error);
    });
    try {
      // A name is for people; a user that may not set it does without.
      const name = `swarmbus:${duty.name}:${this.instance}`;
      await this.askAll(connection, [['CLIENT', 'SETNAME', name]], limit);
      await this.#recheck(connection);
      // Refused while the server loads its data.
      await this.ask(connection, ['PING'], limit);
      return connection;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  /** Asks the server for its version and role. */
  async #recheck(connection: Connection): Promise<void> {
    const hello = await this.ask(connection, ['HELLO']);
    const fields = new Map<string, string>();
    if (Array.isArray(hello)) {
      for (let n = 0; n + 1 < hello.length; n += 2)
        fields.set(String(hello[n]), String(hello[n + 1]));
    }
    const [version, role, mode] = [fields.get('version'), fields.get('role'), fields.get('mode')];
    if (mode === 'sentinel') throw ConnectionError.wrongRole(mode);
    if (version === undefined || role === undefined)
      throw ConnectionError.protocol('HELLO names no version and role');
    if (Number.parseInt(version, 10) < 7) throw ConnectionError.tooOld(version);
    if (role !== 'master') throw ConnectionError.wrongRole(role);
  }

  #refused(error: unknown): ConnectionError {
    if (error instanceof AnsweredError) return ConnectionError.answered(error.message, 'AUTH');
    if (error instanceof ConnectionError) return error;
    if (!(error instanceof Error)) {
      return ConnectionError.unreachable(this.settings.place, String(error));
    }
    const { message, code }: NodeJS.ErrnoException = error;
    const detail = message === '' ? String(code) : message;
    return this.settings.address.tls && isOfTls(error)
      ? ConnectionError.tls(detail)
      : ConnectionError.unreachable(this.settings.place, detail);
  }

  #disconnected(error: ConnectionError): void {
    const state = this.state.value;
    if (state.kind === 'closed') return;
    this.#current.set(undefined);
    const since = state.kind === 'disconnected' ? state.since : new Date();
    this.state.set({ kind: 'disconnected', since, error });
  }
}
