//! [`EventType`]: dotted tokens that say what happened.

use std::fmt;

use xxhash_rust::xxh64::xxh64;

use super::{EventTypeError, Str};

/// What happened, as tokens between dots: `task.created`, `agent.7.inbox`.
///
/// At most 255 bytes of UTF-8, no empty token, no white space, no control
/// character, no wildcard. Up to 24 bytes are stored inline.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Str);

impl EventType {
    /// Longest type in bytes.
    pub const MAX_LEN: usize = 255;

    /// Checks and keeps a string.
    ///
    /// # Errors
    ///
    /// When it breaks one of the rules above.
    pub fn new(text: impl AsRef<str>) -> Result<Self, EventTypeError> {
        let text = text.as_ref();
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// A type that is a literal of the program; never allocates.
    ///
    /// # Panics
    ///
    /// When the literal breaks one of the rules above.
    pub fn from_static(text: &'static str) -> Self {
        if let Err(error) = Self::check(text) {
            panic!("{text:?}: {error}");
        }
        Self(Str::const_new(text))
    }

    /// The rules, without keeping anything.
    ///
    /// # Errors
    ///
    /// When the text breaks one of them.
    pub fn check(text: &str) -> Result<(), EventTypeError> {
        if text.len() > Self::MAX_LEN {
            return Err(EventTypeError::TooLong(text.len()));
        }
        // Starts as if a dot came before the first token.
        let mut after_dot = true;
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'.' if after_dot => return Err(EventTypeError::EmptyToken),
                b'*' | b'>' | ..=b' ' | 0x7f => {
                    return Err(EventTypeError::Character(char::from(byte)));
                }
                0x80.. => return Self::check_unicode(&text[at..], after_dot),
                _ => after_dot = byte == b'.',
            }
        }
        if after_dot { Err(EventTypeError::EmptyToken) } else { Ok(()) }
    }

    /// The rest of a type from its first character on that is not ASCII.
    #[cold]
    fn check_unicode(rest: &str, mut after_dot: bool) -> Result<(), EventTypeError> {
        for c in rest.chars() {
            match c {
                '.' if after_dot => return Err(EventTypeError::EmptyToken),
                '*' | '>' => return Err(EventTypeError::Character(c)),
                c if c.is_whitespace() || c.is_control() => {
                    return Err(EventTypeError::Character(c));
                }
                _ => after_dot = c == '.',
            }
        }
        if after_dot { Err(EventTypeError::EmptyToken) } else { Ok(()) }
    }

    /// The text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash that frames carry: XXH64 with seed 0 of the UTF-8 bytes, the
    /// same on every machine and in every language. Not for hash tables: an
    /// attacker can make it collide.
    pub fn stable_hash(&self) -> u64 {
        stable_hash(self.0.as_bytes())
    }
}

/// See [`EventType::stable_hash`].
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    xxh64(bytes, 0)
}

impl std::borrow::Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for EventType {
    type Err = EventTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<&str> for EventType {
    type Error = EventTypeError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
