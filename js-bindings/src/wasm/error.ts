/**
 * What can go wrong before anything works.
 */

/** Neither WebAssembly nor the package's JavaScript form of the module can be had. */
export class WasmUnavailableError extends Error {
  override readonly name = 'WasmUnavailableError';
  /** For programs: does not change. */
  readonly code = 'wasm_unavailable';
}
