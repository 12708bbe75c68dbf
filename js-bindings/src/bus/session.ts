/** Sessions: handlers that live as long as one conversation. */

import { Event, type EventInit } from '../event.js';
import type { CommandHandler } from './commands.js';
import type { Inner, Scope } from './inner.js';
import type { EventStream } from './stream.js';
import { ended, stream, subscribe } from './subscribe.js';
import type { Handler, HandlerContext } from './subscriber.js';
import type { StreamOptions, HandlerOptions, Subscription } from './subscription.js';
import type { AnyEvents, EventOf, InitOf } from './types.js';

/** What a bus does for its sessions. @internal */
export interface SessionHost {
  readonly inner: Inner;
  publish(init: EventInit): Promise<void>;
  execute(init: EventInit): Promise<unknown>;
  onCommand(scope: Scope, type: string, handler: CommandHandler): Disposable;
}

/**
 * A scope for handlers. Events that carry the session's id go to its handlers first, then to the
 * bus's. Commands that carry it are answered by its handler, or by the bus's if it has none.
 * Everything registered here ends with it: at the end of a `using` block, or by `end`. If the
 * session of one id is opened more than once, the last to end does it.
 *
 * ```ts
 * import assert from 'node:assert/strict';
 * import { EventBus } from 'swarmbus';
 *
 * const bus = new EventBus();
 * const seen: string[] = [];
 * bus.subscribe('said', () => void seen.push('bus'));
 * {
 *   using session = bus.session('conversation-7');
 *   session.subscribe('said', () => void seen.push('session'));
 *   await session.publish({ type: 'said' });
 *   await bus.drain();
 * }
 * await bus.publish({ type: 'said', session: 'conversation-7' });
 * await bus.drain();
 * assert.deepEqual(seen, ['session', 'bus', 'bus']);
 * ```
 */
export class Session<M extends object = AnyEvents> implements Disposable {
  /** @internal Making the package small takes the name away. */
  static readonly name = 'Session';

  readonly #host: SessionHost;
  readonly #scope: Scope;
  #open = true;

  /** @internal */
  constructor(host: SessionHost, scope: Scope) {
    this.#host = host;
    this.#scope = scope;
    scope.handles++;
  }

  /** Its id. */
  get id(): string {
    return this.#scope.id;
  }

  /** Like {@link EventBus.subscribe}, for this session's events only. */
  subscribe<P extends string | RegExp>(
    pattern: P,
    handler: (event: EventOf<M, P>, context: HandlerContext) => unknown,
    options?: HandlerOptions<EventOf<M, P>>,
  ): Subscription;
  subscribe<P extends string | RegExp>(
    pattern: P,
    options?: StreamOptions<EventOf<M, P>>,
  ): EventStream<EventOf<M, P>>;
  subscribe(
    pattern: string | RegExp,
    handler?: unknown,
    options: HandlerOptions<never> = {},
  ): unknown {
    this.#check();
    const { inner } = this.#host;
    if (typeof handler === 'function') {
      return subscribe(inner, this.#scope, pattern, handler as Handler, options as HandlerOptions);
    }
    return stream(inner, this.#scope, pattern, (handler ?? {}) as StreamOptions);
  }

  /** Like {@link EventBus.onCommand}, for this session's commands only. */
  onCommand<K extends keyof M & string>(
    type: K,
    handler: (command: Event<K, M[K]>, context: HandlerContext) => unknown,
  ): Disposable {
    this.#check();
    return this.#host.onCommand(this.#scope, type, handler as CommandHandler);
  }

  /** {@link EventBus.publish} with this session's id on the event. */
  publish(event: InitOf<M>): Promise<void> {
    return this.#host.publish(this.#marked(event as EventInit));
  }

  /** {@link EventBus.execute} with this session's id on the command. */
  execute<R = unknown>(command: InitOf<M>): Promise<R> {
    return this.#host.execute(this.#marked(command as EventInit)) as Promise<R>;
  }

  /** Ends everything that is registered here. */
  end(): void {
    if (!this.#open) return;
    this.#open = false;
    const { inner } = this.#host;
    if (--this.#scope.handles > 0) return;
    if (inner.sessions.get(this.id) === this.#scope) inner.sessions.delete(this.id);
    inner.endScope(this.#scope);
  }

  [Symbol.dispose](): void {
    this.end();
  }

  #marked(init: EventInit): EventInit {
    const session = this.id;
    return init instanceof Event ? init.with({ session }) : { ...init, session };
  }

  #check(): void {
    if (!this.#open) throw ended();
  }
}
