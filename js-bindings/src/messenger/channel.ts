/** {@link Channel}: a checked name, and how what is published to it is delivered. */

/**
 * How a channel delivers.
 *
 * - `live`: every subscriber that is there gets an event, at most once; what it misses is a
 *   {@link Gap}.
 * - `durable`: every subscriber gets every event once and in order, also what was published while
 *   it was away, as long as the channel keeps it.
 * - `group`: a work queue; in each group one subscriber gets an event, and it comes again until it
 *   is acknowledged.
 */
export type Mode = 'live' | 'durable' | 'group';

const encoder = new TextEncoder();

/** Bytes of a text in UTF-8. */
export function utf8Length(text: string): number {
  return encoder.encode(text).length;
}

/** Why a text is no {@link Channel}. */
export class ChannelError extends Error {
  override readonly name = 'ChannelError';

  constructor(
    /** `length`: empty or more than 200 bytes; `character`: one that is not allowed; `mode`. */
    readonly code: 'length' | 'character' | 'mode',
    message: string,
  ) {
    super(message);
  }
}

/** White space, control characters, lone surrogates and braces. */
const BAD = /[\s\p{Cc}\p{Cs}{}]/u;

/**
 * What one publishes to and subscribes to.
 *
 * A name is 1 to 200 bytes long, without white space, control characters and braces. Channels of
 * one name and different modes have nothing to do with each other.
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { Channel } from 'swarmbus';
 *
 * const orders = Channel.durable('orders');
 * assert.equal(String(orders), 'durable:orders');
 * assert.throws(() => Channel.live('two words'), { code: 'character' });
 * ```
 */
export class Channel {
  /** Longest name in bytes. */
  static readonly MAX_LEN = 200;

  readonly #text: string;

  private constructor(
    /** How it delivers. */
    readonly mode: Mode,
    /** Its name. */
    readonly name: string,
  ) {
    this.#text = `${mode}:${name}`;
  }

  /** @throws {@link ChannelError} when the name breaks one of the rules above. */
  static of(mode: Mode, name: string): Channel {
    const length = utf8Length(name);
    if (length < 1 || length > Channel.MAX_LEN) {
      throw new ChannelError(
        'length',
        `the name of a channel is 1 to 200 bytes long, not ${length}`,
      );
    }
    if (BAD.test(name)) {
      const rule = 'the name of a channel has no white space, control characters or braces';
      throw new ChannelError('character', `${rule}: ${JSON.stringify(name)}`);
    }
    if (mode !== 'live' && mode !== 'durable' && mode !== 'group') {
      throw new ChannelError('mode', 'the mode of a channel is live, durable or group');
    }
    return new Channel(mode, name);
  }

  /** @throws {@link ChannelError} */
  static live(name: string): Channel {
    return Channel.of('live', name);
  }

  /** @throws {@link ChannelError} */
  static durable(name: string): Channel {
    return Channel.of('durable', name);
  }

  /** @throws {@link ChannelError} */
  static group(name: string): Channel {
    return Channel.of('group', name);
  }

  /** Reads `mode:name`. @throws {@link ChannelError} */
  static parse(text: string): Channel {
    const at = text.indexOf(':');
    return Channel.of(text.slice(0, Math.max(at, 0)) as Mode, text.slice(at + 1));
  }

  /** The channel of the same name with another mode. */
  withMode(mode: Mode): Channel {
    return mode === this.mode ? this : Channel.of(mode, this.name);
  }

  /** `mode:name`, which {@link Channel.parse} reads. */
  toString(): string {
    return this.#text;
  }
}
