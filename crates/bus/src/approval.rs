//! Commands that run when somebody has said yes.
//!
//! ```
//! use std::time::Duration;
//! use swarmbus::{Bus, Event, approval::ApprovalNotice};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::builder().build()?;
//! let hour = Duration::from_secs(3_600);
//! let _deploy = bus.approvals().on_command("deploy", hour, |_: Event| async {
//!     Ok::<_, std::io::Error>("deployed")
//! })?;
//!
//! // Somebody answers, here at once and by rule.
//! let approver = bus.downgrade();
//! let _rule = bus.subscribe("approval.requested").handle_typed(move |asked: ApprovalNotice| {
//!     match approver.upgrade() {
//!         Some(bus) => bus.approvals().approve(&asked.id, "anna", "the tests are green"),
//!         None => Ok(()),
//!     }
//! })?;
//!
//! // Who executes the command waits for the answer, and then for the reply.
//! let reply = bus.execute(Event::of("deploy", "v7").with_source("agent-1")).await?;
//! assert_eq!(reply, "deployed".into());
//! # Ok(())
//! # }
//! ```
//!
//! # From request to answer
//!
//! [`Bus::execute`](crate::Bus::execute) of a command that was registered with
//! [`on_command`](Approvals::on_command) asks and waits.
//! [`request`](Approvals::request) does the same in two steps, for any command,
//! and tells the id. The first answer before the deadline decides; any other
//! is refused with what was decided. The command's own deadline is one too.
//! Deadlines are times of the wall clock; one that is set back gives no more
//! time, one that is set forward takes some.
//!
//! Approved, the command runs in the task that waits: once, and not at all if
//! that task is gone by then. Who stops waiting before the answer withdraws the
//! request. The handler's breaker is asked, and command middleware runs, after
//! the answer.
//!
//! A handler that executes such a command holds up its worker until the
//! answer, so it should not be one whose source shares a worker with who
//! answers. The deadline ends that too.
//!
//! # Who is told
//!
//! Every change is told to [`ApprovalConfig::on_change`] and published as an
//! event, in order: `approval.requested`, `.granted`, `.denied`, `.expired` and
//! `.withdrawn`, from the source `approvals`, with an [`ApprovalNotice`] in it
//! and the command's id as causation. A change is told after it is made. While
//! a full bus does not take these events they wait; when as many wait as may be
//! pending, requests are refused. A closing bus tells of nothing more.
//!
//! Approvals live in memory: after a restart nobody waits for the answer any
//! more. An id is no secret, and a name is what the caller vouches for: who may
//! answer is for the program to decide.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
pub use swarmbus_core::approval::{Approval, Refused, State};
use swarmbus_core::{Event, Payload, Timestamp};
use tokio::sync::oneshot;

use crate::{
    clock::WallClock,
    command::{CommandFn, Manner},
    error::{CommandError, SubscribeError},
    inner::Inner,
    subscription::Subscription,
};

mod book;
mod teller;

pub(crate) use book::Book;
pub(crate) use teller::drive;

type Callback = Box<dyn Fn(&ApprovalNotice) + Send + Sync>;

/// Settings of a bus's approvals, for
/// [`BusBuilder::approvals`](crate::BusBuilder::approvals).
#[must_use = "it does nothing until it is given to a builder"]
pub struct ApprovalConfig {
    capacity: usize,
    limit: Duration,
    wall: WallClock,
    on_change: Option<Callback>,
}

impl Default for ApprovalConfig {
    /// 1,000 pending, one hour, the operating system's clock, no callback.
    fn default() -> Self {
        Self {
            capacity: 1_000,
            limit: Duration::from_secs(60 * 60),
            wall: WallClock::default(),
            on_change: None,
        }
    }
}

impl ApprovalConfig {
    /// How many may be pending; 0 for none. As many decided ones are remembered. Default:
    /// 1,000.
    pub fn capacity(mut self, pending: usize) -> Self {
        self.capacity = pending;
        self
    }

    /// How long a [`request`](Approvals::request) waits for an answer if the
    /// command was not registered with a limit of its own. Default: one hour.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Called for every change, in order, one at a time. A slow one holds up
    /// the next. A panic is logged.
    pub fn on_change(mut self, call: impl Fn(&ApprovalNotice) + Send + Sync + 'static) -> Self {
        self.on_change = Some(Box::new(call));
        self
    }

    /// Another wall clock: see
    /// [`ScheduleConfig::wall_clock`](crate::schedule::ScheduleConfig::wall_clock).
    pub fn wall_clock(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.wall = WallClock::new(now);
        self
    }
}

/// Names one approval of a bus: a UUID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApprovalId(String);

impl ApprovalId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Any text will do: what names no approval is found to be unknown.
impl From<&str> for ApprovalId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What happened to an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ApprovalChange {
    /// Somebody asks.
    Requested,
    /// Somebody said yes.
    Granted,
    /// Somebody said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// Who asked does not wait any more.
    Withdrawn,
}

impl ApprovalChange {
    /// The type of the event that tells of it.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Requested => "approval.requested",
            Self::Granted => "approval.granted",
            Self::Denied => "approval.denied",
            Self::Expired => "approval.expired",
            Self::Withdrawn => "approval.withdrawn",
        }
    }
}

