//! Asking, and requests that wait for their answer.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ahash::RandomState;
use compact_str::format_compact;
use parking_lot::Mutex;
use swarmbus_core::Event;
use tokio::sync::oneshot;

use super::{
    Messenger, To,
    message::{mark, marked},
    stats::count,
};
use crate::{clock::BusClock, transport::TransportPublishError};

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Its deadline had passed before it was sent.
    #[error("the deadline of {} has passed", .0.ty())]
    Expired(Box<Event>),
    /// As many as may wait for their answers.
    #[error("{limit} requests wait for their answers, which is the limit")]
    TooMany {
        /// [`MessengerBuilder::max_requests`](super::MessengerBuilder::max_requests).
        limit: usize,
        /// The request.
        event: Box<Event>,
    },
    /// A queue of tasks gives no answers.
    #[error("a queue of tasks gives no answers")]
    Tasks(Box<Event>),
    /// The transport did not take it.
    #[error(transparent)]
    NotSent(#[from] TransportPublishError),
    /// There was no answer by its deadline.
    #[error("there was no answer within {waited:?}")]
    NoAnswer {
        /// How long it waited.
        waited: Duration,
    },
    /// It got there and was refused.
    #[error(transparent)]
    Refused(Refusal),
    /// The other side tried and failed, for this reason.
    #[error("the other side failed: {0}")]
    Failed(String),
    /// The messenger was closed.
    #[error("the messenger is closed")]
    Closed,
}

/// Why the other side did not even try to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It has no responder for this type.
    #[error("the other side does not answer such requests")]
    NoResponder,
    /// It is answering as many as it can.
    #[error("the other side is busy")]
    Busy,
    /// The deadline had passed when it came.
    #[error("the request came too late")]
    TooLate,
}

impl Refusal {
    /// As it travels.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NoResponder => "no-responder",
            Self::Busy => "busy",
            Self::TooLate => "too-late",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::NoResponder, Self::Busy, Self::TooLate].into_iter().find(|it| it.name() == name)
    }
}

/// The refusal of a responder that failed; the payload says how.
pub(super) const FAILED: &str = "failed";

/// Requests that wait, by their numbers.
pub(super) struct Pending {
    waiting: Mutex<HashMap<u64, Waiting, RandomState>>,
    limit: usize,
    /// Begins anywhere, so that a stranger's answer to an earlier messenger of
    /// this name fits nothing.
    last: AtomicU64,
}

struct Waiting {
    answer: oneshot::Sender<Event>,
    /// One party alone can answer, so that its refusal is the answer.
    from_one: bool,
    /// The last refusal of several parties.
    refused: Option<Refusal>,
}

/// How a request ended.
pub(super) enum Answer {
    Reply(Event),
    Refused(Refusal),
    Failed(String),
}

impl Pending {
    pub(super) fn new(limit: usize) -> Self {
        Self { waiting: Mutex::default(), limit, last: AtomicU64::new(fastrand::u64(..)) }
    }

    /// `None` if as many wait as may.
    pub(super) fn begin(self: &Arc<Self>, from_one: bool) -> Option<Ticket> {
        let (sender, answer) = oneshot::channel();
        let number = self.last.fetch_add(1, Relaxed);
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.limit {
            return None;
        }
        waiting.insert(number, Waiting { answer: sender, from_one, refused: None });
        Some(Ticket { pending: Arc::clone(self), number, answer })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes an answer in; `false` if nobody waits for it.
    pub(super) fn answer(&self, event: Event) -> bool {
        let number =
            event.attribute(mark::ANSWER).and_then(|text| u64::from_str_radix(text, 16).ok());
        let Some(number) = number else { return false };
        let refused = event.attribute(mark::REFUSAL).and_then(Refusal::parse);
        let mut all = self.waiting.lock();
        let Some(waiting) = all.get_mut(&number) else { return false };
        if refused.is_some() && !waiting.from_one {
            // Another of them may still answer.
            waiting.refused = refused;
            return true;
        }
        let waiting = all.remove(&number);
        drop(all);
        waiting.is_some_and(|waiting| waiting.answer.send(event).is_ok())
    }

    /// Ends all that wait.
    pub(super) fn close(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        drop(waiting);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

/// A place among those that wait: dropped, it is given up, and an answer that
/// comes then is late.
pub(super) struct Ticket {
    pending: Arc<Pending>,
    pub(super) number: u64,
    answer: oneshot::Receiver<Event>,
}

impl Ticket {
    /// Waits for the answer; `None` if the messenger is closed.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        let event = (&mut self.answer).await.ok()?;
        Some(match event.attribute(mark::REFUSAL) {
            None => Answer::Reply(event),
            Some(name) => match Refusal::parse(name) {
                Some(refusal) => Answer::Refused(refusal),
                None => Answer::Failed(event.text().unwrap_or(name).to_owned()),
            },
        })
    }

    /// The last refusal, if one of several refused.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.pending.waiting.lock().get(&self.number)?.refused
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let waiting = self.pending.waiting.lock().remove(&self.number);
        drop(waiting);
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending({} of {})", self.len(), self.limit)
    }
}

impl Messenger {
    /// Sends a request and waits for the answer, until the event's deadline or
    /// else for [`request_timeout`](super::MessengerBuilder::request_timeout). Of a
    /// swarm, the first answer counts.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, an answer that comes then counts as late.
    pub async fn request(&self, to: &To, event: Event) -> Result<Event, RequestError> {
        if to.is_tasks() {
            return Err(RequestError::Tasks(Box::new(event)));
        }
        let now = BusClock::wall();
        let limit = match event.deadline() {
            Some(deadline) => deadline.saturating_since(now),
            None => self.hub.request_timeout,
        };
        if limit.is_zero() {
            return Err(RequestError::Expired(Box::new(event)));
        }
        let Some(mut ticket) = self.hub.pending.begin(to.is_agent()) else {
            let (limit, event) = (self.hub.pending.limit(), Box::new(event));
            return Err(RequestError::TooMany { limit, event });
        };
        let request = event.with_deadline(now.saturating_add(limit));
        let request = marked(request, mark::REQUEST, format_compact!("{:x}", ticket.number));
        count(&self.hub.counts.requests);
        let counts = &self.hub.counts;
        let asked = async {
            self.send(to, request).await?;
            ticket.answer().await.ok_or(RequestError::Closed)
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(Answer::Reply(reply))) => {
                count(&counts.answered);
                Ok(reply)
            }
            Ok(Ok(Answer::Refused(refusal))) => {
                count(&counts.refused);
                Err(RequestError::Refused(refusal))
            }
            Ok(Ok(Answer::Failed(error))) => {
                count(&counts.answered);
                Err(RequestError::Failed(error))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                count(&counts.unanswered);
                Err(match ticket.refused() {
                    Some(refusal) => RequestError::Refused(refusal),
                    None => RequestError::NoAnswer { waited: limit },
                })
            }
        }
    }

    /// Requests that wait for their answers.
    pub fn waiting(&self) -> usize {
        self.hub.pending.len()
    }
}
