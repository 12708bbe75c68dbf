/** Answering the requests of others. */

import { Event } from '../event.js';
import { within } from './async.js';
import { isLate, nowMicros, type Hub, type Responder } from './hub.js';
import { channelOf } from './identity.js';
import { MARK, Message, marked, senderOf } from './message.js';
import { FAILED, type Refusal } from './request.js';
import { TransportError } from './transport-error.js';

/** A request that came in, and how to answer it. */
interface Asked {
  readonly hub: Hub;
  readonly message: Message;
  readonly number: string;
  /** Of the one who asks. */
  readonly node: string;
}

/** Deals with a message that asks for an answer. The answer is made beside what else comes in. */
export function asked(hub: Hub, message: Message, number: string): void {
  const sender = senderOf(message.event);
  if (sender === undefined) return;
  const request: Asked = { hub, message, number, node: sender.node };
  if (isLate(message.event)) return refuse(request, 'too-late');
  const responder = hub.responders
    .find(message.event.type, message.scope)
    .find((entry) => entry.active);
  if (responder === undefined) {
    // Of a swarm, another may know.
    if (message.scope === 'agent') return refuse(request, 'no-responder');
    hub.counts.unhandled += 1;
    return;
  }
  if (hub.answering >= hub.settings.maxAnswers) return refuse(request, 'busy');
  hub.answering += 1;
  hub.spawn(answer(request, responder.handle).finally(() => void (hub.answering -= 1)));
}

async function answer(asked: Asked, respond: Responder): Promise<void> {
  const { hub, message } = asked;
  const { deadline } = message.event;
  const limit =
    deadline === undefined ? hub.settings.requestTimeout : (Number(deadline) - nowMicros()) / 1_000;
  const over = new AbortController();
  const late = Symbol('late');
  let payload: unknown;
  try {
    const made = Promise.resolve().then(() => respond(message, over.signal));
    payload = await within<unknown>(made, Math.max(0, limit), () => late, hub.over.signal);
  } catch (error) {
    return tellFailure(asked, error);
  }
  if (payload === late) {
    // Nobody waits for it any more.
    hub.counts.expired += 1;
    over.abort();
    return;
  }
  try {
    await hub.send(channelOf('reply', asked.node), reply(asked, payload));
    hub.counts.answers += 1;
  } catch (error) {
    // What cannot be carried at all is the responder's failure, and whoever asks is told.
    if (error instanceof TransportError && error.code === 'unfit') return tellFailure(asked, error);
    hub.failed(error, message);
  }
}

async function tellFailure(asked: Asked, error: unknown): Promise<void> {
  const { hub, message } = asked;
  hub.counts.failed += 1;
  hub.failed(error, message);
  const why = error instanceof Error ? error.message : String(error);
  await send(asked, marked(reply(asked, why), MARK.refusal, FAILED));
}

function refuse(asked: Asked, refusal: Refusal): void {
  const { hub } = asked;
  hub.counts.refusals += 1;
  // Refusing is short, but not unbounded either.
  if (hub.refusing >= hub.maxRefusals) return;
  hub.refusing += 1;
  const sent = send(asked, marked(reply(asked, undefined), MARK.refusal, refusal));
  hub.spawn(sent.finally(() => void (hub.refusing -= 1)));
}

function reply({ hub, message, number }: Asked, payload: unknown): Event {
  const { type, priority, id, correlationId, traceparent } = message.event;
  return new Event({
    type,
    payload,
    source: hub.identity.agent,
    priority,
    causationId: id,
    correlationId,
    traceparent,
    attributes: { [MARK.answer]: number },
  });
}

async function send({ hub, message, node }: Asked, event: Event): Promise<void> {
  try {
    // What a stranger wrote as its node may be no name.
    await hub.send(channelOf('reply', node), event);
  } catch (error) {
    hub.failed(error, message);
  }
}
