//! What a messenger has done.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

macro_rules! stats {
    ($($(#[$help:meta])* $name:ident,)*) => {
        /// What a messenger has done since it joined.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct MessengerStats {
            $($(#[$help])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counts {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counts {
            pub(super) fn read(&self) -> MessengerStats {
                MessengerStats { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

stats! {
    /// Messages sent, requests and answers included.
    sent,
    /// Messages that could not be sent.
    not_sent,
    /// Messages received from others, answers not included.
    received,
    /// Messages that were ignored because they were this messenger's own, or
    /// broadcasts of its own swarm.
    own,
    /// Messages that no handler wanted.
    unhandled,
    /// Messages whose deadline had passed.
    expired,
    /// Calls of handlers that failed or panicked.
    failed,
    /// Requests sent.
    requests,
    /// Requests that were answered in time.
    answered,
    /// Requests that nobody answered in time.
    unanswered,
    /// Requests of this messenger that were refused.
    refused,
    /// Answers that came when nobody waited for them any more.
    late_answers,
    /// Answers given to others.
    answers,
    /// Requests of others that were refused.
    refusals,
    /// Tasks that were done.
    tasks_done,
    /// Tasks that went wrong and were put back.
    tasks_failed,
    /// Gaps in what was received.
    gaps,
    /// Events that are missing in them, as far as that is known.
    missed,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
