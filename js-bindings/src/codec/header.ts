/** What an event says of itself, as plain values: for logs and `JSON.stringify`. */

/** All fields; a time that is no exact number is text. */
export function plainOf(event: Header, payload: unknown): Record<string, unknown> {
  // One literal: several that are joined take four times as long.
  return {
    id: event.id,
    type: event.type,
    source: event.source,
    target: event.target,
    priority: event.priority,
    timestamp: exact(event.timestamp),
    deadline: exact(event.deadline),
    session: event.session,
    correlationId: event.correlationId,
    causationId: event.causationId,
    traceparent: event.traceparent,
    hops: event.hops,
    attributes: event.attributes,
    payload,
  };
}

/** What both an event and a look at one have. */
interface Header {
  readonly id: string | undefined;
  readonly type: string;
  readonly source: string;
  readonly target: string | undefined;
  readonly priority: number;
  readonly timestamp: number | bigint | undefined;
  readonly deadline: number | bigint | undefined;
  readonly session: string | undefined;
  readonly correlationId: string | undefined;
  readonly causationId: string | undefined;
  readonly traceparent: string | undefined;
  readonly hops: readonly string[];
  readonly attributes: Readonly<Record<string, string>>;
}

function exact(time: number | bigint | undefined): number | string | undefined {
  return typeof time === 'bigint' ? String(time) : time;
}
