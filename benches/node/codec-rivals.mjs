/**
 * The codecs that are compared: each makes bytes of an event, and an event of bytes.
 * Loaded one at a time, as what runs beside it in a process changes how fast code is.
 */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** `cargo xtask bench node` builds it of `benches/naive`. */
const NAIVE = fileURLToPath(new URL('naive/index.cjs', import.meta.url));

/** Events of swarmbus are no plain objects: for comparing results only. */
export function plain(event) {
  const { id, type, source, target, priority, timestamp, correlationId, traceparent, payload } =
    event;
  const all = {
    id,
    type,
    source,
    target,
    priority,
    timestamp,
    correlationId,
    traceparent,
    payload,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

const CODECS = {
  json: async () => ({
    encode: (event) => Buffer.from(JSON.stringify(event)),
    decode: (bytes) => JSON.parse(bytes.toString()),
  }),
  swarmbus: async () => {
    const { encode, decode } = await import('swarmbus');
    return { encode: (event) => encode(event), decode: (bytes) => decode(bytes), plain };
  },
  'swarmbus lazy': async () => {
    const { encode, decode } = await import('swarmbus');
    const lazy = { lazy: true };
    return { encode: (event) => encode(event), decode: (bytes) => decode(bytes, lazy), plain };
  },
  'msgpackr plain': async () => {
    const { Packr } = await import('msgpackr');
    const packr = new Packr({ useRecords: false, int64AsType: 'number' });
    return { encode: (event) => packr.pack(event), decode: (bytes) => packr.unpack(bytes) };
  },
  'msgpackr records': async () => {
    const { Packr } = await import('msgpackr');
    const packr = new Packr({ structures: [], int64AsType: 'number' });
    return { encode: (event) => packr.pack(event), decode: (bytes) => packr.unpack(bytes) };
  },
  '@msgpack/msgpack': async () => {
    const { Encoder, Decoder } = await import('@msgpack/msgpack');
    const [encoder, decoder] = [new Encoder(), new Decoder()];
    return { encode: (event) => encoder.encode(event), decode: (bytes) => decoder.decode(bytes) };
  },
  'cbor-x': async () => {
    const { Encoder } = await import('cbor-x');
    const cbor = new Encoder({ useRecords: false, int64AsNumber: true });
    return { encode: (event) => cbor.encode(event), decode: (bytes) => cbor.decode(bytes) };
  },
  'notepack.io': async () => {
    const { default: notepack } = await import('notepack.io');
    return { encode: (event) => notepack.encode(event), decode: (bytes) => notepack.decode(bytes) };
  },
  v8: async () => {
    const { serialize, deserialize } = await import('node:v8');
    return { encode: (event) => serialize(event), decode: (bytes) => deserialize(bytes) };
  },
  'serde-wasm-bindgen (naive)': async () => {
    const { encode, decode } = createRequire(import.meta.url)(NAIVE);
    return { encode, decode };
  },
};

export const RIVALS = Object.keys(CODECS).filter(
  (name) => name !== 'json' && (!name.startsWith('serde') || existsSync(NAIVE)),
);

/** A codec by its name. */
export async function codec(name) {
  return { plain: (event) => event, ...(await CODECS[name]()) };
}
