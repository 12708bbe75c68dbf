//! swarmbus lets many agents in one process publish, route, process and
//! recover events together, and keeps working when handlers fail.
//!
//! ```
//! use swarmbus::{Bus, Event, Payload};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::builder().build()?;
//! let _worker = bus.subscribe("task.*").handle(|event: &Event| {
//!     println!("{} from {}: {:?}", event.ty(), event.source(), event.text());
//! })?;
//!
//! bus.publish(Event::of("task.created", "resize image 17").with_source("agent-1")).await?;
//!
//! let left = bus.shutdown(std::time::Duration::from_secs(1)).await;
//! assert!(left.is_clean());
//! assert!(bus.ledger().balances());
//! # Ok(())
//! # }
//! ```
//!
//! # Overview
//!
//! - [`Bus::publish`] queues an event and waits under backpressure;
//!   [`Bus::try_publish`] and [`Bus::publish_batch`] are its kin;
//!   [`Bus::dispatch`] runs the handlers in the caller.
//! - [`Bus::subscribe`] takes sync and async handlers, with raw or decoded
//!   payloads, priorities, [`Filter`]s and a circuit breaker for each, or gives
//!   them several events at a time ([`Subscribe::handle_batch`]).
//! - Retries, time limits, bulkheads, rate limits and fallbacks stand around a
//!   handler that asks for them ([`Subscribe::retry`] and its kin), or around
//!   any operation: [`Guard`].
//! - [`Bus::dead_letters`] keeps what handlers failed on, to be tried again.
//! - [`Bus::execute`] has a command answered by its one handler.
//! - [`Bus::approvals`] has commands wait for somebody's yes.
//! - [`Bus::schedule`] publishes an event later, or again and again.
//! - [`Bus::session`] scopes handlers to a conversation.
//! - [`Bus::use_rules`] and [`Bus::watch_rules`] route copies of events by the
//!   [`rules`] of a JSON file.
//! - [`Bus::stalls`] names calls that take too long;
//!   [`Bus::on_command_in_turn`] has commands answered one at a time, without
//!   deadlocks.
//! - [`Bus::ledger`] accounts for every event; [`Bus::drain`] and
//!   [`Bus::shutdown`] say what was not done.
//! - [`health`] asks the program's checks how it is; [`lifecycle`] makes one
//!   state of that and keeps it over a restart.
//! - [`evidence`] has buses judge their services together.
//! - [`state`] keeps what agents remember outside of themselves; [`lease`] lets
//!   one of many do something, with a token that proves when.
//! - [`messenger`] lets agents of several processes talk, [`Bus::bridge`] joins
//!   their buses, both over any [`transport`].
//!
//!
//! # What it does not do
//!
//! It does not keep events over a restart: its [`Journal`] does, such as the
//! event log of the package `swarmbus-store`. It does not cross a process
//! boundary by itself.

pub mod approval;
pub mod bridge;
mod builder;
mod bus;
mod clock;
mod command;
mod dispatcher;
mod error;
pub mod evidence;
mod guard;
mod handler;
pub mod health;
mod inner;
mod journal;
pub mod lease;
mod ledger;
pub mod lifecycle;
pub mod messenger;
mod metrics;
mod middleware;
mod pipeline;
mod pressure;
mod publish;
mod queue;
mod routes;
pub mod rules;
mod runner;
pub mod schedule;
mod session;
mod shutdown;
mod stall;
pub mod state;
mod subscriber;
mod subscription;
pub mod transport;
mod worker;

pub use builder::BusBuilder;
pub use bus::{Bus, MAX_NESTING, WeakBus};
pub use dispatcher::Dispatcher;
pub use error::{
    BatchError, BuildError, CommandError, DispatchError, PublishCause, PublishError, SubscribeError,
};
pub use guard::{CallError, Guard, GuardBuilder, GuardStats};
pub use handler::{HandlerError, IntoHandlerResult};
pub use journal::{Journal, JournalError, LetterEnd, Settlement};
pub use ledger::{HandlerLedger, Ledger, Outcome, Outcomes};
pub use metrics::{MAX_BREAKER_GAUGES, METRICS, Metric, MetricKind, SAMPLE_EVERY};
pub use middleware::{CommandMiddleware, EventMiddleware, Next};
pub use pipeline::{
    batch::Batching,
    breaker::{BreakerOrder, BreakerReport, BreakerScope, MAX_TYPES},
    bulkhead::{Bulkhead, BulkheadReport},
    dead_letter::{
        DeadLetter, DeadReason,
        filter::LetterFilter,
        retry::{DeadLetters, RetryError, RetryReport},
    },
    fallback::Degraded,
    filter::Filter,
    policy::{Policy, PolicyError},
    rate_limit::{RateLimit, Sampling},
    service::MAX_SERVICES,
    timeout::cancelled,
};
pub use runner::Delivery;
pub use session::Session;
pub use shutdown::Shutdown;
pub use stall::{MAX_STALLS, Stall, StallReport};
pub use subscription::{Subscribe, Subscription};
pub use swarmbus_core::{
    self as core, Content, Event, EventId, EventType, Payload, Priority, Str, Target, Timestamp,
    breaker, overflow::Overflow,
};
