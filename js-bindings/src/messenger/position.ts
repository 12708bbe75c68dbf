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
  ) {}

  /** Reads what `toString` wrote. @throws RangeError */
  static parse(text: string): Position {
    const [, epoch, offset] = /^([0-9a-f]{16})-([0-9]{1,16})$/i.exec(text) ?? [];
    if (epoch === undefined || offset === undefined || !Number.isSafeInteger(Number(offset))) {
      throw new RangeError('a position is 16 hexadecimal digits, a hyphen and a decimal number');
    }
    return new Position(epoch.toLowerCase(), Number(offset));
  }

  /** Whether both are the same place. */
  equals(other: Position): boolean {
    return this.epoch === other.epoch && this.offset === other.offset;
  }

  toString(): string {
    return `${this.epoch}-${this.offset}`;
  }

  toJSON(): string {
    return this.toString();
  }
}
