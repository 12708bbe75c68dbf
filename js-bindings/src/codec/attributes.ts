/**
 * The names of extension attributes.
 */

/** Names that CloudEvents or swarmbus give a meaning to, and that no attribute may have. */
const RESERVED = new Set([
  'causationid',
  'correlationid',
  'data',
  'datacontenttype',
  'deadline',
  'hops',
  'id',
  'nonce',
  'priority',
  'session',
  'source',
  'specversion',
  'target',
  'time',
  'traceparent',
  'type',
]);

const NAME = /^[a-z0-9]{1,20}$/;

/** Why no attribute of a frame has this name. `budget`, `replayed`, `subject` and `dataschema` may travel. */
export function attributeFault(name: string): string | undefined {
  if (!NAME.test(name)) return 'an attribute name is 1 to 20 lower-case letters and digits';
  return RESERVED.has(name)
    ? `the attribute name ${name} is taken by a field of the event`
    : undefined;
}
