/** {@link ConnectionError}: what can be wrong with a server, or with what it was asked. */

import { TransportError } from '../index.js';

/**
 * - `unreachable`: nothing answers at the address.
 * - `lost`: the connection broke; the transport connects again by itself.
 * - `wrong_password`: the server asks for a password, or for another one.
 * - `no_permission`: the user may not use a command, or not on these keys or channels.
 * - `wrong_role`: the server is a replica or a sentinel.
 * - `too_old`: the server is older than 7.0.
 * - `out_of_memory`: it has reached `maxmemory`.
 * - `too_many_tasks`: a group channel holds as many tasks as it may.
 * - `read_only`: it takes no writes.
 * - `loading`: it reads its data from disk, or waits for its master.
 * - `timed_out`: no answer in time.
 * - `tls`: the encrypted connection could not be made.
 * - `protocol`: it said something that makes no sense here.
 * - `closed`: the transport was closed.
 */
export type ConnectionErrorCode =
  | 'unreachable'
  | 'lost'
  | 'wrong_password'
  | 'no_permission'
  | 'wrong_role'
  | 'too_old'
  | 'out_of_memory'
  | 'too_many_tasks'
  | 'read_only'
  | 'loading'
  | 'timed_out'
  | 'tls'
  | 'protocol'
  | 'closed';

const BREAKING: ReadonlySet<ConnectionErrorCode> = new Set([
  'unreachable',
  'lost',
  'wrong_role',
  'read_only',
  'timed_out',
  'tls',
  'wrong_password',
  'closed',
]);

const REFUSED: ReadonlySet<ConnectionErrorCode> = new Set([
  'no_permission',
  'out_of_memory',
  'too_many_tasks',
  'read_only',
  'loading',
  'too_old',
  'protocol',
]);

/** Passing states of a script's server. */
const PASSING = /^(NOSCRIPT|BUSY|TRYAGAIN|CLUSTERDOWN|MOVED|ASK)/;

/** Why a server was not reached, or did not do what it was asked. The text says what to do. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';

  constructor(
    /** What went wrong. */
    readonly code: ConnectionErrorCode,
    message: string,
    /** Of `protocol`: what the server said. */
    readonly detail = '',
  ) {
    super(message);
  }

  /** What the server answered to a command: a code, and what it is about. */
  static answered(text: string, command: string): ConnectionError {
    const [code = ''] = text.split(' ', 1);
    const detail = text.slice(code.length + 1);
    switch (code) {
      case 'NOAUTH':
      case 'WRONGPASS':
        return new ConnectionError(
          'wrong_password',
          'the server refuses this user or password; check them in the URL, and `ACL LIST` there',
        );
      case 'NOPERM':
        return new ConnectionError(
          'no_permission',
          `the user may not ${command} (${detail}); allow it with \`ACL SETUSER\`: the command, ` +
            'the keys and the channels that begin with the prefix',
        );
      case 'OOM':
        return new ConnectionError(
          'out_of_memory',
          'the server has no memory left; raise `maxmemory`, or shorten the retention of durable channels',
        );
      case 'READONLY':
      case 'MISCONF':
      case 'NOREPLICAS':
        return new ConnectionError(
          'read_only',
          `the server takes no writes (${detail}); is it a replica now, or its disk full?`,
        );
      case 'LOADING':
      case 'MASTERDOWN':
        return new ConnectionError(
          'loading',
          'the server is still loading its data; it will answer when that is done',
        );
      default:
        if (detail.startsWith('unknown command'))
          return ConnectionError.tooOld(`without ${command}`);
        return ConnectionError.protocol(text);
    }
  }

  static unreachable(address: string, detail: string): ConnectionError {
    const advice = 'is it running, and is the address right?';
    return new ConnectionError(
      'unreachable',
      `no server answers at ${address} (${detail}); ${advice}`,
    );
  }

  static tls(detail: string): ConnectionError {
    const advice = "check the certificates, and that the server's port speaks TLS";
    return new ConnectionError('tls', `TLS failed: ${detail}; ${advice}`);
  }

  static lost(detail: string): ConnectionError {
    return new ConnectionError('lost', `the connection broke: ${detail}`);
  }

  static tooOld(found: string): ConnectionError {
    const message = `the server has version ${found}, 7.0 is needed; install a newer Redis or Valkey`;
    return new ConnectionError('too_old', message);
  }

  static wrongRole(role: string): ConnectionError {
    const message = `the server is a ${role}, not a master; connect to the master`;
    return new ConnectionError('wrong_role', message);
  }

  static tooManyTasks(limit: number): ConnectionError {
    const message = `the channel is full: ${limit} tasks wait; are there workers, and enough of them?`;
    return new ConnectionError('too_many_tasks', message);
  }

  static timedOut(ms: number): ConnectionError {
    const message = `no answer within ${ms} ms; is the server overloaded, or the network cut?`;
    return new ConnectionError('timed_out', message);
  }

  static protocol(detail: string): ConnectionError {
    return new ConnectionError('protocol', `unexpected answer: ${detail}`, detail);
  }

  static closed(): ConnectionError {
    return new ConnectionError('closed', 'the connection was closed by this program');
  }

  /** Any error as one of these. */
  static from(error: unknown): ConnectionError {
    if (error instanceof ConnectionError) return error;
    return ConnectionError.lost(error instanceof Error ? error.message : String(error));
  }

  /** Whether the same command fails as long as nobody changes the server or the program. */
  get isFinal(): boolean {
    if (this.code === 'protocol') return !PASSING.test(this.detail);
    return this.code === 'no_permission' || this.code === 'too_old';
  }

  /** Whether another connection must be made before the next command. */
  get breaksConnection(): boolean {
    return BREAKING.has(this.code);
  }

  /** What the program sees of it. */
  toTransport(): TransportError {
    if (this.code === 'closed') return TransportError.closed();
    return REFUSED.has(this.code)
      ? TransportError.refused(this)
      : TransportError.disconnected(this);
  }
}
