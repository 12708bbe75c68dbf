/**
 * Payloads that are bytes already, or that are to travel in a stated form.
 */

import { readPayload } from './read.js';
import { allocate, writeUtf8 } from './text.js';
import { writeMessagePack } from './write.js';

/** What the bytes of a payload are. */
export type Content = 'binary' | 'msgpack' | 'json' | 'text';

/** By their numbers on the wire. */
export const CONTENTS: readonly Content[] = ['binary', 'msgpack', 'json', 'text'];

const UNREAD = Symbol('unread');

/** Bytes, and what they are. For an event's `payload` where the value alone does not say it. */
export class Payload {
  private known: unknown = UNREAD;

  private constructor(
    /** What the bytes are. */
    readonly content: Content,
    /** The bytes as they travel. */
    readonly bytes: Uint8Array,
  ) {}

  /** Bytes that already are what `content` says. They are not looked at: a reader finds out. */
  static raw(content: Content, bytes: Uint8Array): Payload {
    return new Payload(content, bytes);
  }

  /**
   * A value as JSON, by the rules of `JSON.stringify`.
   *
   * @throws TypeError as `JSON.stringify` does; nothing at all, such as
   * `undefined`, is an error too.
   */
  static json(value: unknown): Payload {
    const text = JSON.stringify(value) as string | undefined;
    if (text === undefined) throw new TypeError('this value has no JSON form');
    return new Payload('json', utf8(text));
  }

  /**
   * A value as MessagePack, also one that would travel as text or bytes.
   *
   * @throws EncodeError when it cannot be written.
   */
  static msgpack(value: unknown): Payload {
    return new Payload('msgpack', writeMessagePack(value));
  }

  /** Text. */
  static text(text: string): Payload {
    return new Payload('text', utf8(text));
  }

  /**
   * The value that the bytes stand for, decoded once.
   *
   * @throws PayloadError when they do not.
   */
  get value(): unknown {
    if (this.known === UNREAD)
      this.known = readPayload(this.content, this.bytes, 0, this.bytes.length);
    return this.known;
  }

  /** @internal Whether this is one. Here, V8 knows the class and looks at prototypes by itself. */
  static is(value: unknown): value is Payload {
    return value instanceof Payload;
  }

  /** How a value given as payload travels. */
  static contentOf(payload: unknown): Content {
    if (payload instanceof Payload) return payload.content;
    if (typeof payload === 'string') return 'text';
    if (payload === undefined || ArrayBuffer.isView(payload) || payload instanceof ArrayBuffer)
      return 'binary';
    return 'msgpack';
  }
}

function utf8(text: string): Uint8Array {
  const bytes = allocate(3 * text.length);
  const len = writeUtf8(bytes, 0, text);
  // Not a part of something three times as long.
  return Uint8Array.prototype.slice.call(bytes, 0, len);
}
