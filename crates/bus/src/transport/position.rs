//! [`Position`]: a place in a durable channel, to be kept over a restart.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A place in a [durable](super::Mode::Durable) channel: just after one of its
/// events.
///
/// Save the position of the last event that was dealt with, and give it to
/// [`SubscribeOptions::after`](super::SubscribeOptions::after) to go on from
/// there.
///
/// ```
/// use swarmbus::transport::Position;
///
/// let position = Position { epoch: 0x5eed, term: 0, offset: 1_042 };
/// assert_eq!(position.to_string(), "0000000000005eed-1042");
/// assert_eq!(position.to_string().parse(), Ok(position));
/// assert_eq!(serde_json::to_string(&position)?, r#""0000000000005eed-1042""#);
/// let after_a_failover = Position { term: 3, ..position };
/// assert_eq!(after_a_failover.to_string(), "0000000000005eed-1042-3");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which life of the channel: a new random number when it begins anew,
    /// because its server lost it.
    pub epoch: u64,
    /// How often the server was replaced or started again in this life, as far
    /// as is known: one that lacks the last events gives their offsets anew.
    pub term: u32,
    /// How many events the channel has had in this life, this one included.
    pub offset: u64,
}

/// Why a text is no [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a position is 16 hexadecimal digits, a hyphen and a decimal number, and perhaps another \
     hyphen and number"
)]
pub struct ParsePositionError;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.offset)?;
        match self.term {
            0 => Ok(()),
            term => write!(f, "-{term}"),
        }
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, rest) = text.split_once('-').ok_or(ParsePositionError)?;
        let (offset, term) = rest.split_once('-').unwrap_or((rest, "0"));
        // `parse` and `from_str_radix` alone would take a sign.
        let digits = epoch.len() == 16
            && epoch.bytes().all(|byte| byte.is_ascii_hexdigit())
            && offset.bytes().chain(term.bytes()).all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(ParsePositionError);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| ParsePositionError)?;
        let offset = offset.parse().map_err(|_| ParsePositionError)?;
        let term = term.parse().map_err(|_| ParsePositionError)?;
        Ok(Self { epoch, term, offset })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_position_is_refused() {
        let long = "0000000000000001-18446744073709551616";
        for text in [
            "",
            "-",
            "1-1",
            "000000000000000g-1",
            "0000000000000001-+1",
            "0000000000000001-1-",
            "0000000000000001-1-2-3",
            "0000000000000001-1-4294967296",
            long,
        ] {
            assert_eq!(text.parse::<Position>(), Err(ParsePositionError), "{text}");
        }
        let last = Position { epoch: u64::MAX, term: u32::MAX, offset: u64::MAX };
        assert_eq!(last.to_string().parse(), Ok(last));
    }
}
