/**
 * {@link Driver}: what is needed of a Redis client. It makes one connection at a time and never
 * mends one: when to connect again, and what then has to be done, is decided by whoever uses it.
 */

/** An argument of a command. */
export type Arg = string | Buffer | number;

/** An answer: texts are bytes. */
export type Reply = null | number | Buffer | string | Reply[];

/** What the server answered to one of several commands: an error is an answer, too. */
export type Outcome = { readonly reply: Reply } | { readonly refused: string };

/** One connection to a server, from its beginning to its end. */
export interface Connection {
  /**
   * Sends commands together; the answers are in their order.
   *
   * Rejects when the connection broke before the last answer.
   */
  send(commands: readonly (readonly Arg[])[]): Promise<Outcome[]>;
  /** Returns when the server has acknowledged all of these names, or says why it does not. */
  subscribe(names: readonly string[]): Promise<Outcome>;
  /** Ends subscriptions to these channels. */
  unsubscribe(names: readonly string[]): Promise<Outcome>;
  /** Ends it, whatever is under way. */
  destroy(): void;
}

/** Where a server is, and who asks. */
export interface Address {
  /** Host and port; or the path of a socket. */
  readonly host: string;
  readonly port: number;
  readonly path: string | undefined;
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
}

/** What a connection is for, and who is told of what happens on it. */
export interface Call {
  readonly address: Address;
  /** Milliseconds for making it, log-in included. */
  readonly timeout: number;
  /** Options for TLS, as `tls.connect` takes them. */
  readonly tls: Readonly<Record<string, unknown>> | undefined;
  /** Aborted when the connection is of no use any more, also while it is being made. */
  readonly signal: AbortSignal;
  /** Takes a message of a name that is subscribed to: briefly. */
  onMessage(name: string, payload: Buffer): void;
  /** Called once when the connection is of no use any more. */
  onEnd(error: Error): void;
}

/** A Redis client. */
export interface Driver {
  /** The name of the client, for errors. */
  readonly name: string;
  /** Makes a connection, logged in. Rejects with a {@link ConnectionError} or what the client says. */
  connect(call: Call): Promise<Connection>;
}

/** An error whose message is what the server answered. */
export class AnsweredError extends Error {}
