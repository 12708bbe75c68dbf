//! What a guard falls back on, in order.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{cache::Cache, error::CallError};
use crate::handler::{contain, contained};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

type Operation<T, E> = dyn Fn(&CallError<E>) -> BoxFuture<Result<T, E>> + Send + Sync;

/// One link of the chain.
pub(super) enum Link<T, E> {
    /// Another operation.
    Operation(Arc<str>, Box<Operation<T, E>>),
    /// The last result for the same key.
    Cached(Arc<str>, Cache<T>),
    /// Always the same.
    Value(Arc<str>, Box<dyn Fn() -> T + Send + Sync>),
}

impl<T, E> Link<T, E> {
    pub(super) fn name(&self) -> &Arc<str> {
        match self {
            Self::Operation(name, _) | Self::Cached(name, _) | Self::Value(name, _) => name,
        }
    }

    /// A result in place of `error`, if this link has one. A panic is none.
    pub(super) async fn serve(&self, key: &str, error: &CallError<E>) -> Option<T> {
        match self {
            Self::Operation(_, operation) => {
                let future = contain(|| operation(error)).ok()?;
                contained(future).await.ok()?.ok()
            }
            Self::Cached(_, cache) => contain(|| cache.get(key)).ok().flatten(),
            Self::Value(_, value) => contain(value).ok(),
        }
    }

    /// Keeps a result of the operation, if this link does.
    pub(super) fn keep(&self, key: &str, value: &T) {
        if let Self::Cached(name, cache) = self
            && contain(|| cache.put(key, value)).is_err()
        {
            tracing::error!(name = &**name, "a result panicked when it was kept");
        }
    }
}
