//! Services: what several handlers call, with the layers that they share.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use swarmbus_core::{Str, backoff::RetryBudget};

use super::{
    bulkhead::BulkheadLayer,
    living::Living,
    policy::{Policy, PolicyError},
    rate_limit::{Limiter, Sampler},
};

/// How many services a bus may have.
pub const MAX_SERVICES: usize = 1_000;

/// One declared service. Its breaker is with the bus's breakers.
pub(crate) struct Service {
    pub(crate) policy: Policy,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) sampler: Option<Arc<Sampler>>,
    pub(crate) bulkhead: Option<Arc<BulkheadLayer>>,
    pub(crate) budget: Arc<RetryBudget>,
}

/// The services of one bus. What was declared stays as it is, so that nobody
/// needs a lock.
#[derive(Default)]
pub(crate) struct Services(HashMap<Str, Service, RandomState>);

impl Services {
    /// Adds a service whose name is new and whose settings make sense.
    pub(crate) fn declare(
        &mut self,
        name: &str,
        policy: Policy,
        bulkheads: &Living<BulkheadLayer>,
    ) -> Result<(), PolicyError> {
        policy.check()?;
        if self.0.len() >= MAX_SERVICES {
            return Err(PolicyError::TooManyServices { limit: MAX_SERVICES });
        }
        let shared: Arc<str> = name.into();
        let service = Service {
            limiter: policy.rate_limit.map(Limiter::new).transpose()?.map(Arc::new),
            sampler: policy.sampling.map(Sampler::new).transpose()?.map(Arc::new),
            bulkhead: policy
                .bulkhead
                .map(|settings| bulkheads.add(BulkheadLayer::new(&shared, settings))),
            budget: policy.new_budget(),
            policy,
        };
        match self.0.insert(name.into(), service) {
            None => Ok(()),
            Some(_) => Err(PolicyError::TwiceDeclared { name: name.to_owned() }),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Service> {
        self.0.get(name)
    }

    /// The service that a handler names.
    pub(crate) fn find(&self, name: &str) -> Result<&Service, PolicyError> {
        self.get(name).ok_or_else(|| PolicyError::UnknownService { name: name.to_owned() })
    }
}
