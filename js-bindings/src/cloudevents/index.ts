/**
 * Events as CloudEvents 1.0 JSON: for people, HTTP and other programs. The same text as Rust's
 * `codec::json`: ADR 0012.
 */

export { CloudEventError, type CloudEventErrorCode } from './error.js';
export { fromCloudEvent } from './read.js';
export { ANONYMOUS, UNSTAMPED } from './words.js';
export { toCloudEvent } from './write.js';
