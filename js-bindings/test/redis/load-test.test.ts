/** `swarmbus load-test --node-agents`: agents of Node.js among those of Rust, counted together. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { before, test } from 'node:test';
import { promisify } from 'node:util';

import { programPath } from '../support/programs.js';

let program: string;
before(() => {
  program = programPath('swarmbus');
});

for (const mode of ['live', 'durable', 'group']) {
  test(`no event is lost, ${mode}`, async () => {
    const load = ['load-test', '--transport', 'redis', '--mode', mode, '--seconds', '1', '--json'];
    const agents = ['--agents', '20', '--window', '4', '--processes', '2', '--node-agents', '2'];
    const { stdout } = await promisify(execFile)(program, [
      ...load,
      ...agents,
      '--node-dir',
      process.cwd(),
    ]);
    const report = JSON.parse(stdout) as Record<string, number> & {
      imbalances: string[];
      tasks: { accepted: number };
    };
    assert.deepEqual(report.imbalances, []);
    assert.equal(report['node_agents'], 2);
    assert.ok((report['published'] ?? 0) > 100 && report.tasks.accepted > 0, stdout);
    assert.equal(report['published'], report['delivered']);
    for (const wrong of ['lost', 'duplicated', 'corrupted', 'unsent', 'given_up']) {
      assert.equal(report[wrong], 0, `${wrong}: ${stdout}`);
    }
  });
}
