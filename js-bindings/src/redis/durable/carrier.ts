/** {@link DurableCarrier}: how frames get into logs. */

import type { Position } from '../../index.js';
import { frameIn, type Judgement, type Parcel } from '../carrier.js';
import type { Arg, Reply } from '../driver.js';
import { key } from '../keys.js';
import type { Settings } from '../settings.js';
import { StreamCarrier } from '../stream-carrier.js';
import { APPEND, append, keysOf, readAppended } from './scripts.js';

/** Sends parcels by `log_append.lua`, again and again until there is an answer: it appends none twice. */
export class DurableCarrier extends StreamCarrier<Position> {
  readonly name = 'durable';

  constructor(settings: Settings) {
    super(settings, APPEND);
  }

  command(parcel: Parcel): readonly Arg[] {
    const { prefix } = this.settings;
    const { channel, publisher } = parcel.lane;
    return append(
      {
        frame: frameIn(parcel),
        count: parcel.count,
        publisher,
        record: key(prefix, channel, `sent:${publisher}`),
        number: parcel.first,
        reached: this.reached.get(publisher),
        server: this.server,
      },
      keysOf(prefix, channel),
      this.settings,
    );
  }

  protected read(reply: Reply): Judgement {
    const { publisher, number, position } = readAppended(reply);
    if (position !== undefined) this.reached.note(publisher, position, number, isOlder);
    return 'taken';
  }
}

/** The position of a frame that was there already is the log's. */
function isOlder(position: Position, known: Position): boolean {
  return (
    position.epoch === known.epoch && position.term === known.term && position.offset < known.offset
  );
}
