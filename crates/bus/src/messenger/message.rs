//! [`Message`]: an event from another messenger, and the marks it carries.

use swarmbus_core::{Event, Str};

/// Extension attributes that messengers write.
pub(super) mod mark {
    /// `swarm/agent/node` of the sender.
    pub(in crate::messenger) const SENDER: &str = "sender";
    /// The number of a request, for its sender.
    pub(in crate::messenger) const REQUEST: &str = "request";
    /// The number of the request that this answers.
    pub(in crate::messenger) const ANSWER: &str = "answer";
    /// Why there is no other answer than this.
    pub(in crate::messenger) const REFUSAL: &str = "refusal";
}

/// What a message was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The receiver's swarm.
    Swarm,
    /// The receiver itself.
    Agent,
    /// All other swarms.
    Broadcast,
    /// A topic of coordination.
    Topic,
    /// A queue of tasks.
    Tasks,
}

impl Scope {
    /// A bit for each.
    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// An event from another messenger.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event. It carries the sender as the attribute `sender`.
    pub event: Event,
    /// What it was sent to.
    pub scope: Scope,
}

impl Message {
    /// The sender's swarm; `None` for events that no messenger sent.
    pub fn swarm(&self) -> Option<&str> {
        Some(sender(&self.event)?.swarm)
    }

    /// The sender's name in its swarm; `None` for events that no messenger
    /// sent.
    pub fn agent(&self) -> Option<&str> {
        Some(sender(&self.event)?.agent)
    }
}

/// Where an event comes from, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender<'a> {
    pub(super) swarm: &'a str,
    pub(super) agent: &'a str,
    pub(super) node: &'a str,
}

pub(super) fn sender(event: &Event) -> Option<Sender<'_>> {
    let (swarm, rest) = event.attribute(mark::SENDER)?.split_once('/')?;
    let (agent, node) = rest.split_once('/')?;
    Some(Sender { swarm, agent, node })
}

/// Writes a mark, whose name is a legal one.
pub(super) fn marked(event: Event, name: &'static str, value: Str) -> Event {
    let marked = event.with_attribute(Str::const_new(name), value);
    marked.unwrap_or_else(|_| unreachable!("{name} is a legal name"))
}
