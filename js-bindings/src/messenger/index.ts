/** The messenger's public face, and what is needed to write a transport. */

export { Channel, ChannelError, type Mode } from './channel.js';
export { Listening, TooManyHandlersError } from './handlers.js';
export type { Passed } from './history.js';
export { Identity, NameError, To } from './identity.js';
export { Feed, Inbox, feed } from './inbox.js';
export {
  Gap,
  Received,
  type GapReason,
  type Incoming,
  type Settle,
  type Verdict,
} from './incoming.js';
export { Message, type Scope, type Sender } from './message.js';
export { Messenger } from './messenger.js';
export { checkOptions, type CheckedOptions, type Start, type SubscribeOptions } from './options.js';
export { Position } from './position.js';
export { RequestError, type Refusal, type RequestErrorCode } from './request.js';
export type { MessengerOptions, Positions } from './settings.js';
export type { MessengerStats } from './stats.js';
export { Topic } from './topic.js';
export {
  TransportError,
  TransportPublishError,
  type TransportErrorCode,
} from './transport-error.js';
export type { ConnectionState, DeadTask, Features, Transport } from './transport.js';
export { Worker, type WorkOptions } from './work.js';
