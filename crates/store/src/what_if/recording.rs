//! [`Recording`]: what handlers did, by event and handler.

use std::{collections::HashMap, time::Duration};

use swarmbus::MAX_TYPES;
use swarmbus_core::{EventId, EventType, Moment, Priority, Str, Timestamp};

use super::tally::Tally;

/// One line of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// When the handler was called; or when the event came to its end, if
    /// this is the end.
    pub at: Timestamp,
    /// How long the handler took; zero for an end.
    pub took: Duration,
    /// The event.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// Its priority.
    pub priority: Priority,
    /// The handler's name.
    pub handler: Str,
    /// What happened.
    pub end: CallEnd,
}

/// What one line of a recording says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallEnd {
    /// A call succeeded; the event is delivered.
    Succeeded,
    /// A call failed; others of the same event may follow.
    Failed,
    /// No call follows: the event is a dead letter.
    DeadLettered,
    /// No call follows: the handler failed and keeps no dead letters.
    GivenUp,
    /// No call follows: the breaker was open.
    Rejected,
    /// No call follows, for another reason.
    Elsewhere,
}

/// What handlers did with events. Grows by
/// [`MAX_CALLS`](Self::MAX_CALLS) lines at most.
#[derive(Debug, Default)]
pub struct Recording {
    pub(super) handlers: Vec<Handler>,
    pub(super) services: Vec<Service>,
    pub(super) arrivals: Vec<Arrival>,
    pub(super) last: Moment,
    by_name: HashMap<Str, usize>,
    /// Arrivals whose end has not been read.
    open: HashMap<(EventId, usize), usize>,
    first: Option<Timestamp>,
    calls: usize,
}

#[derive(Debug, Default)]
pub(super) struct Handler {
    pub(super) name: Str,
    /// Its calls by time: what a call that was not made is told from.
    pub(super) calls: Vec<Made>,
    /// It keeps no dead letters.
    pub(super) gives_up: bool,
    by_type: HashMap<EventType, usize>,
    /// For the types beyond the limit.
    other_types: Option<usize>,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) at: Moment,
    pub(super) took: Duration,
    pub(super) succeeded: bool,
}

/// A handler and a type.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) handler: usize,
    pub(super) event_type: Option<EventType>,
    pub(super) recorded: Tally,
}

/// An event that was to reach a handler.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) at: Moment,
    pub(super) priority: Priority,
    pub(super) service: usize,
    pub(super) calls: Vec<Made>,
    /// Another layer ended it, before any call.
    pub(super) elsewhere: bool,
}

impl Recording {
    /// The most lines that one recording takes in; each takes some 200 bytes
    /// of memory.
    pub const MAX_CALLS: usize = 1_000_000;

    /// An empty recording.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.calls
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.calls == 0
    }

    /// Whether it takes in no more lines.
    pub fn is_full(&self) -> bool {
        self.calls >= Self::MAX_CALLS
    }

    /// Takes in the next line. Lines come in the order in which they were
    /// written: a call when it is over. Returns whether there was room.
    pub fn push(&mut self, record: CallRecord) -> bool {
        if self.is_full() {
            return false;
        }
        self.calls += 1;
        // Calls are written when they end: an earlier one may have begun
        // before the first.
        let first = *self.first.get_or_insert(record.at);
        let since = record.at.saturating_since(first) + ORIGIN;
        let at = Moment::ORIGIN + since.saturating_sub(first.saturating_since(record.at));
        self.last = self.last.max(at + record.took);
        let handler = self.handler(&record.handler);
        let service = self.service(handler, &record.event_type);
        let key = (record.event, handler);
        let arrival = match self.open.get(&key) {
            Some(&arrival) => arrival,
            None => {
                self.arrivals.push(Arrival {
                    at,
                    priority: record.priority,
                    service,
                    calls: Vec::new(),
                    elsewhere: false,
                });
                self.services[service].recorded.matches += 1;
                self.open.insert(key.clone(), self.arrivals.len() - 1);
                self.arrivals.len() - 1
            }
        };
        let made = |succeeded| Made { at, took: record.took, succeeded };
        let open = match record.end {
            CallEnd::Succeeded => {
                self.call(arrival, made(true));
                false
            }
            CallEnd::Failed => {
                self.call(arrival, made(false));
                true
            }
            CallEnd::DeadLettered | CallEnd::GivenUp | CallEnd::Rejected | CallEnd::Elsewhere => {
                false
            }
        };
        if !open {
            self.open.remove(&key);
            let failed = matches!(record.end, CallEnd::DeadLettered | CallEnd::GivenUp);
            if failed && self.arrivals[arrival].calls.is_empty() {
                // A call that a time-out cut off leaves no line of its own.
                self.call(arrival, made(false));
            }
            self.end(arrival, record.end);
        }
        true
    }

    fn call(&mut self, arrival: usize, made: Made) {
        let arrival = &mut self.arrivals[arrival];
        let service = &mut self.services[arrival.service];
        service.recorded.calls += 1;
        service.recorded.retries += u64::from(!arrival.calls.is_empty());
        // Most have one.
        arrival.calls.reserve_exact(1);
        arrival.calls.push(made);
        self.handlers[service.handler].calls.push(made);
    }

    fn end(&mut self, arrival: usize, end: CallEnd) {
        let arrival = &mut self.arrivals[arrival];
        let service = &mut self.services[arrival.service];
        let recorded = &mut service.recorded;
        match end {
            CallEnd::Succeeded => recorded.delivered += 1,
            CallEnd::DeadLettered => recorded.dead_lettered += 1,
            CallEnd::GivenUp | CallEnd::Failed => {
                recorded.failed += 1;
                self.handlers[service.handler].gives_up = true;
            }
            CallEnd::Rejected => recorded.rejected_by_breaker += 1,
            CallEnd::Elsewhere => {
                recorded.elsewhere += 1;
                arrival.elsewhere = arrival.calls.is_empty();
            }
        }
    }

    fn handler(&mut self, name: &Str) -> usize {
        if let Some(&handler) = self.by_name.get(name) {
            return handler;
        }
        self.handlers.push(Handler { name: name.clone(), ..Handler::default() });
        self.by_name.insert(name.clone(), self.handlers.len() - 1);
        self.handlers.len() - 1
    }

    fn service(&mut self, handler: usize, ty: &EventType) -> usize {
        let of = &mut self.handlers[handler];
        let known = of.by_type.get(ty).copied();
        let full = of.by_type.len() >= MAX_TYPES;
        if let Some(service) = known.or(of.other_types.filter(|_| full)) {
            return service;
        }
        let service = self.services.len();
        let event_type = if full {
            of.other_types = Some(service);
            None
        } else {
            of.by_type.insert(ty.clone(), service);
            Some(ty.clone())
        };
        self.services.push(Service { handler, event_type, recorded: Tally::default() });
        service
    }

    /// Puts everything into the order of time, and closes what has no end.
    pub(super) fn sort(&mut self) {
        for (_, arrival) in self.open.drain() {
            // Cut off by the end of the recording, or of the program.
            let arrival = &self.arrivals[arrival];
            self.services[arrival.service].recorded.elsewhere += 1;
        }
        self.arrivals.sort_by_key(|arrival| arrival.at);
        for handler in &mut self.handlers {
            handler.calls.sort_by_key(|call| call.at);
        }
    }
}

/// The first line is not at the very beginning: a call that began before it
/// may be written after it. None takes longer than a day.
const ORIGIN: Duration = Duration::from_secs(24 * 60 * 60);
