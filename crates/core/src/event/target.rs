//! [`Target`]: the agent or swarm an event is for.

use std::fmt;

use super::Str;

/// Whom an event is for, when it is not for everybody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One agent by its name.
    Agent(Str),
    /// All agents of one swarm.
    Swarm(Str),
}

impl Target {
    /// One agent.
    pub fn agent(name: impl Into<Str>) -> Self {
        Self::Agent(name.into())
    }

    /// One swarm.
    pub fn swarm(name: impl Into<Str>) -> Self {
        Self::Swarm(name.into())
    }

    /// From the form that [`Display`](fmt::Display) writes: `agent:NAME` or
    /// `swarm:NAME`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("agent", name) => Some(Self::agent(name)),
            ("swarm", name) => Some(Self::swarm(name)),
            _ => None,
        }
    }

    /// The name without its kind.
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(name) | Self::Swarm(name) => name,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent:{name}"),
            Self::Swarm(name) => write!(f, "swarm:{name}"),
        }
    }
}
