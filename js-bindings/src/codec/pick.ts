/**
 * Which form a payload should travel in, MessagePack or JSON: by what was measured.
 * The wire always says which it is, so a reader needs to know nothing of this.
 */

import { compilesShapes } from './shape.js';

/** A form that a value of the program can travel in. */
export type Format = 'msgpack' | 'json';

/** What a payload mostly consists of. */
export type Shape =
  /** Objects of a few shapes. */
  | 'records'
  /** Arrays of numbers. */
  | 'numbers'
  /** Long strings. */
  | 'text'
  /** Objects whose keys are data. */
  | 'dictionary';

/** All of them. */
export const SHAPES: readonly Shape[] = ['records', 'numbers', 'text', 'dictionary'];

/** Payloads are told apart by size, each class 8 times as large as the one before. */
const CLASSES = 7;

/** Bytes to a class: up to 64, 512, 4 Ki, 32 Ki, 256 Ki, 2 Mi and above. */
function classOf(size: number): number {
  let bound = 64;
  let at = 0;
  while (size > bound && at < CLASSES - 1) {
    bound *= 8;
    at++;
  }
  return at;
}

/** Nanoseconds for a byte, as an average that forgets; NaN while nothing was measured. */
interface Cost {
  msgpack: number;
  json: number;
  /** Choices since both were measured. */
  age: number;
}

/** How many times as quick as JSON the codec was; undefined where nothing was measured. */
export interface Performance {
  /** Of writing: the geometric mean of `classes`. */
  readonly write: number | undefined;
  /** Of reading. */
  readonly read: number | undefined;
  /** Of writing payloads of a shape, of up to so many bytes. */
  readonly classes: readonly {
    readonly shape: Shape;
    readonly upTo: number;
    readonly ratio: number;
  }[];
}

/** How a {@link Picker} decides. */
export interface PickerSettings {
  /** This form always. Default: by what is measured. */
  readonly always?: Format | undefined;
  /**
   * How much quicker JSON must be to be taken, as a factor: MessagePack keeps more
   * values as they are, and is shorter. Default: 1.25.
   */
  readonly margin?: number | undefined;
}

/** Measure both forms again after so many choices of one kind. */
const REFRESH = 4096;

/**
 * Chooses between MessagePack and JSON by size and shape, and learns from what it is
 * told of the time that writing took.
 */
export class Picker {
  private readonly always: Format | undefined;
  private readonly margin: number;
  private readonly costs: Cost[];
  private read: number | undefined;

  constructor({ always, margin = 1.25 }: PickerSettings = {}) {
    if (!(margin > 0)) throw new RangeError(`margin is a positive number, not ${margin}`);
    this.always = always;
    this.margin = margin;
    this.costs = Array.from({ length: SHAPES.length * CLASSES }, () => ({
      msgpack: NaN,
      json: NaN,
      age: REFRESH,
    }));
  }

  /** The form for a payload of about `size` bytes. @throws RangeError for what is no size or shape. */
  pick(size: number, shape: Shape): Format {
    if (this.always !== undefined) return this.always;
    const { msgpack, json } = this.at(size, shape);
    if (Number.isNaN(msgpack) || Number.isNaN(json)) return byDefault(shape);
    return json * this.margin < msgpack ? 'json' : 'msgpack';
  }

  /** Whether it is time to write a payload of this kind in both forms, and say how long that took. */
  isDue(size: number, shape: Shape): boolean {
    if (this.always !== undefined) return false;
    const cost = this.at(size, shape);
    if (++cost.age < REFRESH) return false;
    cost.age = 0;
    return true;
  }

  /** Tells how long it took to write a payload in one form. */
  observe(format: Format, size: number, shape: Shape, nanoseconds: number): void {
    const cost = this.at(size, shape);
    const each = nanoseconds / Math.max(1, size);
    if (!(each >= 0)) return;
    cost[format] = Number.isNaN(cost[format]) ? each : 0.75 * cost[format] + 0.25 * each;
  }

