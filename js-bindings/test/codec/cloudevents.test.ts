/** Events as CloudEvents JSON: what Rust reads and writes, each mistake, and each payload. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import {
  ANONYMOUS,
  CloudEventError,
  decodeBatch,
  encode,
  Event,
  fromCloudEvent,
  Payload,
  toCloudEvent,
  UNSTAMPED,
  type Encodable,
} from 'swarmbus';

interface Document {
  readonly name: string;
  readonly json: string;
  readonly frame_hex?: string;
  readonly error?: string;
}

interface Frame {
  readonly name: string;
  readonly events: readonly Record<string, unknown>[];
  readonly frame_hex: string;
}

function vectors<V>(file: string): V[] {
  return JSON.parse(readFileSync(`../tests/vectors/${file}`, 'utf8')) as V[];
}

const toHex = (event: Encodable) => Buffer.from(encode(event)).toString('hex');

/** The code of the error that reading ends in. */
function fault(json: string | Uint8Array): string {
  try {
    fromCloudEvent(json);
  } catch (error) {
    assert.ok(error instanceof CloudEventError, String(error));
    return error.code;
  }
  return 'none';
}

const read = (members: string): Event =>
  fromCloudEvent(`{"specversion":"1.0","id":"1","source":"s","type":"t"${members}}`);
const code = (members: string): string =>
  fault(`{"specversion":"1.0","id":"1","source":"s","type":"t"${members}}`);

for (const { name, json, frame_hex: frame, error } of vectors<Document>('cloudevents.json')) {
  test(`document: ${name}`, () => {
    if (error !== undefined) {
      assert.equal(fault(json), error);
      assert.equal(fault(Buffer.from(json)), error);
      return;
    }
    const event = fromCloudEvent(json);
    assert.equal(toHex(event), frame);
    assert.equal(toHex(fromCloudEvent(Buffer.from(json))), frame);
    assert.equal(toHex(fromCloudEvent(toCloudEvent(event))), frame);
  });
}

for (const { name, events, frame_hex: frame } of vectors<Frame>('frames.json')) {
  test(`written: ${name}`, () => {
    const written = decodeBatch(Buffer.from(frame, 'hex'), { lazy: true }).map(toCloudEvent);
    assert.deepEqual(
      written.map((json) => JSON.parse(json) as unknown),
      events,
    );
  });
}

test('every field has its member, in the order of Rust', () => {
  const event = new Event({
    type: 'vote.cast',
    payload: Payload.raw('json', Buffer.from('{"b":1, "a":1.50}')),
    source: 'validator-3',
    priority: 9,
    target: 'swarm:blue',
    session: 's-1',
    correlationId: 'c,1',
    causationId: '01890a5d-ac96-774b-bcce-b302099a8057',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    deadline: 1_769_860_801_000_000,
    hops: ['a,b', '100%'],
    attributes: { tenant: 'x' },
    timestamp: 1_769_860_800_000_001,
    nonce: 42n,
  });
  const json =
    '{"specversion":"1.0","id":"019c13ec-9e00-7004-8000-00000000002a",' +
    '"source":"validator-3","type":"vote.cast","time":"2026-01-31T12:00:00.000001Z",' +
    '"nonce":"000000000000002a","priority":9,"correlationid":"c,1",' +
    '"causationid":"01890a5d-ac96-774b-bcce-b302099a8057","target":"swarm:blue",' +
    '"session":"s-1",' +
    '"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",' +
    '"deadline":"2026-01-31T12:00:01Z","hops":"a%2Cb,100%25","tenant":"x",' +
    '"datacontenttype":"application/json","data":{"b":1, "a":1.50}}';
  assert.equal(toCloudEvent(event), json);
  assert.equal(toHex(fromCloudEvent(json)), toHex(event));
});

