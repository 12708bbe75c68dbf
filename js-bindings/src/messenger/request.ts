/** Asking, and requests that wait for their answer. */

import type { Event } from '../event.js';
import { MARK } from './message.js';
import { TransportError } from './transport-error.js';

/** Why the other side did not even try to answer: it has no responder, answers as many as it can, or it was too late. */
export type Refusal = 'no-responder' | 'busy' | 'too-late';

const REFUSALS: readonly string[] = ['no-responder', 'busy', 'too-late'] satisfies Refusal[];

/** The refusal of a responder that failed; the payload says how. */
export const FAILED = 'failed';

/**
 * - `expired`: its deadline had passed before it was sent.
 * - `too_many`: as many requests wait for their answers as may.
 * - `tasks`: a queue of tasks gives no answers.
 * - `not_sent`: the transport did not take it; see `cause`.
 * - `no_answer`: there was no answer by its deadline.
 * - `refused`: it got there and was refused; see `refusal`.
 * - `failed`: the other side tried and failed; the message says how.
 * - `aborted`: whoever asked gave up.
 * - `closed`: the messenger was closed.
 */
export type RequestErrorCode =
  | 'expired'
  | 'too_many'
  | 'tasks'
  | 'not_sent'
  | 'no_answer'
  | 'refused'
  | 'failed'
  | 'aborted'
  | 'closed';

/** Why a request has no answer. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  /** The request. */
  readonly event: Event | undefined;
  /** Of `refused`. */
  readonly refusal: Refusal | undefined;

  constructor(
    /** What stood in the way. */
    readonly code: RequestErrorCode,
    message: string,
    more: { event?: Event; refusal?: Refusal; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.event = more.event;
    this.refusal = more.refusal;
  }
}

/** What a refusal is called for people. */
export function refusedError(refusal: Refusal, event: Event): RequestError {
  const texts: Record<Refusal, string> = {
    'no-responder': 'the other side does not answer such requests',
    busy: 'the other side is busy',
    'too-late': 'the request came too late',
  };
  return new RequestError('refused', texts[refusal], { event, refusal });
}

/** How a request ended. */
export type Ended =
  | { readonly answer: Event }
  | { readonly refused: Refusal }
  | { readonly failed: string }
  | 'closed';

interface Waiting {
  /** One party alone can answer, so that its refusal is the answer. */
  readonly fromOne: boolean;
  /** The last refusal of several parties. */
  refused: Refusal | undefined;
  readonly end: (ended: Ended) => void;
}

/** Requests that wait, by their numbers. */
export class Pending {
  readonly #waiting = new Map<number, Waiting>();
  /** Begins anywhere, so that a stranger's answer to an earlier messenger of this name fits nothing. */
  #last = Math.floor(Math.random() * 2 ** 47);

  constructor(readonly limit: number) {}

  get size(): number {
    return this.#waiting.size;
  }

  /** Takes a place; `undefined` if as many wait as may. */
  begin(fromOne: boolean, end: (ended: Ended) => void): number | undefined {
    if (this.#waiting.size >= this.limit) return undefined;
    this.#last += 1;
    this.#waiting.set(this.#last, { fromOne, refused: undefined, end });
    return this.#last;
  }

  /** Gives a place up: an answer that comes then is late. Returns the last refusal, if one of several refused. */
  leave(number: number): Refusal | undefined {
    const refused = this.#waiting.get(number)?.refused;
    this.#waiting.delete(number);
    return refused;
  }

  /** Takes an answer in; `false` if nobody waits for it. */
  answer(event: Event): boolean {
    const text = event.attributes[MARK.answer] ?? '';
    const number = /^[0-9a-f]{1,13}$/.test(text) ? Number.parseInt(text, 16) : Number.NaN;
    const waiting = this.#waiting.get(number);
    if (waiting === undefined) return false;
    const refusal = event.attributes[MARK.refusal];
    if (refusal !== undefined && REFUSALS.includes(refusal)) {
      if (!waiting.fromOne) {
        // Another of them may still answer.
        waiting.refused = refusal as Refusal;
        return true;
      }
      waiting.end({ refused: refusal as Refusal });
    } else if (refusal === undefined) {
      waiting.end({ answer: event });
    } else {
      waiting.end({ failed: failure(event, refusal) });
    }
    this.#waiting.delete(number);
    return true;
  }

  /** Ends all that wait. */
  close(): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const waiting of all) waiting.end('closed');
  }
}

function failure(event: Event, refusal: string): string {
  try {
    const text = event.payload;
    return typeof text === 'string' ? text : refusal;
  } catch {
    return refusal;
  }
}

/** A transport's error as one of a request. */
export function notSent(error: unknown, event: Event): RequestError {
  if (error instanceof TransportError && error.code === 'closed') {
    return new RequestError('closed', 'the messenger is closed', { event, cause: error });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new RequestError('not_sent', message, { event, cause: error });
}
