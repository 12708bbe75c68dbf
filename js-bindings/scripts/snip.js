/**
 * `node scripts/snip.js FROM TO [CLASS]`: empties the functions of a module that only report a
 * panic, and the exports of a class.
 *
 * There is nobody to report to: a panic ends in a trap with or without them. What only they call,
 * such as the code that writes numbers as text, goes with them. Run by `cargo xtask wasm`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { argv, exit } from 'node:process';

import binaryen from 'binaryen';

/** Of functions that never return, in their mangled names. */
const PANICS = [
  /core9panicking/,
  /core(?:3str|5slice).*_fail(?:_rt)?$/,
  /core(?:6option|6result)13(?:expect|unwrap)_failed$/,
  /alloc7raw_vec12handle_error$/,
  /alloc5alloc18handle_alloc_error$/,
  /3std9panicking(?:11begin_panic|15panic_with_hook)$/,
  /3std5alloc8rust_oom$/,
  /_rust_alloc_error_handler$|17rust_begin_unwind$/,
];

const [from, to, unused] = argv.slice(2);
const module = binaryen.readBinary(readFileSync(String(from)));
let count = 0;
/** @type {(ref: number) => void} */
const empty = (ref) => {
  binaryen.Function.setBody(ref, module.unreachable());
  count += 1;
};
for (let index = 0; index < module.getNumFunctions(); index += 1) {
  const ref = module.getFunctionByIndex(index);
  const { name, module: imported, results } = binaryen.getFunctionInfo(ref);
  if (imported !== '' || results !== binaryen.none) continue;
  if (!PANICS.some((panics) => panics.test(name))) continue;
  empty(ref);
}
// Without names, nothing would be found.
if (count === 0) {
  console.error('error: no function of the module is known to report panics');
  exit(1);
}
if (unused !== undefined) {
  const before = count;
  for (let index = 0; index < module.getNumExports(); index += 1) {
    const { name, value, kind } = binaryen.getExportInfo(module.getExportByIndex(index));
    const named = name.startsWith(`${unused}_`) || name.startsWith(`__wbg_${unused}_free`);
    if (kind === binaryen.ExternalFunction && named) empty(module.getFunction(value));
  }
  if (count === before) {
    console.error(`error: the module has no class ${unused}`);
    exit(1);
  }
}
writeFileSync(String(to), module.emitBinary());
