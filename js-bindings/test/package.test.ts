/** The built package as a whole. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as swarmbus from 'swarmbus';
import * as redis from 'swarmbus/redis';

test('classes have the names they are exported by, and errors show theirs', () => {
  let errors = 0;
  for (const [name, value] of Object.entries<unknown>({ ...swarmbus, ...redis })) {
    if (typeof value !== 'function' || !String(value).startsWith('class')) continue;
    assert.equal(value.name, name);
    const prototype: unknown = value.prototype;
    if (!(prototype instanceof Error)) continue;
    assert.equal(prototype.name, name);
    errors++;
  }
  assert.ok(errors > 20);

  const error = new swarmbus.EncodeError('type', 'no type');
  assert.equal(error.name, 'EncodeError');
  assert.match(String(error.stack), /^EncodeError: no type\n/);
});
