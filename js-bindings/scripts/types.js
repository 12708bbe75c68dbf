/**
 * Takes out of the files of types what no user can reach: declarations that nothing exports, not
 * even by way of others, and the comments on whole files, which are for who changes them.
 */
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { posix } from 'node:path';

/**
 * A statement, and the names that it brings into its file: from another (`from`), where each
 * has a name (`source`), or made here. `all` is `export * from`.
 *
 * @typedef {{ text: string, exported: boolean, all: boolean, from: string | undefined,
 *   names: Map<string, string>, kept: Set<string> }} Statement
 */

const COMMENT = /\/\*[\s\S]*?\*\/|\/\/[^\n]*/g;
const WORD = /[A-Za-z_$][\w$]*/g;

/**
 * Keeps of the files in `folder` what `entries` export.
 *
 * @param {string} folder
 * @param {string[]} entries
 */
export function shake(folder, entries) {
  /** @type {Map<string, Statement[]>} */
  const files = new Map();
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.d.ts')) continue;
    const text = readFileSync(`${folder}/${path}`, 'utf8');
    files.set(
      path,
      statements(text).map((part) => statement(path, part)),
    );
  }

  /** @param {string} path @param {string} name */
  const keep = (path, name) => {
    for (const part of files.get(path) ?? []) {
      const source = part.names.get(name);
      if (part.all && part.from !== undefined) keep(part.from, name);
      if (source === undefined || part.kept.has(name)) continue;
      part.kept.add(name);
      if (part.from !== undefined) keep(part.from, source);
      else if (source !== name) keep(path, source);
      else for (const [word] of part.text.replaceAll(COMMENT, '').matchAll(WORD)) keep(path, word);
    }
  };
  /** @param {string} path */
  const keepAll = (path) => {
    for (const part of files.get(path) ?? []) {
      if (part.all && part.from !== undefined) keepAll(part.from);
      if (part.exported) for (const name of part.names.keys()) keep(path, name);
    }
  };
  for (const entry of entries) keepAll(entry);

  for (const [path, parts] of files) {
    if (entries.includes(path)) continue;
    const text = parts.map(print).join('');
    if (text === '') rmSync(`${folder}/${path}`);
    else writeFileSync(`${folder}/${path}`, text.replace(FILE_COMMENT, ''));
  }
}

/** Before a statement that is not what it is about, or before another comment. */
const FILE_COMMENT =
  /^\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n(?=import |export \*|export (?:type )?\{|\/\*\*)/;

/**
 * The text in pieces that each hold one statement, with the comments before it.
 *
 * @param {string} text
 */
function statements(text) {
  const parts = [];
  let [part, code] = ['', ''];
  for (const line of text.split(/(?<=\n)/)) {
    part += line;
    code = part
      .replaceAll(COMMENT, '')
      .replaceAll(/'[^']*'|"[^"]*"|`[^`]*`/g, "''")
      .trim();
    const open = (code.match(/[({[]/g) ?? []).length - (code.match(/[)}\]]/g) ?? []).length;
    const block = /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface)\b/.test(code);
    // In the midst of a comment anything may stand.
    if (code.includes('/*') || open !== 0 || !code.endsWith(block ? '}' : ';')) continue;
    parts.push(part);
    part = '';
  }
  if (part.replaceAll(COMMENT, '').trim() !== '') throw new Error(`no end of a type: ${part}`);
  return parts;
}

/**
 * @param {string} path
 * @param {string} text
 * @returns {Statement}
 */
function statement(path, text) {
  const code = text.replaceAll(COMMENT, '').trim();
  const source = /\bfrom\s*['"](\..*)\.js['"];$/.exec(code)?.[1];
  const from = source && `${posix.join(posix.dirname(path), source)}.d.ts`;
  const list = /^(?:import|export)\s+(?:type\s+)?\{([^}]*)\}/.exec(code)?.[1];
  const made =
    /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface|function|const|let|type) ([\w$]+)/;
  const own = made.exec(code)?.[1];
  /** @type {Map<string, string>} */
  const names = new Map(own === undefined ? [] : [[own, own]]);
  for (const item of list?.split(',') ?? []) {
    const [name = '', as = name] = item
      .trim()
      .replace(/^type\s+/, '')
      .split(/\s+as\s+/);
    if (name !== '') names.set(as, name);
  }
  const all = code.startsWith('export *');
  if (own === undefined && list === undefined && !all && !/^import\s*['"]/.test(code)) {
    throw new Error(`what is this type? ${code}`);
  }
  return { text, exported: code.startsWith('export'), all, from, names, kept: new Set() };
}

/** @param {Statement} statement */
function print({ text, all, from, names, kept }) {
  if (all) return text;
  if (kept.size === 0) return '';
  if (kept.size === names.size || !/\{[^}]*\}/.test(text)) return text;
  if (from === undefined) return text;
  const items =
    /\{([^}]*)\}/
      .exec(text)?.[1]
      ?.split(',')
      .map((item) => item.trim()) ?? [];
  const left = items.filter((item) => kept.has(item.replace(/^.*\bas\s+|^type\s+/, '')));
  return text.replace(/\{[^}]*\}/, `{ ${left.join(', ')} }`);
}
