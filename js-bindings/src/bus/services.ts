/** Services: what several handlers call, with the layers that they share. */

import { BreakerLayer } from './breaker.js';
import { type BulkheadLayer } from './bulkhead.js';
import { BudgetPort } from './core.js';
import { SettingError, SubscribeError } from './errors.js';
import type { Inner } from './inner.js';
import { Limiter, SamplingLayer } from './rate-limit.js';
import { MAX_SERVICES, type Policy } from './subscription.js';

/** The breaker of a service: no handler of it ends it. */
class SharedBreaker extends BreakerLayer {
  override free(): void {}

  retire(): void {
    super.free();
  }
}

/** One declared service. */
export class Service {
  readonly breaker: SharedBreaker;
  readonly bulkhead: BulkheadLayer | undefined;
  readonly budget: BudgetPort;
  readonly limiter: Limiter | undefined;
  readonly sampling: SamplingLayer | undefined;

  constructor(
    inner: Inner,
    name: string,
    readonly policy: Policy,
  ) {
    const { concurrency, rateLimit, sample, breakerConfig } = policy;
    const { percent = 20, perSecond = 10 } = policy.retryBudget ?? {};
    this.breaker = new SharedBreaker(
      'handler',
      () => inner.newBreaker(name, undefined, breakerConfig),
      (breaker) => inner.endBreaker(breaker),
    );
    this.budget = new BudgetPort(percent, perSecond);
    this.bulkhead =
      concurrency === undefined
        ? undefined
        : inner.newBulkhead(
            name,
            typeof concurrency === 'number' ? { concurrent: concurrency } : concurrency,
          );
    this.limiter = rateLimit && new Limiter(rateLimit);
    this.sampling = sample && new SamplingLayer(sample);
  }

  free(): void {
    this.breaker.retire();
    this.bulkhead?.free();
    this.budget.free();
  }
}

/** Makes what was declared. `check` throws when a policy makes no sense. */
export function declare(
  inner: Inner,
  policies: Readonly<Record<string, Policy>>,
  check: (policy: Policy) => void,
): ReadonlyMap<string, Service> {
  const names = Object.keys(policies);
  if (names.length > MAX_SERVICES) throw new SettingError('services', `at most ${MAX_SERVICES}`);
  for (const name of names) {
    try {
      check(policies[name] as Policy);
    } catch (error) {
      if (!(error instanceof SubscribeError)) throw error;
      throw new SettingError(`services.${name}`, `a policy: ${error.message}`);
    }
  }
  return new Map(names.map((name) => [name, new Service(inner, name, policies[name] as Policy)]));
}