/// Tells of one change: to the callback, and as JSON in the events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ApprovalNotice {
    /// Of which approval.
    pub id: ApprovalId,
    /// What happened.
    pub change: ApprovalChange,
    /// The command's type.
    pub command: String,
    /// Who, when and why.
    pub approval: Approval,
}

/// An approval that waits for an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PendingApproval {
    /// Its name.
    pub id: ApprovalId,
    /// What is to run.
    pub command: Event,
    /// Who asked, when, and until when an answer counts.
    pub approval: Approval,
}

/// Why an answer was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// No approval has this id, or it was decided so long ago that it is
    /// forgotten.
    #[error("no approval has the id {0}")]
    Unknown(ApprovalId),
    /// Who asked does not wait any more.
    #[error("who asked does not wait for the answer any more")]
    Withdrawn,
    /// It is decided already, or the answer has no name; see [`Refused`].
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// The approvals of a bus: see [`Bus::approvals`](crate::Bus::approvals).
#[derive(Clone, Copy)]
pub struct Approvals<'a> {
    inner: &'a Arc<Inner>,
}

impl<'a> Approvals<'a> {
    pub(crate) fn new(inner: &'a Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Registers a command's one handler, as
    /// [`Bus::on_command`](crate::Bus::on_command) does; the command runs only
    /// when it is approved within `limit`.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn on_command<F, Fut, P, E>(
        &self,
        command: &str,
        limit: Duration,
        f: F,
    ) -> Result<Subscription, SubscribeError>
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<P, E>> + Send + 'static,
        P: Into<Payload>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.inner.register_command(None, command, CommandFn::new(f), &Manner::Approved(limit))
    }

    /// Asks for the approval of a command. Who asks is its source.
    ///
    /// # Errors
    ///
    /// Nobody handles the command, too many are pending, its deadline has
    /// passed, or the bus is closed: see [`CommandError`].
    pub fn request(&self, command: Event) -> Result<Requested, CommandError> {
        let ty = command.ty();
        let Some(handler) = self.inner.commands.find(command.session(), ty) else {
            return Err(CommandError::NoHandler { command: ty.clone() });
        };
        let limit = handler.approval.unwrap_or(self.inner.approvals.default_limit());
        Requested::new(self.inner, command, limit)
    }

    /// Says yes. The command runs where it is waited for.
    ///
    /// # Errors
    ///
    /// See [`AnswerError`].
    pub fn approve(
        &self,
        id: &ApprovalId,
        by: impl Into<String>,
        reason: impl Into<String>,
    ) -> Result<(), AnswerError> {
        let (by, reason) = (by.into(), reason.into());
        self.inner.approvals.answer(id, |approval, now| approval.approve(by, reason, now))
    }

    /// Says no.
    ///
    /// # Errors
    ///
    /// See [`AnswerError`].
    pub fn deny(
        &self,
        id: &ApprovalId,
        by: impl Into<String>,
        reason: impl Into<String>,
    ) -> Result<(), AnswerError> {
        let (by, reason) = (by.into(), reason.into());
        self.inner.approvals.answer(id, |approval, now| approval.deny(by, reason, now))
    }

    /// What waits for an answer, the oldest first.
    pub fn pending(&self) -> Vec<PendingApproval> {
        self.inner.approvals.pending()
    }

    /// One approval, pending or decided; `None` if it was withdrawn, or is
    /// forgotten.
    pub fn get(&self, id: &ApprovalId) -> Option<Approval> {
        self.inner.approvals.get(id)
    }
}

/// A request for an approval: dropping it before it is answered withdraws it.
#[must_use = "dropping a request withdraws it"]
pub struct Requested {
    inner: Arc<Inner>,
    id: ApprovalId,
    command: Event,
    decision: oneshot::Receiver<State>,
}

impl Requested {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        mut command: Event,
        limit: Duration,
    ) -> Result<Self, CommandError> {
        inner.stamp(&mut command);
        let (id, decision) = inner.approvals.request(&command, limit)?;
        Ok(Self { inner: Arc::clone(inner), id, command, decision })
    }

    /// The approval's name.
    pub fn id(&self) -> &ApprovalId {
        &self.id
    }

    /// Waits for the answer, then runs the command and waits for its reply.
    ///
    /// # Errors
    ///
    /// Denied, expired, or what [`Bus::execute`](crate::Bus::execute) can
    /// return: see [`CommandError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before the answer, the request is withdrawn. Dropped after it,
    /// the handler's future is dropped, or the command never runs.
    pub async fn reply(mut self) -> Result<Payload, CommandError> {
        let command = || self.command.ty().clone();
        match (&mut self.decision).await {
            Ok(State::Approved { .. }) => {}
            Ok(State::Denied { by, reason, .. }) => {
                return Err(CommandError::Denied { command: command(), by, reason });
            }
            Ok(State::Expired { at }) => {
                return Err(CommandError::Unanswered { command: command(), at });
            }
            // A decision is never pending; without one the bus has closed.
            Ok(State::Pending) | Err(_) => return Err(CommandError::Closed),
        }
        self.inner.execute(self.command.clone(), true).await
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        self.inner.approvals.withdraw(&self.id);
    }
}

impl fmt::Debug for Requested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requested({}, {})", self.id, self.command.ty())
    }
}

#[cfg(test)]
mod tests;
