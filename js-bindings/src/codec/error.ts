/** A string of an event, as errors name it. */
export type Field =
  | 'type'
  | 'source'
  | 'id'
  | 'target'
  | 'session'
  | 'correlationId'
  | 'causationId'
  | 'traceparent'
  | 'hop'
  | 'attributeName'
  | 'attributeValue';

/** Why an event cannot be written. */
export type EncodeErrorCode =
  /** The type is no event type. */
  | 'type'
  /** A field has a value that no event can have: a priority of 10, a time before 1970. */
  | 'field'
  /** A string is longer than its limit. */
  | 'field_too_long'
  /** The name of an attribute is not 1 to 20 lower-case letters and digits, or belongs to a field. */
  | 'attribute_name'
  | 'too_many_hops'
  | 'too_many_attributes'
  /** The event as a whole is longer than its limit. */
  | 'record_too_long'
  | 'frame_too_long'
  | 'too_many_events'
  /** A frame without events. */
  | 'empty_frame'
  /** The payload holds what has no form on the wire: a function, a symbol, a bigint beyond 64 bits. */
  | 'unsupported'
  /** The payload refers to itself. */
  | 'cyclic'
  /** The payload nests deeper than its limit. */
  | 'too_deep'
  /** A getter or `toJSON` of the payload threw: see `cause`. */
  | 'payload';

/** An event cannot be written. The codec goes on as if it had not been asked. */
export class EncodeError extends Error {
  override readonly name = 'EncodeError';

  constructor(
    /** What is wrong. */
    readonly code: EncodeErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Why bytes are not a frame, or one of its records not an event. The same codes as in Rust. */
export type DecodeErrorCode =
  | 'truncated'
  | 'magic'
  | 'version'
  | 'frame_flags'
  | 'empty_frame'
  | 'frame_too_long'
  | 'too_many_events'
  | 'count'
  | 'trailing_bytes'
  | 'record_length'
  | 'record_too_long'
  | 'sections'
  | 'record_flags'
  | 'priority'
  | 'content'
  | 'timestamp'
  | 'deadline'
  | 'nonce'
  | 'type_hash'
  | 'type'
  | 'utf8'
  | 'field_too_long'
  | 'absent'
  | 'uuid'
  | 'too_many_hops'
  | 'hops'
  | 'too_many_attributes'
  | 'attributes'
  | 'attribute_name'
  | 'attribute_order'
  /** The frame is sound, its payload is not: `cause` is a {@link PayloadError}. */
  | 'payload';

/** Bytes are not a frame, or not an event. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';

  constructor(
    /** What is wrong. */
    readonly code: DecodeErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Why the bytes of a payload are not what the event says they are. */
export type PayloadErrorCode =
  /** The value goes on behind the end. */
  | 'truncated'
  /** Bytes follow the value. */
  | 'trailing_bytes'
  | 'too_deep'
  | 'utf8'
  /** The byte 0xC1, which begins no MessagePack value. */
  | 'reserved'
  /** Not JSON: `cause` says what `JSON.parse` said. */
  | 'json';

/** A payload cannot be read. */
export class PayloadError extends Error {
  override readonly name = 'PayloadError';

  constructor(
    /** What is wrong. */
    readonly code: PayloadErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
