/**
 * The examples of the documentation, as tests: each `ts` block of a comment in `src`
 * and of the READMEs becomes a file in `build/examples`, which is type-checked and run.
 * A block that begins with ` ```ts no_run` is type-checked only.
 */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';

const FOLDER = 'build/examples';

/**
 * Writes the examples; gives the names of the files to run.
 *
 * @returns {string[]}
 */
export function writeExamples() {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `src/${name}`);
  /** @type {string[]} */
  const run = [];
  for (const source of [...sources, 'README.md', '../README.md'].sort()) {
    for (const { code, line, runs } of examples(readFileSync(source, 'utf8'))) {
      const name = `${source.replace(/^src\/|\.\w+$/g, '').replaceAll('/', '-')}-${line}`;
      const file = `${FOLDER}/${name}.ts`;
      writeFileSync(file, `// ${source}:${line}\n${code}\nexport {};\n`);
      if (runs) run.push(file);
    }
  }
  return run;
}

/** @param {string} text */
function* examples(text) {
  const lines = text.split('\n');
  for (let at = 0; at < lines.length; at += 1) {
    const open = /^(\s*\*?\s*)```ts( no_run)?$/.exec(lines[at] ?? '');
    if (open === null) continue;
    const line = at + 1;
    const code = [];
    for (at += 1; at < lines.length && !/^\s*\*?\s*```$/.test(lines[at] ?? ''); at += 1) {
      code.push((lines[at] ?? '').replace(/^\s*\* ?/, ''));
    }
    yield { code: code.join('\n'), line, runs: open[2] === undefined };
  }
}
