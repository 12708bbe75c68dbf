/** {@link StreamCarrier}: what the carriers of durable and of group channels have in common. */

import type { Carrier, Judgement, Parcel } from './carrier.js';
import { ConnectionError } from './connection-error.js';
import type { Arg, Outcome, Reply } from './driver.js';
import type { Current, Link } from './link.js';
import { Reached } from './reached.js';
import { UNKNOWN, runOf } from './run.js';
import type { Script } from './script.js';
import type { Settings } from './settings.js';

/**
 * Appends each parcel to a stream by a script that does nothing the second time. `P` is a place in
 * the stream.
 */
export abstract class StreamCarrier<P> implements Carrier {
  abstract readonly name: string;
  /** The stream has numbers of its own. */
  readonly numbered = false;
  readonly resends = true;
  /** Where each publisher was when something was confirmed to it last. */
  protected readonly reached: Reached<P>;
  /** Who answers on the connection now. */
  protected server = UNKNOWN;

  constructor(
    protected readonly settings: Settings,
    private readonly script: Script,
  ) {
    this.reached = new Reached(settings.remember);
  }

  async prepare(link: Link, { connection }: Current): Promise<void> {
    this.server = await runOf(link, connection);
    await this.script.load(link, connection);
  }

  abstract command(parcel: Parcel): readonly Arg[];

  judge(outcome: Outcome): Judgement {
    try {
      return 'refused' in outcome ? judgeRefusal(outcome.refused) : this.read(outcome.reply);
    } catch (error) {
      return { refused: ConnectionError.from(error) };
    }
  }

  /** What the script answered. Throws what is no answer of it. */
  protected abstract read(reply: Reply): Judgement;
}

/** What an error of a script means that changes nothing when it fails. */
function judgeRefusal(refused: string): Judgement {
  const cause = ConnectionError.answered(refused, 'EVALSHA');
  return cause.isFinal ? { refused: cause } : { notNow: cause };
}
