/** Layer: bulkheads. At most so many calls at once, so that one slow handler does not take all. */

/** The settings of a compartment for calls. */
export interface Bulkhead {
  /** How many calls run at once; 1 to 1,000,000. Default: 10. */
  readonly concurrent?: number | undefined;
  /** How many more may wait, first come, first served; 0 to 1,000,000. Default: 50. */
  readonly queue?: number | undefined;
  /** How long one waits before it gives up, in milliseconds; at most a year. Default: 30,000. */
  readonly wait?: number | undefined;
}

/** One bulkhead, seen from outside. */
export interface BulkheadReport {
  /** The handler's name. */
  readonly name: string;
  /** Calls that run. */
  readonly running: number;
  /** Calls that wait. */
  readonly waiting: number;
  /** Calls that found the queue full. */
  readonly rejected: number;
  /** Calls that waited too long. */
  readonly timedOut: number;
}

/** What a call that waits is told. */
export type Entered = 'in' | 'timed_out' | 'left';

interface Waiter {
  readonly tell: (entered: Entered) => void;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** A compartment that the calls of one handler share. */
export class BulkheadLayer {
  #running = 0;
  readonly #waiting = new Set<Waiter>();
  #rejected = 0;
  #timedOut = 0;
  readonly #concurrent: number;
  readonly #queue: number;
  readonly #wait: number;

  constructor(
    private readonly name: string,
    { concurrent = 10, queue = 50, wait = 30_000 }: Bulkhead,
    /** Its handler has ended. */
    readonly free: () => void,
  ) {
    this.#concurrent = concurrent;
    this.#queue = queue;
    this.#wait = wait;
  }

  /** A place now, if one is free and nobody waits for it. Given back with `leave`. */
  tryEnter(): boolean {
    if (this.#running >= this.#concurrent || this.#waiting.size > 0) return false;
    this.#running++;
    return true;
  }

  /** A place in the queue, or undefined when that is full too. */
  enterLater(atMost: number): Promise<Entered> | undefined {
    if (this.#waiting.size >= this.#queue) {
      this.#rejected++;
      return undefined;
    }
    return new Promise((resolve) => {
      const waiter: Waiter = {
        timer: undefined,
        tell: (entered) => {
          clearTimeout(waiter.timer);
          this.#waiting.delete(waiter);
          resolve(entered);
        },
      };
      waiter.timer = setTimeout(
        () => {
          this.#timedOut++;
          waiter.tell('timed_out');
        },
        Math.min(this.#wait, atMost),
      );
      this.#waiting.add(waiter);
    });
  }

  leave(): void {
    const [next] = this.#waiting;
    // A place goes from hand to hand.
    if (next === undefined) this.#running--;
    else next.tell('in');
  }

  /** Sends all who wait away. */
  clear(): void {
    for (const waiter of [...this.#waiting]) waiter.tell('left');
  }

  report(): BulkheadReport {
    return {
      name: this.name,
      running: this.#running,
      waiting: this.#waiting.size,
      rejected: this.#rejected,
      timedOut: this.#timedOut,
    };
  }
}