test('source and id are never empty in JSON', () => {
  const json =
    '{"specversion":"1.0","id":"swarmbus:unstamped","source":"swarmbus:anonymous","type":"a"}';
  assert.equal(toCloudEvent({ type: 'a' }), json);
  assert.equal(toHex(fromCloudEvent(json)), toHex({ type: 'a' }));
  for (const taken of [{ source: ANONYMOUS }, { id: UNSTAMPED }, { id: '' }]) {
    assert.throws(() => toCloudEvent({ type: 'a', ...taken }), { code: 'reserved' });
  }
  assert.throws(() => toCloudEvent({ type: '' }), { name: 'EncodeError', code: 'type' });
});

test('payloads keep their bytes', () => {
  const raw = (content: Payload['content'], text: string | number[]) =>
    Payload.raw(content, typeof text === 'string' ? Buffer.from(text) : Uint8Array.from(text));
  const cases: [unknown, string][] = [
    ['é\n', '"datacontenttype":"text/plain","data":"é\\n"'],
    ['\ud800', '"data":"\ufffd"'],
    [Uint8Array.of(0, 255), '"application/octet-stream","data_base64":"AP8="'],
    [1, '"application/msgpack","data_base64":"AQ=="'],
    [raw('json', '[1.0e3,\n null]'), '"data":[1.0e3,\n null]'],
    [raw('json', 'null'), '"data":null'],
    [raw('json', ' 1'), '"application/json","data_base64":"IDE="'],
    [raw('json', ''), '"application/json","data_base64":""'],
    [raw('json', '{'), '"application/json","data_base64":"ew=="'],
    [raw('text', [255]), '"text/plain","data_base64":"/w=="'],
    [raw('text', ''), '"text/plain","data":""'],
  ];
  for (const [payload, shown] of cases) {
    const json = toCloudEvent({ type: 'a', payload });
    assert.ok(json.includes(shown), `${shown} in ${json}`);
    assert.equal(toHex(fromCloudEvent(json)), toHex({ type: 'a', payload }));
  }
  const large = new Uint8Array(100_000).map((_, at) => at * 31);
  const back = fromCloudEvent(toCloudEvent({ type: 'a', payload: large })).payload;
  assert.deepEqual(Buffer.from(back as Uint8Array), Buffer.from(large));
});

test('an id that only repeats the stamp is not kept twice', () => {
  const stamp = { type: 'a', timestamp: 5, nonce: 7n };
  const { id } = new Event(stamp);
  const back = fromCloudEvent(toCloudEvent({ ...stamp, id }));
  assert.equal(back.id, id);
  assert.equal(back.ownId, undefined);
});

test('foreign events are kept or refused but never cut', () => {
  const event = read(',"subject":"pic.png","dataschema":"http://x/y","time":null');
  assert.deepEqual({ ...event.attributes }, { subject: 'pic.png', dataschema: 'http://x/y' });
  assert.equal(event.timestamp, undefined);
  assert.deepEqual(read(',"data":{"a":[1]}').payload, { a: [1] });
  for (const type of [
    'text/html',
    'application/json; profile=x',
    'text/plain; charset=latin-1',
    '',
  ]) {
    assert.equal(code(`,"datacontenttype":"${type}"`), 'media_type');
  }
  assert.equal(read(',"datacontenttype":"TEXT/plain ; CHARSET=utf-8","data":"x"').payload, 'x');
  // Never a prototype.
  assert.equal(code(',"__proto__":"x"'), 'attribute');
});

test('each mistake has its error', () => {
  assert.equal(code(',"id":"2"'), 'duplicate');
  assert.equal(code(',"deadline":"1960-01-01T00:00:00Z"'), 'time');
  for (const priority of ['10', '-1', '1.5', '"1"', '5.0', '-0']) {
    assert.equal(code(`,"priority":${priority}`), 'priority');
  }
  for (const nonce of ['0000000000000000', '2a', '000000000000002A', '+00000000000002a']) {
    assert.equal(code(`,"time":"2026-01-31T12:00:00Z","nonce":"${nonce}"`), 'nonce', nonce);
  }
  assert.equal(code(',"datacontenttype":"application/msgpack","data":"x"'), 'data');
  for (const base64 of ['AA', 'AA=', 'AB==', 'A A=', '_w==', '=']) {
    assert.equal(code(`,"data_base64":"${base64}"`), 'base64', base64);
  }
  for (const hops of ['%', '%2', '%2c', '%41', 'a%é']) {
    assert.equal(code(`,"hops":"${hops}"`), 'hops', hops);
  }
  assert.throws(() => fromCloudEvent('{}', { frameLen: 1 }), { code: 'too_long' });
});

