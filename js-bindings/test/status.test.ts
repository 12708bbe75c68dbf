/** The module is there at once, in the form that the run asked for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { status } from 'swarmbus';

const wanted = process.env['SWARMBUS_TEST_ENGINE'] ?? 'wasm';

test('status says which form runs and why', () => {
  const { engine, reason, fallbacks, memory } = status();
  assert.equal(engine, wanted);
  assert.equal(fallbacks, wanted === 'js' ? 1 : 0);
  assert.equal(typeof reason, wanted === 'js' ? 'string' : 'undefined');
  assert.ok(memory > 0);
});
