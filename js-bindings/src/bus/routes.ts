/** Who subscribed to what, and the handlers of each type, ready to be called. */

import { Router, type Route as RouterRoute } from '../router.js';
import { SubscribeError } from './errors.js';
import { Match, type Subscriber } from './subscriber.js';

/** The handlers of one event type, in the order they are called. */
export class Route {
  constructor(
    readonly matches: readonly Match[],
    /** Of the subscriptions that it was made from. */
    readonly age: number,
  ) {}
}

const NOBODY: readonly Match[] = [];

/** What a subscription is made with, as text: a regular expression stands between slashes. */
export function patternText(pattern: string | RegExp): string {
  return String(pattern);
}

/** Where a subscriber stands, to take it out again. */
export interface Place {
  subscriber: Subscriber | undefined;
  route: RouterRoute | undefined;
}

/** The subscriptions of a bus, or of one session. */
export class Routes {
  /** Asked for each type once, so that its own cache is of no use. */
  private readonly router = new Router<Place>({ cacheCapacity: 1 });
  private readonly places = new Set<Place>();
  /** By type; emptied when subscriptions change. The oldest goes first. */
  private readonly cache = new Map<string, Route>();
  /** Routes of an older age are not to be used any more. */
  age = 0;
  private readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** How many subscriptions there are. */
  get size(): number {
    return this.places.size;
  }

  /** The handlers of a type that has come by, so that it need not be checked again. */
  known(type: string): Route | undefined {
    return this.cache.get(type);
  }

  /** The handlers for a type. */
  of(type: string): Route {
    return this.cache.get(type) ?? this.find(type);
  }

  /**
   * A place for a subscriber, to be filled at once.
   *
   * @throws SubscribeError `pattern` when it is none.
   */
  place(pattern: string | RegExp): Place {
    const place: Place = { subscriber: undefined, route: undefined };
    if (typeof pattern !== 'string' && typeof pattern?.source !== 'string') {
      throw new SubscribeError('pattern', 'a pattern is a string or a regular expression');
    }
    try {
      place.route = this.router.insert(expression(pattern) ?? pattern, place);
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new SubscribeError('pattern', text, { cause });
    }
    this.places.add(place);
    return place;
  }

  fill(place: Place, subscriber: Subscriber): void {
    place.subscriber = subscriber;
    this.forget();
  }

  remove(place: Place): void {
    if (!this.places.delete(place)) return;
    place.route?.remove();
    this.forget();
  }

  /** Takes everything out, for good. */
  end(): void {
    for (const { subscriber } of this.places) subscriber?.deactivate();
    this.places.clear();
    this.forget();
    this.router.free();
  }

  private find(type: string): Route {
    if (this.places.size === 0) return this.keep(type, new Route(NOBODY, this.age));
    const found: Subscriber[] = [];
    for (const { subscriber } of this.router.matches(type)) {
      if (subscriber !== undefined) found.push(subscriber);
    }
    // Highest handler priority first, then first come, first served.
    found.sort((a, b) => b.priority - a.priority || a.serial - b.serial);
    const matches = found.map((subscriber) => new Match(subscriber, type));
    return this.keep(type, new Route(matches, this.age));
  }

  private forget(): void {
    this.cache.clear();
    this.age++;
  }

  private keep(type: string, route: Route): Route {
    if (this.cache.size >= this.limit) {
      const [oldest] = this.cache.keys();
      this.cache.delete(oldest as string);
    }
    this.cache.set(type, route);
    return route;
  }
}

/** Text between slashes is a regular expression. */
function expression(pattern: string | RegExp): RegExp | undefined {
  if (typeof pattern !== 'string') return pattern;
  const isRegex = pattern.length > 2 && pattern.startsWith('/') && pattern.endsWith('/');
  return isRegex ? new RegExp(pattern.slice(1, -1)) : undefined;
}
