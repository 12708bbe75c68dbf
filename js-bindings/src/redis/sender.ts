/** {@link Sender}: sends what a publisher collects. */

import { Notify, sleep } from '../messenger/async.js';
import { TransportError } from '../index.js';
import type { Parcel } from './carrier.js';
import { ConnectionError } from './connection-error.js';
import type { Arg, Outcome } from './driver.js';
import { FRAME_HEADER } from './frames.js';
import type { Current } from './link.js';
import { pack } from './pack.js';
import type { Publisher } from './publisher.js';

/** Rounds on their way at a time: the server works on one while the other is made. */
const WINDOW = 2;

/** What one round holds at most, in events and bytes, of carriers that do not send again. */
const ROUND = { events: 2_048, bytes: 256 << 10 };

/** Parcels that were sent together. */
interface Round {
  readonly parcels: readonly Parcel[];
  answers: Outcome[] | ConnectionError | undefined;
}

/** A connection is of no use any more. */
class Broken extends Error {}

export class Sender {
  readonly #wake = new Notify();
  #scheduled = false;
  #rounds: Round[] = [];
  /** To be sent before anything newer. */
  #again: Parcel[] = [];
  /** How often in a row the server said: not now. */
  #refusals = 0;

  constructor(
    private readonly publisher: Publisher,
    private readonly end: AbortSignal,
  ) {
    void this.#run();
  }

