/** {@link GroupCarrier}: how tasks get into work queues. */

import { frameIn, type Judgement, type Parcel } from '../carrier.js';
import { ConnectionError } from '../connection-error.js';
import type { Arg, Reply } from '../driver.js';
import { key } from '../keys.js';
import type { Settings } from '../settings.js';
import { StreamCarrier } from '../stream-carrier.js';
import { APPEND, append, keysOf, readAppended, type TaskPlace } from './scripts.js';

/** Sends parcels by `task_append.lua`, again and again until there is an answer: it appends none twice. */
export class GroupCarrier extends StreamCarrier<TaskPlace> {
  readonly name = 'group';

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
        again: parcel.again,
        server: this.server,
      },
      keysOf(prefix, channel),
      this.settings,
    );
  }

  protected read(reply: Reply): Judgement {
    const { publisher, number, appended } = readAppended(reply);
    if (appended === 'full')
      return { notNow: ConnectionError.tooManyTasks(this.settings.maxTasks) };
    if (appended !== 'key_used' && appended.place !== undefined)
      this.reached.note(publisher, appended.place, number);
    return 'taken';
  }
}
