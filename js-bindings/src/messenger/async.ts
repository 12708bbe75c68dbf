/**
 * What the messenger and its transports need to wait: a wake-up, a promise that is settled from
 * outside, a sleep that can be ended. No timer outlives what it was for.
 */

/** The longest time that a timer takes: one for a longer time would end at once. */
const LONGEST = 2_147_483_647;

/** `setTimeout` for any time; what is longer than 24 days counts as that. */
export function timeout(then: () => void, ms: number): ReturnType<typeof setTimeout> {
  return setTimeout(then, Math.min(ms, LONGEST));
}

/** A promise that somebody else settles. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((ok, fail) => {
    resolve = ok;
    reject = fail;
  });
  return { promise, resolve, reject };
}

/** Wakes one who waits, or the next one who will: a wake-up is never lost and never counted twice. */
export class Notify {
  #pending = false;
  #waiting: Deferred<void> | undefined;

  notify(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) {
      this.#pending = true;
    } else {
      this.#waiting = undefined;
      waiting.resolve();
    }
  }

  /** Returns at once if it was notified since the last wait. All who wait are woken together. */
  wait(): Promise<void> {
    if (this.#pending) {
      this.#pending = false;
      return Promise.resolve();
    }
    this.#waiting ??= deferred();
    return this.#waiting.promise;
  }
}

/** A value that others may watch. */
export class Watch<T> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    this.#value = value;
    for (const listener of [...this.#listeners]) listener(value);
  }

  /** Calls `listener` with each new value; the returned function ends that. */
  listen(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Waits until the value is such; `false` if `ms` were not enough. */
  until(is: (value: T) => boolean, ms?: number, signal?: AbortSignal): Promise<boolean> {
    if (is(this.#value)) return Promise.resolve(true);
    if (signal?.aborted === true) return Promise.resolve(false);
    return new Promise((resolve) => {
      const end = (found: boolean): void => {
        stop();
        clearTimeout(timer);
        signal?.removeEventListener('abort', aborted);
        resolve(found);
      };
      const aborted = (): void => end(false);
      const stop = this.listen((value) => {
        if (is(value)) end(true);
      });
      const timer = ms === undefined ? undefined : timeout(() => end(false), ms);
      signal?.addEventListener('abort', aborted);
    });
  }
}

/** Sleeps for so many milliseconds, or until `signal` is aborted. Never fails. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = timeout(end, ms);
    signal?.addEventListener('abort', end);
  });
}

/**
 * The result of `promise`, or `late()` if it takes longer than `ms`, or `signal` is aborted. It goes
 * on unobserved then.
 */
export function within<T>(
  promise: Promise<T>,
  ms: number,
  late: () => T | Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', over);
    };
    const over = (): void => {
      end();
      try {
        resolve(late());
      } catch (error) {
        reject(error as Error);
      }
    };
    const timer = timeout(over, ms);
    signal?.addEventListener('abort', over);
    promise.then(
      (value) => {
        end();
        resolve(value);
      },
      (error: unknown) => {
        end();
        reject(error as Error);
      },
    );
  });
}

/** Resolves when `signal` is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener('abort', () => resolve(), { once: true }),
  );
}
