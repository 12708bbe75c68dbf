/**
 * Where code runs: inside of a handler of which bus, and how deep. A handler must not wait for room
 * in the queue that it is meant to empty.
 *
 * The part of a handler before its first `await` is seen by a counter. What comes after is seen
 * through `AsyncLocalStorage`. That makes every `await` of the process dearer (in Node 20; less so
 * in later ones), so it is switched off again while all handlers have turned out to be plain.
 * Where there is none, as in browsers, whoever publishes while an asynchronous handler runs is
 * taken for that handler. So is whoever does while a handler that used to be plain waits for the
 * first time.
 */

/** Handlers may dispatch and execute inside each other this deep. */
export const MAX_NESTING = 64;

/** An asynchronous call of a handler. */
interface Frame {
  readonly desk: Desk;
  readonly outer: Frame | undefined;
  readonly depth: number;
}

interface Storage {
  run<A extends unknown[], R>(frame: Frame | undefined, f: (...args: A) => R, ...args: A): R;
  getStore(): Frame | undefined;
  disable(): void;
}

type StorageClass = new () => Storage;

let storage: Storage | undefined;
let looked = false;
/** Some handler of the process is asynchronous. */
let needed = false;

/** Handlers that run inside each other in the current piece of synchronous code. */
let nested = 0;

/** Looked for at run time: a static import would keep the package out of browsers. */
function storageOnce(): Storage | undefined {
  if (!looked) {
    looked = true;
    const host = globalThis as {
      process?: { getBuiltinModule?: (name: string) => { AsyncLocalStorage: StorageClass } };
    };
    const hooks = host.process?.getBuiltinModule?.('node:async_hooks');
    if (hooks !== undefined) storage = new hooks.AsyncLocalStorage();
  }
  return storage;
}

/** One bus as a place to be in. */
export class Desk {
  /** Handlers of this bus on the current stack. */
  private running = 0;
  /** The frame of a call that is inside of no other: most are. */
  private first: Frame | undefined;
  /** Asynchronous calls under way that no frame was made for. */
  unmarked = 0;

  /** Before a call that is not expected to wait. Every one is followed by `leave`. */
  enter(): void {
    this.running++;
    nested++;
  }

  leave(): void {
    this.running--;
    nested--;
  }

  /** Calls an asynchronous handler so that all of it knows where it is. */
  within<A, B>(f: (a: A, b: B) => unknown, a: A, b: B): unknown {
    const storage = storageOnce();
    if (storage === undefined) {
      this.enter();
      try {
        return f(a, b);
      } finally {
        this.leave();
      }
    }
    const outer = storage.getStore();
    const above = nested;
    const isFirst = outer === undefined && above === 0;
    const frame = isFirst
      ? (this.first ??= { desk: this, outer, depth: 1 })
      : { desk: this, outer, depth: (outer?.depth ?? 0) + above + 1 };
    // The frame counts what is above it.
    nested = 0;
    this.running++;
    try {
      return storage.run(frame, f, a, b);
    } finally {
      this.running--;
      nested = above;
    }
  }

  /** Whether `within` leaves a mark on what comes after the first `await`. */
  get marks(): boolean {
    return storageOnce() !== undefined;
  }

  /** A handler has turned out to be plain: its calls need no mark. */
  plain(): void {
    // Not inside of another, whose mark would be lost.
    if (!needed && nested === 0 && storage?.getStore() === undefined) storage?.disable();
  }

  /** A handler has turned out to be asynchronous. */
  asynchronous(): void {
    needed = true;
  }

  /** Whether the caller is, or may be, a handler of this bus. */
  isHandling(): boolean {
    if (this.running > 0 || this.unmarked > 0) return true;
    for (let frame = storage?.getStore(); frame !== undefined; frame = frame.outer) {
      if (frame.desk === this) return true;
    }
    return false;
  }
}

/** Whether there is no room for one more handler inside of the current ones. */
export function isTooDeep(): boolean {
  return nested + (storage?.getStore()?.depth ?? 0) >= MAX_NESTING;
}

/** Runs what nobody in particular has asked for: a worker is inside of no handler. */
export function nowhere(f: () => void): void {
  if (storage === undefined) f();
  else storage.run(undefined, f);
}
