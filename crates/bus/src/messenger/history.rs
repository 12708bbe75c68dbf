//! The last messages of a messenger.

use std::collections::VecDeque;

use parking_lot::Mutex;
use swarmbus_core::Event;

use crate::transport::Channel;

/// A message that was sent or received.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// Sent by this messenger, or received.
    pub sent: bool,
    /// The channel it went through.
    pub channel: Channel,
    /// The event, with the marks of its sender.
    pub event: Event,
}

/// The newest messages, as many as are to be kept.
#[derive(Debug)]
pub(super) struct History {
    passed: Mutex<VecDeque<Passed>>,
    keep: usize,
}

impl History {
    pub(super) fn new(keep: usize) -> Self {
        Self { passed: Mutex::default(), keep }
    }

    pub(super) fn note(&self, sent: bool, channel: &Channel, event: &Event) {
        if self.keep == 0 {
            return;
        }
        let new = Passed { sent, channel: channel.clone(), event: event.clone() };
        let mut passed = self.passed.lock();
        let oldest = if passed.len() >= self.keep { passed.pop_front() } else { None };
        passed.push_back(new);
        drop(passed);
        drop(oldest);
    }

    /// Oldest first.
    pub(super) fn all(&self) -> Vec<Passed> {
        self.passed.lock().iter().cloned().collect()
    }
}
