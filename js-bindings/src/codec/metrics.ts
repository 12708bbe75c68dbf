/**
 * What the codec did, and how: for operators, and to see that a fallback is in use.
 */

import { builderCount, compileBuilders } from './builder.js';
import { tokenise, tokenises } from './engine.js';
import { picker, type Performance } from './pick.js';
import { compileShapes, shapeCounts } from './shape.js';

/** Counted where it happens; read by {@link metrics}. */
export const counts = {
  encodedMsgpack: 0,
  encodedJson: 0,
  encodedOther: 0,
  decodedWasm: 0,
  decodedJs: 0,
  decodedJson: 0,
  decodedOther: 0,
  decodedLazy: 0,
};

/** What {@link metrics} returns. All numbers count from the start of the process. */
export interface CodecMetrics {
  /** Events written, by the form of their payload; `other` is text, bytes and nothing. */
  readonly encoded: { readonly msgpack: number; readonly json: number; readonly other: number };
  /** Events read: MessagePack by WebAssembly or by JavaScript, JSON, other, and those left as bytes. */
  readonly decoded: {
    readonly wasm: number;
    readonly js: number;
    readonly json: number;
    readonly other: number;
    readonly lazy: number;
  };
  /** The same of decoding as shares of all that was decoded, from 0 to 1. */
  readonly shares: { readonly wasm: number; readonly js: number; readonly json: number };
  /**
   * How many times as quick as JSON the codec is here, where it was measured: by {@link calibrate},
   * or by the format `auto`, which measures what it writes now and then.
   */
  readonly performance: Performance;
  /** Writers and builders made for shapes, and how often all of them were dropped. */
  readonly shapes: {
    readonly writers: number;
    readonly builders: number;
    readonly evictions: number;
  };
  /** Whether payloads are tokenised by WebAssembly. */
  readonly tokeniser: boolean;
  /** Whether code is made for shapes. */
  readonly codeGeneration: boolean;
}

/**
 * What the codec did so far.
 *
 * @example
 * ```ts
 * import assert from 'node:assert/strict';
 * import { decode, encode, metrics } from 'swarmbus';
 *
 * const before = metrics().encoded.msgpack;
 * decode(encode({ type: 'task.done', payload: { ok: true } }));
 * assert.equal(metrics().encoded.msgpack, before + 1);
 * ```
 */
export function metrics(): CodecMetrics {
  const { decodedWasm: wasm, decodedJs: js, decodedJson: json, decodedOther: other } = counts;
  const all = Math.max(1, wasm + js + json + other);
  const { writers, evictions, compiles } = shapeCounts();
  return {
    encoded: {
      msgpack: counts.encodedMsgpack,
      json: counts.encodedJson,
      other: counts.encodedOther,
    },
    decoded: { wasm, js, json, other, lazy: counts.decodedLazy },
    shares: { wasm: wasm / all, js: js / all, json: json / all },
    performance: picker.performance(),
    shapes: { writers, builders: builderCount(), evictions },
    tokeniser: tokenises(),
    codeGeneration: compiles,
  };
}

/** What {@link configureCodec} changes. */
export interface CodecSettings {
  /** Tokenise payloads by WebAssembly, where there is one. Default: true. */
  readonly tokeniser?: boolean | undefined;
  /** Make code for shapes, where that is allowed. Default: true. */
  readonly codeGeneration?: boolean | undefined;
}

/**
 * Turns parts of the codec off, or on again: the results are the same, only slower.
 * Shapes that were learnt are forgotten.
 */
export function configureCodec({ tokeniser, codeGeneration }: CodecSettings): void {
  if (tokeniser !== undefined) tokenise(tokeniser);
  if (codeGeneration !== undefined) {
    compileShapes(codeGeneration);
    compileBuilders(codeGeneration);
  }
}
