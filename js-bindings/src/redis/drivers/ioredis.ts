/** The driver over the `ioredis` package, 5 or newer. */

import { ConnectionError } from '../connection-error.js';
import {
  AnsweredError,
  type Arg,
  type Call,
  type Connection,
  type Driver,
  type Outcome,
  type Reply,
} from '../driver.js';

/** The part of a client that is used here. */
interface Client {
  /** There is none before it connects. */
  readonly stream?: { on(event: 'error', listener: () => void): void };
  on(event: 'error', listener: (error: Error) => void): void;
  on(event: 'close' | 'end', listener: () => void): void;
  on(event: 'messageBuffer', listener: (name: Buffer, payload: Buffer) => void): void;
  connect(): Promise<unknown>;
  callBuffer(command: string, ...args: (string | Buffer | number)[]): Promise<Reply>;
  subscribe(...names: string[]): Promise<unknown>;
  unsubscribe(...names: string[]): Promise<unknown>;
  disconnect(): void;
}

/**
 * Connects with the `ioredis` package, which must be installed.
 *
 * ```ts no_run
 * import { ioredis, RedisTransport } from 'swarmbus/redis';
 *
 * const url = 'redis://127.0.0.1:6379';
 * await using transport = await RedisTransport.connect(url, { driver: ioredis() });
 * console.log(await transport.ping());
 * ```
 */
export function ioredis(): Driver {
  return {
    name: 'ioredis',
    async connect(call: Call): Promise<Connection> {
      const Redis = await load();
      const client = new Redis(clientOptions(call));
      const connection = new IoRedisConnection(client, call);
      call.signal.addEventListener('abort', () => connection.destroy());
      try {
        await client.connect();
        // It does not say by itself that the log-in failed.
        const [hello] = await connection.send([['PING']]);
        if (hello !== undefined && 'refused' in hello) throw new AnsweredError(hello.refused);
      } catch (error) {
        const why = connection.error ?? error;
        connection.destroy();
        throw isAnswer(why) ? new AnsweredError(why.message) : why;
      }
      return connection;
    },
  };
}

async function load(): Promise<new (options: Record<string, unknown>) => Client> {
  try {
    const { Redis } = await import('ioredis');
    return Redis as unknown as new (options: Record<string, unknown>) => Client;
  } catch {
    const message =
      'the package `ioredis` cannot be loaded; install it with `npm install ioredis`, or use `nodeRedis()`';
    throw ConnectionError.protocol(message);
  }
}

function clientOptions(call: Call): Record<string, unknown> {
  const { host, port, path, tls, username, password, database } = call.address;
  return {
    ...(path === undefined ? { host, port } : { path }),
    ...(tls ? { tls: { ...call.tls } } : {}),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    db: database,
    connectTimeout: call.timeout,
    protocol: 2,
    lazyConnect: true,
    retryStrategy: null,
    reconnectOnError: null,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    disableClientInfo: true,
    maxRetriesPerRequest: null,
    noDelay: true,
  };
}

class IoRedisConnection implements Connection {
  readonly #client: Client;
  readonly #call: Call;
  /** What went wrong last. */
  error: Error | undefined;
  #ended = false;

  constructor(client: Client, call: Call) {
    this.#client = client;
    this.#call = call;
    client.on('error', (error) => {
      this.error = error;
      // It listens to the first error of its socket alone, and with TLS there may be a second, which
      // would end the process.
      client.stream?.on('error', () => undefined);
    });
    client.on('close', () => this.#end());
    client.on('end', () => this.#end());
    client.on('messageBuffer', (name, payload) => call.onMessage(name.toString(), payload));
  }

  send(commands: readonly (readonly Arg[])[]): Promise<Outcome[]> {
    return Promise.all(
      commands.map(([name, ...args]) => this.#one(this.#client.callBuffer(String(name), ...args))),
    );
  }

  subscribe(names: readonly string[]): Promise<Outcome> {
    return this.#one(this.#client.subscribe(...names) as Promise<Reply>);
  }

  unsubscribe(names: readonly string[]): Promise<Outcome> {
    return this.#one(this.#client.unsubscribe(...names) as Promise<Reply>);
  }

  destroy(): void {
    this.#ended = true;
    this.#client.disconnect();
  }

  async #one(answer: Promise<Reply>): Promise<Outcome> {
    try {
      return { reply: await answer };
    } catch (error) {
      if (isAnswer(error)) return { refused: error.message };
      throw error;
    }
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#call.onEnd(this.error ?? new Error('closed by the other side'));
  }
}

/** An error that the server has answered with. */
function isAnswer(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError';
}
