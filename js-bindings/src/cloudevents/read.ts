import { attributeFault } from '../codec/attributes.js';
import { isTooLate } from '../codec/layout.js';
import { limitsOf, type Limits } from '../codec/limits.js';
import { Payload } from '../codec/payload.js';
import { readUtf8, utf8Length } from '../codec/text.js';
import { typeFault } from '../codec/types.js';
import { uuidV7 } from '../codec/uuid.js';
import { DEFAULT_PRIORITY, Event, type Micros, type Target } from '../event.js';
import { CloudEventError } from './error.js';
import { readMembers, text, type Members } from './members.js';
import { ANONYMOUS, UNSTAMPED, contentOf, fromBase64, parseTime, splitHops } from './words.js';

/**
 * An event of one JSON object of CloudEvents 1.0, as {@link toCloudEvent} writes it or others do.
 * Nothing is dropped: what an event has no place for is an error. Of events written elsewhere
 * `subject` and `dataschema` become attributes, `null` is the same as absent, and times lose what
 * is finer than a microsecond and their zone.
 *
 * Limits on single fields are for whoever writes the event into a frame; here only the length of
 * the whole (`frameLen`) and the number of attributes count.
 *
 * @throws CloudEventError
 */
export function fromCloudEvent(json: string | Uint8Array, limits?: Partial<Limits>): Event {
  const { frameLen, attributes } = limitsOf(limits);
  const length = typeof json === 'string' ? utf8Length(json) : json.length;
  if (length > frameLen) {
    throw new CloudEventError('too_long', `the JSON has ${length} bytes, the limit is ${frameLen}`);
  }
  const document = typeof json === 'string' ? json : readUtf8(json, 0, json.length);
  if (document === undefined) throw new CloudEventError('syntax', 'the bytes are not UTF-8');
  const members = readMembers(document, attributes);

  const version = takeText(members, 'specversion');
  if (version === undefined) throw missing('specversion');
  if (version !== '1.0') {
    throw new CloudEventError('specversion', `specversion is ${version}, not 1.0`);
  }
  const type = required(members, 'type');
  const fault = typeFault(type);
  if (fault !== undefined) throw new CloudEventError('type', fault);
  const source = required(members, 'source');
  const priority = takePriority(members);
  const payload = takePayload(members);
  const timestamp = takeTime(members, 'time');
  return new Event({
    type,
    source: source === ANONYMOUS ? '' : source,
    priority,
    payload,
    timestamp,
    ...takeId(members, timestamp),
    deadline: takeTime(members, 'deadline'),
    target: takeTarget(members),
    session: takeText(members, 'session'),
    correlationId: takeText(members, 'correlationid'),
    causationId: takeText(members, 'causationid'),
    traceparent: takeText(members, 'traceparent'),
    hops: takeHops(members),
    // Last: what is left.
    attributes: takeAttributes(members),
  });
}

function missing(name: string): CloudEventError {
  return new CloudEventError('missing', `member ${name} is missing or empty`);
}

/** The raw value of a member, which is then gone. */
function take(members: Members, name: string): string | undefined {
  const raw = members.get(name);
  members.delete(name);
  return raw;
}

function takeText(members: Members, name: string): string | undefined {
  const raw = take(members, name);
  if (raw === undefined) return undefined;
  const value = text(raw);
  if (value !== undefined) return value;
  throw new CloudEventError('not_a_string', `member ${JSON.stringify(name)} is not a string`);
}

function required(members: Members, name: string): string {
  const value = takeText(members, name);
  if (value === undefined || value === '') throw missing(name);
  return value;
}

function takePriority(members: Members): number {
  const raw = take(members, 'priority');
  if (raw === undefined) return DEFAULT_PRIORITY;
  if (/^[0-9]$/.test(raw)) return Number(raw);
  throw new CloudEventError('priority', 'priority is an integer from 0 to 9');
}

function takeTime(members: Members, name: string): Micros | undefined {
  const value = takeText(members, name);
  if (value === undefined) return undefined;
  const micros = parseTime(value) ?? 0n;
  const late = isTooLate(Number(micros & 0xffff_ffffn), Number(micros >> 32n));
  if (micros <= 0n || late) {
    throw new CloudEventError('time', `member ${name} is a time such as 2026-01-31T12:00:00Z`);
  }
  return micros <= Number.MAX_SAFE_INTEGER ? Number(micros) : micros;
}

/** With a nonce that makes the very id there is no id of its own. */
function takeId(
  members: Members,
  timestamp: Micros | undefined,
): { id?: string | undefined; nonce?: bigint } {
  const value = required(members, 'id');
  const id = value === UNSTAMPED ? undefined : value;
  const hex = takeText(members, 'nonce');
  if (hex === undefined) return { id };
  const nonce = /^[0-9a-f]{16}$/.test(hex) ? BigInt(`0x${hex}`) : 0n;
  if (nonce === 0n || timestamp === undefined || id === undefined) {
    const rule = 'nonce is 16 hexadecimal digits, not all zero, beside a time and an id';
    throw new CloudEventError('nonce', rule);
  }
  return id === uuidV7(BigInt(timestamp), nonce) ? { nonce } : { id, nonce };
}

function takeTarget(members: Members): Target | undefined {
  const value = takeText(members, 'target');
  if (value === undefined || /^(?:agent|swarm):/.test(value)) return value as Target | undefined;
  throw new CloudEventError('target', 'target is `agent:NAME` or `swarm:NAME`');
}

function takeHops(members: Members): string[] | undefined {
  const value = takeText(members, 'hops');
  if (value === undefined) return undefined;
  const hops = splitHops(value);
  if (hops !== undefined) return hops;
  throw new CloudEventError('hops', 'in hops, `%` is written `%25` and a comma `%2C`');
}

function takePayload(members: Members): Payload | undefined {
  const mediaType = takeText(members, 'datacontenttype');
  const content = mediaType === undefined ? undefined : contentOf(mediaType);
  if (content === undefined && mediaType !== undefined) {
    const rule = `media type ${JSON.stringify(mediaType)} has no kind of payload`;
    throw new CloudEventError('media_type', rule);
  }
  const data = take(members, 'data');
  const base64 = take(members, 'data_base64');
  if (data !== undefined && base64 !== undefined) {
    throw new CloudEventError('two_payloads', 'an event has either data or data_base64');
  }
  if (data !== undefined) return ofData(data, content ?? 'json');
  if (base64 === undefined) {
    const nothing = content === undefined || content === 'binary';
    return nothing ? undefined : Payload.raw(content, new Uint8Array());
  }
  const value = text(base64);
  if (value === undefined) {
    throw new CloudEventError('not_a_string', 'member "data_base64" is not a string');
  }
  const bytes = fromBase64(value);
  if (bytes !== undefined) return Payload.raw(content ?? 'binary', bytes);
  throw new CloudEventError('base64', 'data_base64 is not base64');
}

function ofData(raw: string, content: Payload['content']): Payload {
  if (content === 'json') return Payload.raw('json', utf8(raw));
  const value = content === 'msgpack' ? undefined : text(raw);
  if (value === undefined) throw new CloudEventError('data', 'data does not fit its media type');
  // A string stands for its UTF-8 bytes.
  return Payload.raw(content, utf8(value));
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function takeAttributes(members: Members): Record<string, string> | undefined {
  if (members.size === 0) return undefined;
  const attributes = Object.create(null) as Record<string, string>;
  for (const name of [...members.keys()].sort()) {
    const fault = attributeFault(name);
    if (fault !== undefined) throw new CloudEventError('attribute', fault);
    attributes[name] = takeText(members, name)!;
  }
  return attributes;
}
