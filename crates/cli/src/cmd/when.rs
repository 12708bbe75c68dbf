//! Times as a user writes them: exact, or so long ago.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use swarmbus::Timestamp;

/// Reads `2026-01-31T12:00:00Z`, `-1h`, `-2d12h` or `now`.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    let now = Timestamp::from_unix(std::time::UNIX_EPOCH.elapsed().unwrap_or_default());
    if text == "now" {
        return Ok(now);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = duration(ago)?;
        let micros = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
        let at = now.as_micros().saturating_sub(micros).max(1);
        return Timestamp::from_micros(at).ok_or_else(|| "that is too long ago".to_owned());
    }
    text.parse().map_err(|error| {
        // Most who are wrong leave the zone out.
        for utc in [format!("{text}Z"), format!("{text}T00:00:00Z")] {
            if utc.parse::<Timestamp>().is_ok() {
                return format!("a time has a zone: {utc} is UTC");
            }
        }
        format!("{error}; or it is a time before now, such as -30m, -1h or -2d12h, or `now`")
    })
}

/// Reads `5s`, `100ms`, `1h 30m` or `2d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time: write 100ms, 5s, 1h30m or 2d");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_or_relative() {
        assert_eq!(time("2026-01-31T12:00:00Z").unwrap().to_string(), "2026-01-31T12:00:00Z");
        let now = time("now").unwrap();
        let hour_ago = time("-1h").unwrap();
        let gap = now.saturating_since(hour_ago);
        assert!((3_599..=3_600).contains(&gap.as_secs()), "{gap:?}");
        assert_eq!(time("-99999w").unwrap().as_micros(), 1, "as early as can be");
        for wrong in ["", "-", "yesterday", "--1h", "-1x", "12:00"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_have_units() {
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5_400));
        assert_eq!(duration("100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(duration("2d").unwrap(), Duration::from_secs(172_800));
        for wrong in ["5", "", "s", "-5s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
