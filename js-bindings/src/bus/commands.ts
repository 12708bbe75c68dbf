/** Commands: events that exactly one handler answers. */

import type { Event } from '../event.js';
import { NamedBreaker, REJECTED } from './breaker.js';
import { deadlineMillis, isLate } from './deadline.js';
import { CommandError } from './errors.js';
import { isThenable } from './pipeline.js';
import { type Desk, isTooDeep } from './place.js';
import type { HandlerContext } from './subscriber.js';

/** Answers a command: what it returns is the result, what it throws is a failure. */
export type CommandHandler<C = Event, R = unknown> = (
  command: C,
  context: HandlerContext,
) => R | Promise<R>;

interface Registered {
  readonly handler: CommandHandler;
  readonly breaker: NamedBreaker;
  /** Calls that have not ended. */
  calls: number;
  active: boolean;
}

/** Who answers what in one scope: the bus, or a session. */
export type CommandTable = Map<string, Registered>;

export class Commands {
  /** Commands under way. */
  #running = 0;

  constructor(
    private readonly desk: Desk,
    private readonly newBreaker: (name: string) => NamedBreaker,
    private readonly endBreaker: (breaker: NamedBreaker) => void,
    private readonly closing: AbortSignal,
  ) {}

  get running(): number {
    return this.#running;
  }

  /** Registers a handler; what comes back takes it out. */
  add(table: CommandTable, type: string, handler: CommandHandler): () => void {
    const breaker = this.newBreaker(`command ${type}`);
    const registered: Registered = { handler, breaker, calls: 0, active: true };
    table.set(type, registered);
    return () => {
      if (table.get(type) === registered) table.delete(type);
      this.#retire(registered);
    };
  }

  /** Takes all of a scope out. */
  clear(table: CommandTable): void {
    for (const registered of table.values()) this.#retire(registered);
    table.clear();
  }

  /** Has a command answered by the first scope that knows it. */
  async execute(scopes: readonly CommandTable[], command: Event): Promise<unknown> {
    const { type } = command;
    if (isTooDeep()) {
      throw new CommandError('too_deep', type, `${type}: handlers call each other too deep`);
    }
    if (isLate(command)) throw expired(type);
    const registered = scopes.map((table) => table.get(type)).find((found) => found !== undefined);
    if (registered === undefined) {
      throw new CommandError('no_handler', type, `nobody handles the command ${type}`);
    }
    const { breaker } = registered;
    const permit = breaker.enter(command.priority);
    if (permit === REJECTED) {
      const { retryAfter } = breaker;
      const text = `the breaker of ${type} is open, try again in ${retryAfter} ms`;
      throw new CommandError('rejected', type, text, { retryAfter });
    }
    const { started } = breaker;
    registered.calls++;
    this.#running++;
    try {
      const result = await this.#answer(registered.handler, command);
      breaker.succeeded(permit, started);
      return result;
    } catch (error) {
      breaker.failed(permit, started);
      if (error instanceof Expired) throw expired(type);
      throw new CommandError('failed', type, `the command ${type} failed: ${text(error)}`, {
        cause: error,
      });
    } finally {
      this.#running--;
      registered.calls--;
      if (!registered.active) this.#retire(registered);
    }
  }

  /** The handler's result, if it comes before the command's deadline. */
  #answer(handler: CommandHandler, command: Event): unknown {
    const limit = deadlineMillis(command);
    if (limit === Infinity) {
      return this.desk.within(handler, command, { signal: this.closing });
    }
    const controller = new AbortController();
    const result = this.desk.within(handler, command, { signal: controller.signal });
    if (!isThenable(result)) return result;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => {
          controller.abort();
          reject(new Expired());
        },
        Math.max(0, limit - Date.now()),
      );
      Promise.resolve(result as PromiseLike<unknown>)
        .finally(() => clearTimeout(timer))
        .then(resolve, reject);
    });
  }

  #retire(registered: Registered): void {
    registered.active = false;
    if (registered.calls === 0) this.endBreaker(registered.breaker);
  }
}

class Expired extends Error {}

function expired(type: string): CommandError {
  return new CommandError('expired', type, `the deadline of the command ${type} has passed`);
}

/** The error is the program's, and may not like to be shown. */
function text(error: unknown): string {
  try {
    return error instanceof Error ? error.message : String(error);
  } catch {
    return 'an error that cannot be shown';
  }
}
