//! [`Settings`]: what a recording is played through.

use swarmbus_core::{backoff::Backoff, breaker::Config};

/// The breaker and retry settings of all handlers of a simulation.
///
/// | setting | default |
/// | --- | --- |
/// | [`breaker`](Self::breaker) | [`Config::default`]: 5 failures, 30 s |
/// | [`scope`](Self::scope) | [`Scope::PerType`] |
/// | [`retry`](Self::retry) | none |
///
/// The defaults are those of a bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The breakers' settings; `None` for no breakers.
    pub breaker: Option<Config>,
    /// What shares a breaker.
    pub scope: Scope,
    /// When a failed call is made again; `None` for never.
    pub retry: Option<Backoff>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { breaker: Some(Config::default()), scope: Scope::PerType, retry: None }
    }
}

/// What shares a breaker, as in [`BreakerScope`](swarmbus::BreakerScope).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Each event type of a handler has its own.
    #[default]
    PerType,
    /// All events of a handler share one.
    PerHandler,
}
