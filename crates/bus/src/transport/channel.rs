//! [`Channel`]: a checked name, and how what is published to it is delivered.

use std::{fmt, str::FromStr, sync::Arc};

/// How a channel delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every subscriber that is there gets an event, at most once. What it
    /// misses is reported as a [`Gap`](super::Gap) where it can be seen.
    Live,
    /// Every subscriber gets every event once and in order, also what was
    /// published while it was away, as long as the channel keeps it. See
    /// [`Position`](super::Position).
    Durable,
    /// A work queue: in each group of subscribers one gets an event, and gets
    /// it again, or another does, until it is acknowledged. See
    /// [`Received::ack`](super::Received::ack).
    Group,
}

impl Mode {
    /// `live`, `durable` or `group`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Durable => "durable",
            Self::Group => "group",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one publishes to and subscribes to. Cheap to clone.
///
/// A name is 1 to 200 bytes long, without white space, control characters and
/// braces. Channels of one name and different modes have nothing to do with
/// each other.
///
/// ```
/// use swarmbus::transport::{Channel, ChannelError, Mode};
///
/// let orders = Channel::durable("orders")?;
/// assert_eq!((orders.name(), orders.mode()), ("orders", Mode::Durable));
/// assert_eq!(orders.to_string(), "durable:orders");
/// assert_eq!("durable:orders".parse::<Channel>()?, orders);
/// assert_ne!(Channel::live("orders")?, orders);
///
/// assert_eq!(Channel::live("two words"), Err(ChannelError::Character(' ')));
/// # Ok::<(), ChannelError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    name: Arc<str>,
    mode: Mode,
}

impl Channel {
    /// Longest name in bytes.
    pub const MAX_LEN: usize = 200;

    /// A channel of this mode.
    ///
    /// # Errors
    ///
    /// When the name breaks one of the rules above.
    pub fn new(mode: Mode, name: &str) -> Result<Self, ChannelError> {
        if !(1..=Self::MAX_LEN).contains(&name.len()) {
            return Err(ChannelError::Length(name.len()));
        }
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '{' | '}');
        match name.chars().find(|c| bad(*c)) {
            Some(c) => Err(ChannelError::Character(c)),
            None => Ok(Self { name: name.into(), mode }),
        }
    }

    /// A channel that delivers [`Live`](Mode::Live).
    ///
    /// # Errors
    ///
    /// When the name breaks one of the rules above.
    pub fn live(name: &str) -> Result<Self, ChannelError> {
        Self::new(Mode::Live, name)
    }

    /// A channel that is [`Durable`](Mode::Durable).
    ///
    /// # Errors
    ///
    /// When the name breaks one of the rules above.
    pub fn durable(name: &str) -> Result<Self, ChannelError> {
        Self::new(Mode::Durable, name)
    }

    /// A work queue: see [`Group`](Mode::Group).
    ///
    /// # Errors
    ///
    /// When the name breaks one of the rules above.
    pub fn group(name: &str) -> Result<Self, ChannelError> {
        Self::new(Mode::Group, name)
    }

    /// The channel of the same name with another mode.
    #[must_use]
    pub fn with_mode(&self, mode: Mode) -> Self {
        Self { name: Arc::clone(&self.name), mode }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it delivers.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// As `mode:name`, which [`FromStr`] reads.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.mode, self.name)
    }
}

impl FromStr for Channel {
    type Err = ChannelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("live", name)) => Self::live(name),
            Some(("durable", name)) => Self::durable(name),
            Some(("group", name)) => Self::group(name),
            _ => Err(ChannelError::Mode),
        }
    }
}

/// Why a text is no [`Channel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// It is empty or too long.
    #[error("the name of a channel is 1 to {max} bytes long, not {0}", max = Channel::MAX_LEN)]
    Length(usize),
    /// It has a character that is not allowed.
    #[error("the name of a channel has no white space, control characters or braces: {0:?}")]
    Character(char),
    /// It does not begin with a mode and a colon.
    #[error("a channel begins with `live:`, `durable:` or `group:`")]
    Mode,
}
