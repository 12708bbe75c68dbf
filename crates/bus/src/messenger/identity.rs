//! Who somebody is, whom a message is for, and what their channels are called.

use std::fmt;

use swarmbus_core::{Event, Str, Target};

use crate::transport::{Channel, ChannelError, Mode};

/// Longest name of a swarm, agent, topic or task queue, in bytes.
pub const MAX_NAME_LEN: usize = 80;

/// Why a name is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty or too long.
    #[error("a name is 1 to {MAX_NAME_LEN} bytes long, not {0}")]
    Length(usize),
    /// It has a character that is not allowed.
    #[error("a name has no white space, control characters, slashes or braces: {0:?}")]
    Character(char),
}

fn check(name: &str) -> Result<(), NameError> {
    if !(1..=MAX_NAME_LEN).contains(&name.len()) {
        return Err(NameError::Length(name.len()));
    }
    match name.chars().find(|c| c.is_whitespace() || c.is_control() || "/{}".contains(*c)) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

/// A live channel whose name begins with its kind.
pub(super) fn channel(kind: &str, name: &str) -> Result<Channel, NameError> {
    check(name)?;
    Channel::live(&format!("{kind}:{name}")).map_err(|error| match error {
        ChannelError::Character(c) => NameError::Character(c),
        ChannelError::Length(_) | ChannelError::Mode => NameError::Length(name.len()),
    })
}

/// An agent of a swarm. Several messengers may have one identity: then each
/// gets the messages, but for its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    swarm: Str,
    agent: Str,
}

impl Identity {
    /// An agent of a swarm.
    ///
    /// # Errors
    ///
    /// When one of the names is none.
    pub fn new(swarm: &str, agent: &str) -> Result<Self, NameError> {
        check(swarm)?;
        check(agent)?;
        Ok(Self { swarm: swarm.into(), agent: agent.into() })
    }

    /// The name of the swarm.
    pub fn swarm(&self) -> &str {
        &self.swarm
    }

    /// The name of the agent.
    pub fn agent(&self) -> &str {
        &self.agent
    }
}

/// As `swarm/agent`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.swarm, self.agent)
    }
}

/// Whom a message is for. Cheap to clone; make one and keep it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct To {
    kind: Kind,
    name: Str,
    channel: Channel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Swarm,
    Agent,
    Broadcast,
    Tasks,
}

impl To {
    /// All agents of one swarm.
    ///
    /// # Errors
    ///
    /// When the name is none.
    pub fn swarm(name: &str) -> Result<Self, NameError> {
        Self::new(Kind::Swarm, "swarm", name)
    }

    /// One agent, in whatever swarm it is.
    ///
    /// # Errors
    ///
    /// When the name is none.
    pub fn agent(name: &str) -> Result<Self, NameError> {
        Self::new(Kind::Agent, "agent", name)
    }

    /// One of those who [work](super::Messenger::work) on this queue.
    ///
    /// # Errors
    ///
    /// When the name is none.
    pub fn tasks(queue: &str) -> Result<Self, NameError> {
        Self::new(Kind::Tasks, "tasks", queue)
    }

    /// All agents of all swarms but the sender's.
    pub fn broadcast() -> Self {
        let channel = Channel::live(BROADCAST);
        let channel = channel.unwrap_or_else(|_| unreachable!("the name is a legal one"));
        Self { kind: Kind::Broadcast, name: Str::const_new(""), channel }
    }

    fn new(kind: Kind, prefix: &str, name: &str) -> Result<Self, NameError> {
        Ok(Self { kind, name: name.into(), channel: channel(prefix, name)? })
    }

    /// The channel that it means, when messages are delivered like this.
    pub fn channel(&self, messages: Mode) -> Channel {
        self.channel.with_mode(match self.kind {
            Kind::Tasks => Mode::Group,
            Kind::Swarm | Kind::Agent | Kind::Broadcast => messages,
        })
    }

    /// Whether one party alone can answer.
    pub(super) fn is_agent(&self) -> bool {
        self.kind == Kind::Agent
    }

    pub(super) fn is_tasks(&self) -> bool {
        self.kind == Kind::Tasks
    }

    /// Writes on the event whom it is for, unless it says so itself.
    pub(super) fn address(&self, event: Event) -> Event {
        let target = match self.kind {
            Kind::Swarm => Target::swarm(self.name.clone()),
            Kind::Agent => Target::agent(self.name.clone()),
            Kind::Broadcast | Kind::Tasks => return event,
        };
        if event.target().is_some() { event } else { event.with_target(target) }
    }
}

/// As `swarm NAME`, `agent NAME`, `tasks NAME` or `broadcast`.
impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Swarm => write!(f, "swarm {}", self.name),
            Kind::Agent => write!(f, "agent {}", self.name),
            Kind::Tasks => write!(f, "tasks {}", self.name),
            Kind::Broadcast => f.write_str(BROADCAST),
        }
    }
}

const BROADCAST: &str = "broadcast";
