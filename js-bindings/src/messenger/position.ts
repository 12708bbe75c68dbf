/** {@link Position}: a place in a durable channel, to be kept over a restart. */

/**
 * A place in a durable channel: just after one of its events.
 *
 * Save the position of the last event that was dealt with, as text or JSON, and subscribe with
 * `{ start: position }` to go on from there.
 */
export class Position {
  constructor(
    /**
     * Which life of the channel, as 16 hexadecimal digits: a new random number when it begins
     * anew, because its server lost it.
     */
    readonly epoch: string,
    /** How many events the channel has had in this life, this one included. */
    readonly offset: number,
    /**
     * How often the server was replaced or started again in this life, as far as is known: one
     * that lacks the last events gives their offsets anew.
     */
    readonly term = 0,
  ) {}

  /** Reads what `toString` wrote. @throws RangeError */
  static parse(text: string): Position {
    const [, epoch, offset, term = '0'] =
      /^([0-9a-f]{16})-([0-9]{1,16})(?:-([0-9]{1,10}))?$/i.exec(text) ?? [];
    const whole = Number.isSafeInteger(Number(offset)) && Number(term) <= 0xffff_ffff;
    if (epoch === undefined || offset === undefined || !whole) {
      throw new RangeError(
        'a position is 16 hexadecimal digits, a hyphen and a decimal number, and perhaps another hyphen and number',
      );
    }
    return new Position(epoch.toLowerCase(), Number(offset), Number(term));
  }

  /** Whether both are the same place. */
  equals(other: Position): boolean {
    return this.epoch === other.epoch && this.offset === other.offset && this.term === other.term;
  }

  /** As text, which {@link Position.parse} reads. */
  toString(): string {
    const place = `${this.epoch}-${this.offset}`;
    return this.term === 0 ? place : `${place}-${this.term}`;
  }

  /** The same text. */
  toJSON(): string {
    return this.toString();
  }
}
