/** What an event says of itself, as plain values: for logs and `JSON.stringify`. */

/** All fields but the payload; a time that is no exact number is text. */
export function headerOf(event: Header): Record<string, unknown> {
  const { id, type, source, target, priority, session, correlationId, causationId } = event;
  const { timestamp, deadline, traceparent, hops, attributes } = event;
  return {
    ...{ id, type, source, target, priority },
    ...{ timestamp: exact(timestamp), deadline: exact(deadline) },
    ...{ session, correlationId, causationId, traceparent, hops, attributes },
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
