/**
 * Builders: what makes an object of one shape from the tape. One that is used
 * often is compiled, with the keys as constants and the kinds of values that it
 * saw tried first.
 */

import type { Engine } from './engine.js';
import { put } from './read.js';
import { CODE_GENERATION, literal } from './generate.js';
import { tag, value } from './tape.js';

/** Makes the object whose values come next on the tape, of which this is the first piece of text. */
export type Builder = (engine: Engine, text: string) => Record<string, unknown>;

/** Compiled builders that are kept beside the shapes' numbers. */
const KEPT = 512;
const kept = new Map<string, Builder>();
let compiles = CODE_GENERATION;
/** Objects of a shape before its builder is compiled; grows when shapes are forgotten. */
let threshold = 4;

/** Turns compiling off or back on, for tests and for measuring. Returns whether it is on. */
export function compileBuilders(on: boolean): boolean {
  compiles = on && CODE_GENERATION;
  kept.clear();
  forgotten = true;
  return compiles;
}

/** For `metrics()`. */
export function builderCount(): number {
  return kept.size;
}

/** Whether builders of before must not be used any more. */
let forgotten = false;

/** Forgets the builders of shapes that the tape at hand does not speak of any more. */
export function checkBuilders(engine: Engine): void {
  const generation = engine.I[0]!;
  if (generation === engine.generation && !forgotten) return;
  if (engine.generation !== -1 && !forgotten) threshold = Math.min(2 * threshold, 1 << 20);
  forgotten = false;
  engine.generation = generation;
  engine.builders = [];
}

/** The object of a shape that has no builder yet. */
export function firstOf(engine: Engine, text: string, shape: number): Record<string, unknown> {
  const keys = engine.keysOf(shape);
  const builder = kept.get(keys.join('\0')) ?? interpreter(engine, shape, keys);
  // Bounded by the shapes that the tokeniser keeps.
  engine.builders[shape] = builder;
  return builder(engine, text);
}

function interpreter(engine: Engine, shape: number, keys: readonly string[]): Builder {
  const kinds: number[] = [];
  let uses = 0;
  const builder: Builder = (_, text) => {
    const object: Record<string, unknown> = {};
    keys.forEach((key, at) => {
      kinds[at] = engine.I[engine.p + 1]!;
      put(object, key, value(engine, text));
    });
    if (++uses >= threshold && compiles && engine.builders[shape] === builder && keys.length > 0) {
      const compiled = compile(keys, kinds);
      if (kept.size >= KEPT) kept.clear();
      kept.set(keys.join('\0'), compiled);
      engine.builders[shape] = compiled;
    }
    return object;
  };
  return builder;
}

const OTHER = 'else{c.p=p-2;c.s=s;v=value(c,S);p=c.p;s=c.s;if(c.piece!==0)S=c.S;}';

/** Code that leaves the next value in `v`, trying this kind first. */
function reads(kind: number): string {
  switch (kind) {
    case tag.STR:
      return `if(h===${tag.STR}){v=S.substring(s,l);s=l;}${OTHER}`;
    case tag.BOOL:
      return `if(h===${tag.BOOL})v=l===1;${OTHER}`;
    case tag.NIL:
      return `if(h===${tag.NIL})v=null;else if(h===${tag.STR}){v=S.substring(s,l);s=l;}${OTHER}`;
    default:
      if (kind > tag.INT && kind <= tag.LIST) return OTHER.slice(4);
      return `if(h===${tag.INT})v=l;else if(h>${tag.LIST}||h<${tag.INT})v=F[(p>>1)-1];${OTHER}`;
  }
}

function compile(keys: readonly string[], kinds: readonly number[]): Builder {
  let code = `'use strict';return function build(c,S){const I=c.I,F=c.F;if(c.piece!==0)S=c.S;let s=c.s,p=c.p,h,l,v;`;
  // Keys are only ever written as JSON strings: no text of a stranger's becomes code.
  const fields = keys.map((key, at) => {
    code += `l=I[p];h=I[p+1];p+=2;${reads(kinds[at]!)}const v${at}=v;`;
    // In brackets `__proto__` is a property as any other.
    return `${key === '__proto__' ? '["__proto__"]' : literal(key)}:v${at}`;
  });
  code += `c.p=p;c.s=s;return{${fields.join(',')}};};`;
  return (new Function('value', code) as (v: typeof value) => Builder)(value);
}
