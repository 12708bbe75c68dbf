//! [`Pattern`]: the types that a subscription wants.

use std::fmt;

use super::expression::Expression;
use crate::event::{EventType, EventTypeError, Str};

/// The types that a subscription wants.
///
/// | written | wants |
/// | --- | --- |
/// | `task.created` | this one type |
/// | `task.*` | `*` stands for one whole token: `task.created`, not `task` or `task.a.b` |
/// | `agent.7.>` | `>`, always last, stands for one or more tokens: `agent.7.inbox`, `agent.7.a.b`, not `agent.7` |
/// | `Pattern::regex(r"task\.(created\|done)")` | every type that the regex matches from end to end |
///
/// Prefer wildcards: the [`Router`](super::Router) tries every regex it holds
/// on every type it has not seen lately.
#[derive(Clone)]
pub struct Pattern(Kind);

/// How the router files a pattern.
#[derive(Clone)]
pub(super) enum Kind {
    Exact(EventType),
    /// Checked; holds at least one `*` or `>`.
    Wildcard(Str),
    /// Anchored at both ends.
    #[cfg_attr(not(feature = "regex"), allow(dead_code, reason = "there is nothing to make it of"))]
    Regex(Expression),
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// There is nothing in it, or nothing between two dots.
    #[error("a pattern needs at least one character in each token between dots")]
    EmptyToken,
    /// Longer than the longest type, or a regex longer than
    /// [`Pattern::MAX_REGEX_LEN`].
    #[error("a pattern is at most {limit} bytes long, this one has {len}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The most it may have.
        limit: usize,
    },
    /// White space or a control character.
    #[error("a pattern has no white space or control characters: found {0:?}")]
    Character(char),
    /// `*` or `>` as a part of a token.
    #[error("`*` and `>` stand for whole tokens: found {0:?}")]
    PartOfToken(Box<str>),
    /// `>` with something after it.
    #[error("`>` can only be the last token")]
    RestNotLast,
    /// The regex cannot be read, or is too large once compiled.
    #[cfg(feature = "regex")]
    #[error("not a usable regex: {0}")]
    Regex(#[from] regex::Error),
}

impl Pattern {
    /// Longest regex in bytes, as written.
    pub const MAX_REGEX_LEN: usize = 1024;

    /// Most memory that one compiled regex may take, in bytes: 1 MiB. Its
    /// search cache is bounded by the same figure.
    pub const MAX_REGEX_SIZE: usize = 1 << 20;

    /// Reads a type, or a type with wildcards.
    ///
    /// ```
    /// use swarmbus_core::router::{Pattern, PatternError};
    ///
    /// assert!(Pattern::parse("task.*.>")?.matches("task.7.created"));
    /// assert_eq!(Pattern::parse("task.>.done").unwrap_err(), PatternError::RestNotLast);
    /// # Ok::<(), PatternError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a token is empty, when a wildcard is not a whole token, when `>`
    /// is not the last one, or when the rest breaks a rule of [`EventType`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        match EventType::new(text) {
            Ok(ty) => return Ok(Self(Kind::Exact(ty))),
            Err(EventTypeError::Character('*' | '>')) => {}
            Err(EventTypeError::EmptyToken) => return Err(PatternError::EmptyToken),
            Err(EventTypeError::Character(c)) => return Err(PatternError::Character(c)),
            Err(EventTypeError::TooLong(len)) => {
                return Err(PatternError::TooLong { len, limit: EventType::MAX_LEN });
            }
        }
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            match token {
                "" => return Err(PatternError::EmptyToken),
                "*" => {}
                ">" if tokens.peek().is_some() => return Err(PatternError::RestNotLast),
                ">" => {}
                token => check_literal(token)?,
            }
        }
        Ok(Self(Kind::Wildcard(text.into())))
    }

    /// A regex, in the syntax of the [`regex`] crate, that has to match the
    /// whole type: `task` alone does not want `task.created`, `task.*` does.
    /// Matching takes time linear in the type's length, whatever the regex.
    ///
    /// ```
    /// use swarmbus_core::router::Pattern;
    ///
    /// let pattern = Pattern::regex(r"agent\.[0-9]+\.(inbox|outbox)")?;
    /// assert!(pattern.matches("agent.7.inbox"));
    /// assert!(!pattern.matches("an.agent.7.inbox"));
    /// # Ok::<(), swarmbus_core::router::PatternError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When it cannot be read, is longer than
    /// [`MAX_REGEX_LEN`](Self::MAX_REGEX_LEN), or compiles to more than
    /// [`MAX_REGEX_SIZE`](Self::MAX_REGEX_SIZE).
    #[cfg(feature = "regex")]
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        let (len, limit) = (text.len(), Self::MAX_REGEX_LEN);
        if len > limit {
            return Err(PatternError::TooLong { len, limit });
        }
        Ok(Self(Kind::Regex(Expression::new(text)?)))
    }

    /// Whether it wants this type. The [`Router`](super::Router) gives the
    /// same answer for many patterns at once.
    pub fn matches(&self, ty: &str) -> bool {
        match &self.0 {
            Kind::Exact(exact) => exact.as_str() == ty,
            Kind::Wildcard(pattern) => wildcards_match(pattern, ty),
            Kind::Regex(regex) => regex.is_match(ty),
        }
    }

    /// The one type it wants, if it has no wildcards and is no regex.
    pub fn as_exact(&self) -> Option<&EventType> {
        match &self.0 {
            Kind::Exact(ty) => Some(ty),
            Kind::Wildcard(_) | Kind::Regex(_) => None,
        }
    }

    /// Whether it was made by [`regex`](Self::regex).
    pub fn is_regex(&self) -> bool {
        matches!(self.0, Kind::Regex(_))
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Exact(ty) => ty.as_str(),
            Kind::Wildcard(text) => text,
            Kind::Regex(regex) => regex.as_str(),
        }
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.0
    }
}

fn check_literal(token: &str) -> Result<(), PatternError> {
    if token.contains(['*', '>']) {
        return Err(PatternError::PartOfToken(token.into()));
    }
    match token.chars().find(|c| c.is_whitespace() || c.is_control()) {
        Some(c) => Err(PatternError::Character(c)),
        None => Ok(()),
    }
}

/// Token by token, the way the table in [`Pattern`]'s docs reads.
fn wildcards_match(pattern: &str, ty: &str) -> bool {
    let mut tokens = ty.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.is_regex() == other.is_regex() && self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl From<EventType> for Pattern {
    fn from(ty: EventType) -> Self {
        Self(Kind::Exact(ty))
    }
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    /// [`Pattern::parse`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The text it was made from; a regex stands between slashes.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_regex() { write!(f, "/{}/", self.as_str()) } else { f.write_str(self.as_str()) }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({self})")
    }
}