  /** There is something to send: what is published in this turn of the event loop leaves together. */
  work(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#wake.notify();
    });
  }

  /** At the end: what the server did not take. */
  handBack(): Parcel[] {
    const parcels = this.#again.filter(({ again }) => !again);
    this.#again = [];
    return parcels;
  }

  async #run(): Promise<void> {
    const { link, carrier } = this.publisher;
    let number = 0;
    while (!this.end.aborted) {
      const current = await link.next(number).catch(() => undefined);
      if (current === undefined) return;
      number = current.number;
      const stop = link.state.listen(() => this.#wake.notify());
      try {
        await carrier.prepare?.(link, current);
        await this.#serve(current);
      } catch (error) {
        if (!(error instanceof Broken)) link.giveUp(number, ConnectionError.from(error));
      } finally {
        stop();
      }
      this.#forgetRounds();
    }
  }

  /** Sends over one connection, until that breaks. */
  async #serve(current: Current): Promise<void> {
    const { link, carrier, outbox } = this.publisher;
    const { batchDelay, batchEvents } = link.settings;
    const window = carrier.resends ? 1 : WINDOW;
    while (!this.end.aborted) {
      // What is sent over a connection that is known to be gone is lost.
      if (!link.isCurrent(current.number)) throw new Broken();
      if (
        this.#rounds.length === 0 &&
        batchDelay > 0 &&
        outbox.length > 0 &&
        outbox.length < batchEvents
      ) {
        await sleep(batchDelay, this.end);
        if (!link.isCurrent(current.number)) throw new Broken();
      }
      while (this.#rounds.length < window && this.#nextRound(current)) {
        // Until there is nothing left, or enough is on its way.
      }
      await this.#wake.wait();
      while (this.#rounds[0]?.answers !== undefined) await this.#settle(current);
    }
  }

  /** Sends what waits, and returns before it is answered; `false` if nothing waits. */
  #nextRound(current: Current): boolean {
    const commands: (readonly Arg[])[] = [];
    const parcels = this.#fill(commands);
    if (commands.length === 0) return false;
    const round: Round = { parcels, answers: undefined };
    this.#rounds.push(round);
    const answered = (answers: Outcome[] | ConnectionError): void => {
      round.answers = answers;
      this.#wake.notify();
    };
    this.publisher.link.askAll(current.connection, commands).then(answered, answered);
    return true;
  }

  /** Adds the commands of the next round: those of the parcels that are returned, and then those of positions. */
  #fill(commands: (readonly Arg[])[]): Parcel[] {
    const { carrier, outbox, link } = this.publisher;
    const { batchEvents, batchBytes } = link.settings;
    let parcels: Parcel[];
    const front = this.#again[0];
    if (front !== undefined) {
      // By themselves, so that a channel has one parcel on its way.
      parcels = this.#again.filter((parcel) => parcel.ticket === front.ticket);
      this.#again = this.#again.filter((parcel) => parcel.ticket !== front.ticket);
    } else {
      this.publisher.seal();
      const taken = carrier.resends
        ? // One parcel of each channel at the most.
          outbox.take(batchEvents, Math.max(1, batchBytes - FRAME_HEADER))
        : outbox.take(ROUND.events, ROUND.bytes);
      const limits = { events: batchEvents, bytes: batchBytes, numbered: carrier.numbered };
      parcels = taken.length > 0 ? pack(taken, limits) : [];
      if (taken.length > 0) this.publisher.room();
    }
    for (const parcel of parcels) commands.push(carrier.command(parcel));
    if (front === undefined) commands.push(...this.publisher.duePositions());
    return parcels;
  }

  /** Takes note of what became of the oldest round. */
  async #settle(current: Current): Promise<void> {
    const round = this.#rounds.shift() as Round;
    const answers = round.answers as Outcome[] | ConnectionError;
    if (answers instanceof Error) {
      this.#unknown(round.parcels, answers);
      this.publisher.link.giveUp(current.number, answers);
      throw new Broken();
    }
    let notNow: ConnectionError | undefined;
    round.parcels.forEach((parcel, n) => {
      const judgement = this.publisher.carrier.judge(answers[n] as Outcome);
      if (judgement === 'taken') return;
      if ('refused' in judgement) {
        this.publisher.lose(parcel.count, TransportError.refused(judgement.refused));
      } else {
        notNow = judgement.notNow;
        this.#again.push(parcel);
      }
    });
    this.#markSettled();
    if (notNow !== undefined) {
      await this.#pause(current, notNow);
    } else if (this.#refusals > 0 && round.parcels.length > 0) {
      this.#refusals = 0;
      this.publisher.trouble = undefined;
    }
  }

  /** The server does not take it for now: waits, and lets publishers know. */
  async #pause(current: Current, error: ConnectionError): Promise<void> {
    const { link, carrier } = this.publisher;
    // Perhaps it is a replica now.
    if (error.breaksConnection) link.doubt();
    this.publisher.trouble = error;
    const over = new AbortController();
    const stop = link.state.listen(() => over.abort());
    const ended = (): void => over.abort();
    this.end.addEventListener('abort', ended);
    await sleep(Math.min(1_000, 50 * 2 ** Math.min(this.#refusals, 10)), over.signal);
    stop();
    this.end.removeEventListener('abort', ended);
    this.#refusals += 1;
    if (!link.isCurrent(current.number)) throw new Broken();
    await carrier.prepare?.(link, current);
  }

  /** What became of rounds whose connection broke is not known. */
  #forgetRounds(): void {
    const rounds = this.#rounds;
    this.#rounds = [];
    const error = this.publisher.link.error ?? ConnectionError.closed();
    for (const round of rounds) {
      this.#unknown(round.parcels, round.answers instanceof Error ? round.answers : error);
    }
  }

  #unknown(parcels: readonly Parcel[], error: ConnectionError): void {
    if (this.publisher.carrier.resends) {
      for (const parcel of parcels) parcel.again = true;
      this.#again.push(...parcels);
    } else {
      for (const parcel of parcels) this.publisher.lose(parcel.count, error.toTransport());
    }
    this.#markSettled();
  }

  /** Tells those who wait for a flush. */
  #markSettled(): void {
    let oldest = this.publisher.outbox.oldestTicket;
    for (const parcel of this.#again) oldest = Math.min(oldest, parcel.ticket);
    for (const round of this.#rounds) {
      for (const parcel of round.parcels) oldest = Math.min(oldest, parcel.ticket);
    }
    const { settled } = this.publisher;
    if (oldest > settled.value) settled.set(oldest);
  }
}
