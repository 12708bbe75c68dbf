/** A redis-server of a test's own, and waiting for what it or the network does. */

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** A private server on a socket; it ends with the test. */
export class RedisServer {
  readonly #folder = mkdtempSync(join(tmpdir(), 'swarmbus-'));
  #process: ChildProcess | undefined;

  private constructor(private readonly args: readonly string[]) {}

  static async start(...args: string[]): Promise<RedisServer> {
    const server = new RedisServer(args);
    await server.begin();
    return server;
  }

  get path(): string {
    return join(this.#folder, 'redis.sock');
  }

  get url(): string {
    return `unix://${this.path}`;
  }

  /** Starts it, again after a `kill`. */
  async begin(): Promise<void> {
    const files = ['--dir', this.#folder, '--unixsocket', this.path, '--port', '0'];
    const quick = ['--save', '', '--loglevel', 'notice'];
    const child = spawn('redis-server', [...files, ...quick, ...this.args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#process = child;
    const said: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      if (/ready to accept connections/i.test(line)) {
        child.stdout.resume();
        return;
      }
      said.push(line);
    }
    throw new Error(`redis-server did not start:\n${said.join('\n')}`);
  }

  /** As `kill -9`. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  /** Stops it where it is: it accepts connections and does not answer, until it is killed. */
  freeze(): void {
    this.#process?.kill('SIGSTOP');
  }

  /** Runs one command and returns what the server says, as it says it. */
  run(...args: string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(this.path);
      let answer = '';
      socket.setEncoding('utf8').on('error', reject);
      socket.on('data', (data) => (answer += String(data)));
      socket.on('close', () => resolve(answer.replace(/\+OK\r\n$/, '')));
      const parts = args.map((arg) => `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`);
      socket.write(`*${args.length}\r\n${parts.join('')}*1\r\n$4\r\nQUIT\r\n`);
    });
  }

  /** Breaks all connections of a kind: `normal` or `pubsub`. */
  async cut(kind: 'normal' | 'pubsub'): Promise<void> {
    await this.run('CLIENT', 'KILL', 'TYPE', kind, 'SKIPME', 'yes');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Waits until something is so, for as long as a test may take. */
export async function until(
  is: () => boolean | Promise<boolean>,
  what: string,
  ms = 20_000,
): Promise<void> {
  const deadline = Date.now() + ms;
  while (!(await is())) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
