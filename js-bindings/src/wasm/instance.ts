/**
 * The one instance of the WebAssembly module, made when this is imported.
 *
 * Where WebAssembly is missing or refused, the same module as JavaScript takes its
 * place. Node loads it by itself; elsewhere `import 'swarmbus/fallback'` before
 * `swarmbus` puts it there.
 */
// A script of its own, so that the package holds it once: `module.cjs`.
import '../../generated/module.js';

import * as glue from '../../generated/glue.js';
import { now } from './clock.js';
import { WasmUnavailableError } from './error.js';

/** What both forms of the module give. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
}

type Instantiate = (imports: object) => Exports;

/** Where the CommonJS of Node (`shared.cjs`) leaves a function that loads `fallback.cjs`. */
const LOAD = Symbol.for('swarmbus.load');
/** Where `module.cjs` leaves the module as text, and `fallback.cjs` its function. */
const MODULE = Symbol.for('swarmbus.module');
const FALLBACK = Symbol.for('swarmbus.fallback');

/** Of the module's text: the character of the byte 0, `#`; the byte 1 is `$`, and so on. */
const FIRST = 0x23;

let reason: string | undefined;

const exports = instantiate();
setWasm(exports);

/** Which form runs, and how much memory it has. */
export function how(): { engine: 'wasm' | 'js'; reason: string | undefined; memory: number } {
  const engine = reason === undefined ? 'wasm' : 'js';
  return { engine, reason, memory: exports.memory.buffer.byteLength };
}

/** The buffer of linear memory as it is now; memory that grows gets another. */
export function memory(): ArrayBuffer {
  return exports.memory.buffer;
}

function instantiate(): Exports {
  const imports = { './swarmbus_bg.js': glue, './clock.js': { now } };
  try {
    const module = new WebAssembly.Module(bytes());
    return new WebAssembly.Instance(module, imports).exports as unknown as Exports;
  } catch (error) {
    reason = error instanceof Error ? error.message : String(error);
    return fallback(error)(imports);
  }
}

function setWasm(exports: Exports): void {
  (glue as unknown as { __wbg_set_wasm(exports: Exports): void }).__wbg_set_wasm(exports);
}

function bytes(): Uint8Array<ArrayBuffer> {
  const text = (globalThis as Record<symbol, unknown>)[MODULE] as string;
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = text.charCodeAt(i) - FIRST;
  return bytes;
}

function fallback(cause: unknown): Instantiate {
  const load = (globalThis as Record<symbol, unknown>)[LOAD];
  if (typeof load === 'function') load();
  const found = (globalThis as Record<symbol, unknown>)[FALLBACK];
  if (typeof found === 'function') return found as Instantiate;
  throw new WasmUnavailableError(
    `WebAssembly is not available (${reason}); import 'swarmbus/fallback' before 'swarmbus'`,
    { cause },
  );
}
