/**
 * {@link Header}: what is said about a frame, in an entry of a log and in the message that is
 * published before the frame. The layout is in `crates/redis/src/durable/header.rs`.
 */

import { type Event, Gap, type Incoming, Position, Received } from '../../index.js';
import { ENVELOPE_LEN, readEnvelope, writeEnvelope } from '../envelope.js';
import { readRecords } from '../frames.js';
import { asBuffer } from '../words.js';
import type { Lost, Stamp } from './reader.js';

/** Bytes of a header. */
const HEADER_LEN = ENVELOPE_LEN + 24;

/** An entry of a log, or two messages, as they came. */
export interface Entry {
  readonly header: Uint8Array;
  readonly frame: Uint8Array;
  /** What the offsets before it stand for: only the log says so. */
  readonly lost?: Lost | undefined;
}

export function entryLength(entry: Entry): number {
  return entry.header.length + entry.frame.length;
}

/** Whether a message is a header, so that the next is its frame. */
export function isHeader(message: Uint8Array): boolean {
  return message.length === HEADER_LEN && readEnvelope(message)?.kind === 'durable';
}

/** An entry whose header was read. The frame is not looked into. */
export class Header {
  private constructor(
    readonly stamp: Stamp,
    readonly frame: Uint8Array,
  ) {}

  static parse(entry: Entry): Header | undefined {
    const bytes = asBuffer(entry.header);
    const envelope = bytes.length === HEADER_LEN ? readEnvelope(bytes) : undefined;
    if (envelope === undefined || envelope.kind !== 'durable') return undefined;
    const stamp: Stamp = {
      epoch: envelope.origin,
      first: envelope.first,
      count: envelope.count,
      append: bytes.toString('latin1', 32, 40),
      // Publisher and number.
      mark: bytes.toString('latin1', 40, 56),
      term: envelope.age,
      lost: entry.lost,
    };
    return new Header(stamp, entry.frame);
  }

  /** Adds the events but the first `skip`, each with its position, and gaps for those that cannot be read. */
  unpack(skip: number, into: Incoming[]): void {
    const { epoch, first, count, term } = this.stamp;
    let done = 0;
    readRecords(this.frame, count, (event: Event | undefined) => {
      const offset = first + done;
      if (done >= skip) {
        into.push(
          event === undefined
            ? new Gap(1, 'unreadable', new Position(epoch, offset, term))
            : Received.durable(event, epoch, offset, term),
        );
      }
      done += 1;
    });
    if (done < count && count > skip) into.push(unreadable(this.stamp, Math.max(done, skip)));
  }
}

/** What stands for events that cannot be read: all of a frame but the first `skip`. */
export function unreadable(stamp: Stamp, skip: number): Gap {
  const last = stamp.first + stamp.count - 1;
  return new Gap(stamp.count - skip, 'unreadable', new Position(stamp.epoch, last, stamp.term));
}

/** The first bytes of a header: those that the server does not make. */
export function headerPrefix(): Buffer {
  const bytes = Buffer.alloc(ENVELOPE_LEN);
  writeEnvelope({ kind: 'durable', origin: '0'.repeat(16), first: 0, count: 0, age: 0 }, bytes);
  return bytes.subarray(0, 8);
}
