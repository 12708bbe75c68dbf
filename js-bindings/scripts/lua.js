/**
 * Writes `generated/lua.js` from the scripts of the Rust crate: both send the same text to the
 * server. Run by the build.
 */
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';

const from = new URL('../../crates/redis/src/lua/', import.meta.url);
const to = new URL('../generated/', import.meta.url);

/** Of durable and group channels. */
const files = readdirSync(from).filter((name) => /^(log|task)_.*\.lua$/.test(name));
const read = (file) => readFileSync(new URL(file, from), 'utf8');
const shared = read('shared.lua');
const scripts = files.sort().map((file) => {
  const text = read(file).startsWith('#!lua') ? read(file) : shared + read(file);
  return `  ${file.replace('.lua', '')}: ${JSON.stringify(text)},\n`;
});
const types = files.map((file) => `  readonly ${file.replace('.lua', '')}: string;\n`);
mkdirSync(to, { recursive: true });
writeFileSync(new URL('lua.js', to), `export const lua = {\n${scripts.join('')}};\n`);
writeFileSync(new URL('lua.d.ts', to), `export declare const lua: {\n${types.join('')}};\n`);
