/** A Rust process at the other end: `crates/redis/examples/peer.rs`. */

import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

import { until } from './redis.js';

/** What it says, one of these on each line. */
export interface Word {
  readonly done?: string | null;
  readonly failed?: string;
  readonly event?: { channel: string; text: string; position: string | null; deliveries: number };
  readonly gap?: { channel: string; missed: number | null; reason: string };
  readonly heard?: { agent: string | null; scope: string; text: string };
}

export class Peer {
  readonly words: Word[] = [];
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  #answered = 0;

  private constructor(program: string, url: string) {
    this.#child = spawn(program, [url], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      this.words.push(JSON.parse(line) as Word);
    });
  }

  /** Returns when it is connected. */
  static async start(program: string, url: string): Promise<Peer> {
    const peer = new Peer(program, url);
    await peer.#answer();
    return peer;
  }

  /** Has it do something; returns what that led to. */
  async order(order: Record<string, unknown>): Promise<string | null> {
    this.#child.stdin.write(`${JSON.stringify(order)}\n`);
    return this.#answer();
  }

  /** The numbers that came on a channel so far. */
  numbers(channel: string): number[] {
    return this.words.flatMap(({ event }) =>
      event?.channel === channel ? [Number(event.text)] : [],
    );
  }

  /** The gaps on a channel so far. */
  gaps(channel: string): NonNullable<Word['gap']>[] {
    return this.words.flatMap(({ gap }) => (gap?.channel === channel ? [gap] : []));
  }

  heard(): string[] {
    return this.words.flatMap(({ heard }) =>
      heard === undefined ? [] : [`${heard.scope} ${heard.agent}: ${heard.text}`],
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }

  async #answer(): Promise<string | null> {
    const answers = (): Word[] =>
      this.words.filter((word) => word.done !== undefined || word.failed !== undefined);
    this.#answered += 1;
    await until(() => answers().length >= this.#answered, 'the other side answers', 40_000);
    const { done, failed } = answers()[this.#answered - 1] as Word;
    if (failed !== undefined) throw new Error(failed);
    return done ?? null;
  }
}
