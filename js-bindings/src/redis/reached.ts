/**
 * {@link Reached}: how far publishers came, by the server's word. They say it with each frame, so
 * that a server that has lost what it had confirmed is found out.
 */

/**
 * Publishers (of one channel each) of which it is known how far they came. One that is forgotten
 * does not notice that a failover lost what was confirmed.
 */
const MAX_PUBLISHERS = 4_096;

/** What was confirmed to a publisher last. */
export interface Confirmed<P> {
  /** Where the last event is. */
  readonly place: P;
  /** The publisher's number of it; 0 if the server may have forgotten that by itself. */
  readonly number: number;
}

export class Reached<P> {
  /** The one that was silent longest comes first. */
  readonly #publishers = new Map<string, Confirmed<P> & { readonly at: number }>();

  /** `known`: how many milliseconds the server remembers a publisher that is silent. */
  constructor(private readonly known: number) {}

  get(publisher: string): Confirmed<P> | undefined {
    const confirmed = this.#publishers.get(publisher);
    if (confirmed === undefined) return undefined;
    const { place, number, at } = confirmed;
    return { place, number: performance.now() - at > this.known / 2 ? 0 : number };
  }

  /** The server has this publisher's events up to this number. `older`: whether a place is behind the one that is known. */
  note(publisher: string, place: P, number: number, older?: (place: P, known: P) => boolean): void {
    const known = this.#publishers.get(publisher)?.place;
    const kept = known !== undefined && older?.(place, known) === true ? known : place;
    this.#publishers.delete(publisher);
    this.#publishers.set(publisher, { place: kept, number, at: performance.now() });
    if (this.#publishers.size > MAX_PUBLISHERS) {
      const [oldest] = this.#publishers.keys();
      this.#publishers.delete(oldest as string);
    }
  }
}
