/** The driver over the `redis` package (node-redis), 5 or newer. */

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
  on(event: 'error', listener: (error: Error) => void): void;
  on(event: 'end', listener: () => void): void;
  connect(): Promise<unknown>;
  sendCommand(args: readonly (string | Buffer)[]): Promise<Reply>;
  subscribe(
    names: string[],
    listener: (payload: Buffer, name: Buffer) => void,
    buffers: true,
  ): Promise<void>;
  unsubscribe(names: string[], listener: undefined, buffers: true): Promise<void>;
  destroy(): void;
}

/** `$` of RESP: what a type mapping says is read as bytes. */
const BLOB_STRING = 36;

/**
 * Connects with the `redis` package, which must be installed. This is the default.
 *
 * ```ts no_run
 * import { nodeRedis, RedisTransport } from 'swarmbus/redis';
 *
 * const url = 'redis://127.0.0.1:6379';
 * await using transport = await RedisTransport.connect(url, { driver: nodeRedis() });
 * console.log(await transport.ping());
 * ```
 */
export function nodeRedis(): Driver {
  return {
    name: 'redis',
    async connect(call: Call): Promise<Connection> {
      const { createClient, ErrorReply } = await load();
      const client = createClient(clientOptions(call)) as unknown as Client;
      const connection = new NodeRedisConnection(client, call, ErrorReply as new () => Error);
      call.signal.addEventListener('abort', () => connection.destroy());
      try {
        await client.connect();
      } catch (error) {
        connection.destroy();
        throw error instanceof ErrorReply ? new AnsweredError(error.message) : error;
      }
      return connection;
    },
  };
}

async function load(): Promise<typeof import('redis')> {
  try {
    return await import('redis');
  } catch {
    const message =
      'the package `redis` cannot be loaded; install it with `npm install redis`, or use `ioredis()`';
    throw ConnectionError.protocol(message);
  }
}

function clientOptions(call: Call): Record<string, unknown> {
  const { host, port, path, tls, username, password, database } = call.address;
  const place =
    path === undefined ? { host, port, ...(tls ? { tls: true, ...call.tls } : {}) } : { path };
  return {
    RESP: 2,
    socket: { ...place, connectTimeout: call.timeout, reconnectStrategy: false },
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    database,
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    // How long a command may take is not for the client to say: each would have a timer of its own.
    commandOptions: { typeMapping: { [BLOB_STRING]: Buffer }, timeout: undefined },
  };
}

class NodeRedisConnection implements Connection {
  readonly #client: Client;
  readonly #call: Call;
  readonly #ErrorReply: new () => Error;
  /** The same for all names: the client calls each listener of a name once. */
  readonly #onMessage = (payload: Buffer, name: Buffer): void => {
    this.#call.onMessage(name.toString(), payload);
  };
  #ended = false;

  constructor(client: Client, call: Call, ErrorReply: new () => Error) {
    this.#client = client;
    this.#call = call;
    this.#ErrorReply = ErrorReply;
    client.on('error', (error) => this.#end(error));
    client.on('end', () => this.#end(new Error('closed by the other side')));
  }

  send(commands: readonly (readonly Arg[])[]): Promise<Outcome[]> {
    return Promise.all(
      commands.map((command) => this.#one(this.#client.sendCommand(texts(command)))),
    );
  }

  subscribe(names: readonly string[]): Promise<Outcome> {
    return this.#one(this.#client.subscribe([...names], this.#onMessage, true));
  }

  unsubscribe(names: readonly string[]): Promise<Outcome> {
    return this.#one(this.#client.unsubscribe([...names], undefined, true));
  }

  destroy(): void {
    this.#ended = true;
    try {
      this.#client.destroy();
    } catch {
      // It is closed already.
    }
  }

  async #one(answer: Promise<Reply | void>): Promise<Outcome> {
    try {
      return { reply: (await answer) ?? null };
    } catch (error) {
      if (error instanceof this.#ErrorReply) return { refused: error.message };
      throw error;
    }
  }

  #end(error: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#call.onEnd(error);
  }
}

function texts(command: readonly Arg[]): (string | Buffer)[] {
  return command.map((arg) => (typeof arg === 'number' ? String(arg) : arg));
}
