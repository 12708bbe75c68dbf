/** The messenger's public face, and what is needed to write a transport. */

export { Channel, ChannelError, type Mode } from './channel.js';
export { Feed, Inbox, feed } from './inbox.js';
export {
  Gap,
  Received,
  type GapReason,
  type Incoming,
  type Settle,
  type Verdict,
} from './incoming.js';
export { checkOptions, type CheckedOptions, type Start, type SubscribeOptions } from './options.js';
export { Position } from './position.js';
export {
  TransportError,
  TransportPublishError,
  type TransportErrorCode,
} from './transport-error.js';
export type { ConnectionState, DeadTask, Features, Transport } from './transport.js';
