/** The event bus. */

export type { BreakerReport } from './breaker.js';
export type { Bulkhead, BulkheadReport } from './bulkhead.js';
export { EventBus, type PublishOptions, type Shutdown } from './bus.js';
export type {
  DeadLetter,
  DeadLetters,
  DeadReason,
  LetterFilter,
  RetryReport,
} from './dead-letters.js';
export * from './errors.js';
export type { Degraded, Fallback } from './fallback.js';
export {
  budgetOf,
  causedBy,
  HopError,
  isReplayed,
  type LoopGuard,
  MAX_HOPS,
  replayed,
  spend,
  splitBudget,
  withBudget,
} from './hops.js';
export type { Delays } from './layers.js';
export type { HandlerLedger, Ledger, OutcomeName, Outcomes } from './ledger.js';
export type { BusMetrics, Histogram } from './metrics.js';
export type { AdaptiveRate, Overflow } from './overflow.js';
export { MAX_NESTING } from './place.js';
export type { RateLimit, Sampling } from './rate-limit.js';
export type { Delivery } from './runner.js';
export type { Session } from './session.js';
export type {
  Missed,
  Plan,
  Schedule,
  ScheduleOptions,
  Schedules,
  ScheduleStats,
} from './schedules.js';
export type { BusSettings } from './settings.js';
export type { EventStream } from './stream.js';
export type { HandlerContext } from './subscriber.js';
export {
  type BreakerScope,
  type HandlerOptions,
  MAX_SERVICES,
  type Policy,
  type StreamOptions,
  type Subscription,
} from './subscription.js';
export type { AnyEvents, EventOf, InitOf, Matching, TypeOf } from './types.js';