test('what is no JSON is a syntax error', () => {
  const cut = '{"a":"b\\"","c":[{"d":"]"}],"e":null}';
  for (let end = 0; end < cut.length; end++) assert.equal(fault(cut.slice(0, end)), 'syntax');
  assert.equal(fault(cut), 'missing');
  for (const json of [
    '',
    'null',
    '[]',
    '"{}"',
    '{} x',
    '{}}',
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    '{,"a":1}',
    '{"a":1 "b":2}',
    '{"a":1;"b":2}',
    "{'a':1}",
    '{a:1}',
    '{1:1}',
    '{"a":01}',
    '{"a":[1,]}',
    '{"a":[}',
    '{"a":]}',
    '{"a":{"b":}}',
    '{"a":nul}',
    '{"a":1 2}',
    '{"a":"\n"}',
    '{"a":"\\x"}',
    '{"a":,}',
    '{"\\ud800":1}',
    '\ufeff{}',
  ]) {
    assert.equal(fault(json), 'syntax', json);
    assert.equal(fault(Buffer.from(json)), 'syntax', json);
  }
  assert.equal(fault(Uint8Array.of(0x7b, 0xff, 0x7d)), 'syntax');
  assert.equal(fault('{"specversion":"1.0","id":"\\ud800"}'), 'missing');
  assert.equal(code(',"session":"\\ud800"'), 'not_a_string');
  assert.equal(code(',"datacontenttype":"text/plain","data":"\\ud800"'), 'data');
});

test('times are those of RFC 3339, in microseconds', () => {
  const time = (text: string) => read(`,"time":"${text}"`).timestamp;
  const noon = 1_769_860_800_000_000;
  for (const [text, micros] of [
    ['2026-01-31T12:00:00Z', noon],
    ['2026-01-31t12:00:00z', noon],
    ['2026-01-31 12:00:00Z', noon],
    ['2026-01-31T13:30:00+01:30', noon],
    ['2026-01-31T11:00:00-01:00', noon],
    ['2026-01-31T12:00:00-00:00', noon],
    ['2026-01-31T12:00:00.1Z', noon + 100_000],
    ['2026-01-31T12:00:00,000001999Z', noon + 1],
    ['2026-01-31T11:59:60Z', noon - 1_000_000],
    ['1970-01-01T00:00:00.000001Z', 1],
    ['1970-01-02T00:00:00+23:59', 60_000_000],
    ['9999-12-30T21:59:59.999999Z', 253_402_207_199_999_999n],
  ] as const) {
    assert.equal(time(text), micros, text);
    const back = fromCloudEvent(toCloudEvent({ type: 'a', timestamp: micros }));
    assert.equal(back.timestamp, micros);
  }
  for (const text of [
    'noon',
    '2026-02-29T12:00:00Z',
    '2026-13-01T12:00:00Z',
    '2026-01-31T24:00:00Z',
    '2026-01-31T12:60:00Z',
    '2026-01-31T12:00:61Z',
    '2026-01-31T12:00:00',
    '2026-01-31T12:00:00.Z',
    '2026-01-31T12:00:00.0123456789Z',
    '2026-01-31T12:00:00+26:00',
    '1970-01-01T00:00:00Z',
    '9999-12-30T22:00:00Z',
    ' 2026-01-31T12:00:00Z',
  ]) {
    assert.equal(code(`,"time":"${text}"`), 'time', text);
  }
});

test('deep JSON is carried without recursion', () => {
  const deep = '['.repeat(100_000) + ']'.repeat(100_000);
  const event = { type: 'a', payload: Payload.raw('json', Buffer.from(deep)) };
  assert.equal(toHex(fromCloudEvent(toCloudEvent(event))), toHex(event));
});
