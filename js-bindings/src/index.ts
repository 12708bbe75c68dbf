/**
 * swarmbus for JavaScript: the package's whole public face.
 *
 * The WebAssembly module is instantiated when this is imported, at once and without
 * a promise; `status()` says how that went.
 *
 * @packageDocumentation
 */
/// <reference lib="esnext.disposable" preserve="true" />

export { Backoff, type BackoffSettings, type Growth, type Jitter } from './backoff.js';
export * from './bus/index.js';
export * from './cloudevents/index.js';
export * from './codec/index.js';
export {
  CRITICAL_PRIORITY,
  DEFAULT_PRIORITY,
  Event,
  type EventInit,
  type Micros,
  type Target,
} from './event.js';
export {
  BreakerConfigError,
  BreakerRejectedError,
  CircuitBreaker,
  PermitUsedError,
  type BreakerCause,
  type BreakerConfigErrorCode,
  type BreakerSettings,
  type BreakerSnapshot,
  type BreakerState,
  type BreakerStats,
  type BreakerTotals,
  type BreakerWindow,
  type Permit,
  type SavedTime,
  type Transition,
} from './breaker.js';
export { FreedError, liveHandles } from './handles.js';
export {
  PatternError,
  Router,
  type PatternErrorCode,
  type Route,
  type RouterSettings,
} from './router.js';
export { status, WasmUnavailableError, type Status } from './status.js';
export * from './messenger/index.js';
