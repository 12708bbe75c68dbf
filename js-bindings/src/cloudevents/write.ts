import { decode } from '../codec/decode.js';
import { encode, type Encodable } from '../codec/encode.js';
import { Payload } from '../codec/payload.js';
import { readUtf8 } from '../codec/text.js';
import { DEFAULT_PRIORITY, type Event } from '../event.js';
import { CloudEventError } from './error.js';
import { ANONYMOUS, UNSTAMPED, formatTime, joinHops, mediaType, toBase64 } from './words.js';

/**
 * An event as one JSON object of CloudEvents 1.0, without spaces or a line end.
 *
 * | event | JSON |
 * | --- | --- |
 * | id, empty source | `id`, `source`; {@link UNSTAMPED}, {@link ANONYMOUS} for none |
 * | timestamp, deadline | `time`, `deadline`: RFC 3339 in UTC |
 * | nonce | `nonce`: 16 hexadecimal digits, so that the id is again the one made from the stamp |
 * | priority | `priority`, unless it is the default |
 * | target, session, traceparent | the same |
 * | correlation and causation id | `correlationid`, `causationid` |
 * | hops | `hops`, joined by commas; `%` and commas in a name are `%25` and `%2C` |
 * | attributes | members of the same names |
 * | {@link Payload.json} | `data`, as it was written |
 * | text | `data`, a string |
 * | all other payloads | `data_base64`: MessagePack, or bytes |
 *
 * The event goes through {@link encode}, and so through its limits and counters.
 *
 * @example
 * ```ts
 * import assert from 'node:assert/strict';
 * import { fromCloudEvent, toCloudEvent } from 'swarmbus';
 *
 * const json = toCloudEvent({ type: 'task.created', source: 'agent-1', id: '42', payload: 'resize' });
 * assert.equal(
 *   json,
 *   '{"specversion":"1.0","id":"42","source":"agent-1","type":"task.created",' +
 *     '"datacontenttype":"text/plain","data":"resize"}',
 * );
 * assert.equal(fromCloudEvent(json).payload, 'resize');
 * ```
 *
 * @throws EncodeError when it cannot be written in any form.
 * @throws CloudEventError with `reserved` when its source or id means "none" in JSON.
 */
export function toCloudEvent(event: Encodable): string {
  // Checked, its payload as the bytes that travel.
  const whole = decode(encode(event), { lazy: true });
  const { source, ownId } = whole;
  if (source === ANONYMOUS) throw reserved('source', source);
  if (ownId === '' || ownId === UNSTAMPED) throw reserved('id', ownId);
  const { timestamp, deadline, nonce, priority } = whole;
  const members: string[] = [];
  const add = (name: string, value: unknown): void => {
    if (value !== undefined) members.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
  };
  add('specversion', '1.0');
  add('id', whole.id ?? UNSTAMPED);
  add('source', source === '' ? ANONYMOUS : source);
  add('type', whole.type);
  add('time', timestamp === undefined ? undefined : formatTime(timestamp));
  add('nonce', nonce === 0n ? undefined : nonce.toString(16).padStart(16, '0'));
  add('priority', priority === DEFAULT_PRIORITY ? undefined : priority);
  add('correlationid', whole.correlationId);
  add('causationid', whole.causationId);
  add('target', whole.target);
  add('session', whole.session);
  add('traceparent', whole.traceparent);
  add('deadline', deadline === undefined ? undefined : formatTime(deadline));
  add('hops', whole.hops.length === 0 ? undefined : joinHops(whole.hops));
  for (const name of Object.keys(whole.attributes).sort()) add(name, whole.attributes[name]);
  const data = payload(whole);
  return `{${members.join(',')}${data}}`;
}

function reserved(name: string, value: string): CloudEventError {
  return new CloudEventError('reserved', `${name} ${JSON.stringify(value)} means "none" in JSON`);
}

/** The members that carry the payload, with a comma before them. */
function payload({ rawPayload }: Event): string {
  // Nothing at all comes back as nothing.
  if (!(rawPayload instanceof Payload)) return '';
  const { content, bytes } = rawPayload;
  const type = `,"datacontenttype":"${mediaType(content)}"`;
  const text =
    content === 'text' || content === 'json' ? readUtf8(bytes, 0, bytes.length) : undefined;
  if (text !== undefined && content === 'text') return `${type},"data":${JSON.stringify(text)}`;
  if (text !== undefined && isValue(text)) return `${type},"data":${text}`;
  return `${type},"data_base64":"${toBase64(bytes)}"`;
}

/** Whether a text is one JSON value without spaces around it, which nobody would give back. */
function isValue(text: string): boolean {
  try {
    JSON.parse(text);
  } catch {
    return false;
  }
  return !/^[ \t\n\r]|[ \t\n\r]$/.test(text);
}
