/**
 * Makes one file of types for each entry, without what no user can reach: declarations that nothing
 * exports, not even by way of others, and the comments on whole files, which are for who changes them.
 */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
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
 * Keeps of the files in `folder` what `entries` export, in these. The first one has what is in no
 * folder of another.
 *
 * @param {string} folder
 * @param {string[]} entries
 */
export function roll(folder, entries) {
  /** @type {Map<string, Statement[]>} */
  const files = new Map();
  /** @type {Map<string, string>} */
  const texts = new Map();
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.d.ts')) continue;
    const text = readFileSync(`${folder}/${path}`, 'utf8');
    texts.set(path, text);
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

  /** @param {string} path @returns {string[]} what a file exports, by the names it was made with */
  const exported = (path) =>
    (files.get(path) ?? []).flatMap((part) => {
      if (!part.exported) return [];
      return part.all ? exported(String(part.from)) : [...part.names.values()];
    });

  const [main = ''] = entries;
  /** @type {Map<string, string>} */
  const written = new Map();
  for (const entry of entries) {
    const home = posix.dirname(entry);
    const isMine = (/** @type {string} */ path) =>
      entry === main
        ? !entries.some((other) => other !== main && isIn(posix.dirname(other), path))
        : path === entry || isIn(home, path);
    const names = new Set(exported(entry));
    const own = [...files].filter(([path]) => isMine(path));
    const { text, made, borrowed } = gather(own, names, (part) => {
      if (part.from !== main) throw new Error(`${entry} takes types of ${part.from}`);
    });
    const up = `${posix.relative(home, main.replace(/\.d\.ts$/, ''))}.js`;
    const list = [...borrowed].filter((name) => !made.has(name));
    const again = list.filter((name) => names.has(name));
    const head = /^(?:\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n|\/\/\/[^\n]*\n)*/.exec(
      texts.get(entry) ?? '',
    )?.[0];
    written.set(
      entry,
      `${head}${list.length > 0 ? `import { ${list.join(', ')} } from '${up}';\n` : ''}` +
        `export {${again.join(', ')}};\n${text}`,
    );
  }
  rmSync(folder, { recursive: true });
  for (const [entry, text] of written) {
    mkdirSync(posix.dirname(`${folder}/${entry}`), { recursive: true });
    writeFileSync(`${folder}/${entry}`, text);
  }
}

/**
 * What is kept of some files as one text, the names that are made there, and those taken from others.
 *
 * @param {[string, Statement[]][]} files
 * @param {Set<string>} exported
 * @param {(part: Statement) => void} check of what is taken from another
 */
function gather(files, exported, check) {
  /** @type {Set<string>} */
  const made = new Set();
  /** @type {Set<string>} */
  const borrowed = new Set();
  const texts = files.map(([, parts]) => {
    const kept = parts.filter((part) => part.kept.size > 0 && !part.all);
    const declared = kept.filter((part) => part.from === undefined);
    for (const part of kept) {
      if (part.from === undefined) {
        for (const name of part.kept) {
          if (made.has(name)) throw new Error(`two types have the name ${name}`);
          made.add(name);
        }
      } else if (!files.some(([path]) => path === part.from)) {
        check(part);
        for (const name of part.kept) borrowed.add(name);
      }
    }
    const text = declared.map((part) => print(part, exported)).join('');
    return text.replace(FILE_COMMENT, '');
  });
  return { text: texts.join(''), made, borrowed };
}

/** @param {string} folder @param {string} path */
function isIn(folder, path) {
  return folder !== '.' && path.startsWith(`${folder}/`);
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

/** @param {Statement} statement @param {Set<string>} exported */
function print({ text, exported: is, names }, exported) {
  if (!is || [...names.keys()].some((name) => exported.has(name))) return text;
  return text.replace(/^export /m, '');
}
