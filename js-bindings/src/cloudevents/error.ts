/** Why JSON is not an event. The same codes as in Rust. */
export type CloudEventErrorCode =
  /** Longer than the limit on frames. */
  | 'too_long'
  /** Not one JSON object: `cause` says what `JSON.parse` said, if it was asked. */
  | 'syntax'
  /** More members than fields and allowed attributes. */
  | 'too_many_members'
  /** A member is there twice. */
  | 'duplicate'
  /** A member that CloudEvents requires is missing or empty. */
  | 'missing'
  /** Another version of CloudEvents than 1.0. */
  | 'specversion'
  /** A member that must be a string is not. */
  | 'not_a_string'
  /** The type is no event type. */
  | 'type'
  /** `time` or `deadline` is no time of RFC 3339 after 1970. */
  | 'time'
  /** `priority` is no integer from 0 to 9. */
  | 'priority'
  /** `nonce` is not 16 lower-case hexadecimal digits, is zero, or stands without a time and an id. */
  | 'nonce'
  /** `target` is neither `agent:NAME` nor `swarm:NAME`. */
  | 'target'
  /** `hops` has a `%` that begins neither `%25` nor `%2C`. */
  | 'hops'
  /** A media type that no kind of payload stands for. */
  | 'media_type'
  /** Both `data` and `data_base64`. */
  | 'two_payloads'
  /** `data` does not fit its media type. */
  | 'data'
  /** `data_base64` is not base64 with padding. */
  | 'base64'
  /** A name that no attribute may have. */
  | 'attribute'
  /** Of an event that is to be written: its source or id means "none" in JSON. */
  | 'reserved';

/** JSON is no event, or an event has no JSON form. */
export class CloudEventError extends Error {
  override readonly name = 'CloudEventError';

  constructor(
    /** What is wrong. */
    readonly code: CloudEventErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