  /** Tells how many times as quick as JSON payloads of some kinds were read. */
  observeRead(ratios: readonly number[]): void {
    this.read = mean(ratios);
  }

  /** What was measured, for operators. */
  performance(): Performance {
    const classes: Performance['classes'][number][] = [];
    for (const [index, { msgpack, json }] of this.costs.entries()) {
      const ratio = json / msgpack;
      if (!Number.isFinite(ratio)) continue;
      const shape = SHAPES[Math.floor(index / CLASSES)]!;
      classes.push({ shape, upTo: 64 * 8 ** (index % CLASSES), ratio });
    }
    return { write: mean(classes.map(({ ratio }) => ratio)), read: this.read, classes };
  }

  private at(size: number, shape: Shape): Cost {
    const cost = this.costs[SHAPES.indexOf(shape) * CLASSES + classOf(size)];
    if (cost !== undefined && size >= 0) return cost;
    const [is, must] = cost
      ? [size, 'a size is at least 0']
      : [shape, `a shape is ${SHAPES.join(', ')}`];
    throw new RangeError(`${must}, not ${String(is)}`);
  }
}

/** Of ratios: the geometric one. */
function mean(ratios: readonly number[]): number | undefined {
  if (ratios.length === 0) return undefined;
  return Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
}

/** Before anything was measured here: as the tables of ADR 0027 have it. */
function byDefault(shape: Shape): Format {
  if (shape === 'numbers' || shape === 'records') return 'msgpack';
  return compilesShapes() ? 'msgpack' : 'json';
}

/** What `pick` and the format `auto` ask. */
export let picker = new Picker();

/** Replaces the settings of {@link pick} and of the format `auto`; what was measured is forgotten. */
export function configurePick(settings: PickerSettings): void {
  picker = new Picker(settings);
}

/**
 * The form that the format `auto` takes for a payload of about `size` bytes. {@link shapeOf} tells
 * the shape of a value.
 *
 * @throws RangeError for what is no size or shape.
 */
export function pick(size: number, shape: Shape): Format {
  return picker.pick(size, shape);
}

/** Values that are looked at to tell a shape. */
const LOOK = 8;

/** What a value mostly consists of, by a glance at its first parts. */
export function shapeOf(value: unknown): Shape {
  if (typeof value === 'string') return 'text';
  if (typeof value !== 'object' || value === null) return 'records';
  if (Array.isArray(value)) {
    return value.length > 0 && typeof value[0] === 'number' ? 'numbers' : shapeOf(value[0]);
  }
  let [keys, long, numbers] = [0, 0, 0];
  for (const key in value) {
    if (++keys > 64) return 'dictionary';
    if (keys > LOOK) continue;
    const part = (value as Record<string, unknown>)[key];
    if (typeof part === 'string' && part.length > 256) long++;
    else if (Array.isArray(part) && part.length > 16 && typeof part[0] === 'number') numbers++;
  }
  return numbers > 0 ? 'numbers' : long > 0 ? 'text' : 'records';
}

const LONE_SURROGATE = /\p{Cs}/u;

/** Values that {@link jsonKeeps} looks at: parts that are shared may count without end. */
const MOST = 1_000_000;
let looked = 0;

/** Whether JSON keeps a value as MessagePack does: `auto` never changes what arrives. */
export function jsonKeeps(value: unknown): boolean {
  looked = 0;
  return keeps(value, 0);
}

function keeps(value: unknown, depth: number): boolean {
  if (++looked > MOST) return false;
  switch (typeof value) {
    case 'string':
      return !LONE_SURROGATE.test(value);
    case 'boolean':
      return true;
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0);
    case 'object':
      break;
    default:
      return false;
  }
  if (value === null) return true;
  if (depth > 64) return false;
  if (Array.isArray(value)) return value.every((part) => keeps(part, depth + 1));
  const proto: unknown = Object.getPrototypeOf(value);
  if (proto !== Object.prototype && proto !== null) return false;
  return Object.values(value).every((part) => part === undefined || keeps(part, depth + 1));
}
