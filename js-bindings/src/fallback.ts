/**
 * The module as JavaScript: makes swarmbus run where WebAssembly is not.
 *
 * Node needs no import of this. In browsers import it before `swarmbus`.
 */
import { instantiate } from '../generated/fallback.js';

(globalThis as Record<symbol, unknown>)[Symbol.for('swarmbus.fallback')] ??= instantiate;
