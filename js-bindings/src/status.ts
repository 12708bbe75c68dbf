/**
 * Which form of the module runs, and why.
 */
import { how } from './wasm/instance.js';

export { WasmUnavailableError } from './wasm/error.js';

/** What {@link status} tells. */
export interface Status {
  /** `wasm`, or `js`: the same code as JavaScript, where WebAssembly cannot be had. */
  readonly engine: 'wasm' | 'js';
  /** Why not WebAssembly; only with `js`. */
  readonly reason?: string;
  /** How many times the JavaScript form was taken in this process: 0 or 1. */
  readonly fallbacks: number;
  /** Bytes of linear memory in use by the module. It grows, and never shrinks. */
  readonly memory: number;
}

/**
 * Which form of the module runs, and why.
 *
 * @example
 * ```ts
 * import { status } from 'swarmbus';
 *
 * const { engine, reason } = status();
 * if (engine === 'js') console.warn(`swarmbus runs without WebAssembly: ${reason}`);
 * ```
 */
export function status(): Status {
  const { engine, reason, memory } = how();
  const fallbacks = engine === 'js' ? 1 : 0;
  return { engine, ...(reason === undefined ? {} : { reason }), fallbacks, memory };
}
