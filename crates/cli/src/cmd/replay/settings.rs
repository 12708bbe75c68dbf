//! Breaker and retry settings as a user writes them.

use std::time::Duration;

use swarmbus::{breaker::Config, core::backoff::Backoff};
use swarmbus_store::what_if::{Scope, Settings};

use crate::cmd::when::duration;

const KNOWN: &str = "failures=N, open-for=TIME, probes=N, successes=N, retries=N, \
                     first-delay=TIME, cap=TIME, scope=type|handler and breaker=on|off";

/// Each is a step of the simulation for every event that fails.
const MAX_RETRIES: u32 = 1_000;

/// Reads `failures=10,open-for=5s,retries=0`. What is not named has the
/// default of a bus.
pub(super) fn parse(text: &str) -> Result<Settings, String> {
    let mut breaker = Config::builder();
    let mut settings = Settings::default();
    let (mut tries, mut off) = (0, false);
    let (mut first, mut cap) = (Duration::from_millis(100), Duration::from_secs(10));
    for setting in text.split(',') {
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("{setting:?} has no value; settings are {KNOWN}"))?;
        let (name, value) = (name.trim(), value.trim());
        match name {
            "failures" => breaker = breaker.consecutive_failures(number(name, value)?),
            "open-for" => breaker = breaker.open_for(duration(value)?),
            "probes" => breaker = breaker.probes(number(name, value)?),
            "successes" => breaker = breaker.successes_to_close(number(name, value)?),
            "retries" => {
                tries = number(name, value)?;
                if tries > MAX_RETRIES {
                    return Err(format!("retries are at most {MAX_RETRIES}, not {tries}"));
                }
            }
            "first-delay" => first = duration(value)?,
            "cap" => cap = duration(value)?,
            "scope" => settings.scope = scope(value)?,
            "breaker" => off = switch(value)?,
            _ => return Err(format!("there is no setting {name:?}; settings are {KNOWN}")),
        }
    }
    let breaker = breaker.build().map_err(|error| error.to_string())?;
    settings.breaker = (!off).then_some(breaker);
    settings.retry = (tries > 0).then(|| Backoff::exponential(first).cap(cap).max_tries(tries));
    Ok(settings)
}

fn number(name: &str, value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("{name} is a whole number, not {value:?}"))
}

fn scope(value: &str) -> Result<Scope, String> {
    match value {
        "type" => Ok(Scope::PerType),
        "handler" => Ok(Scope::PerHandler),
        _ => Err(format!("scope is `type` or `handler`, not {value:?}")),
    }
}

/// Whether it is off.
fn switch(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(false),
        "off" => Ok(true),
        _ => Err(format!("breaker is `on` or `off`, not {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_checked() {
        let settings = parse("failures=10, open-for=5s,retries=2,first-delay=1s,scope=handler");
        let expected = Settings {
            breaker: Some(
                Config::builder()
                    .consecutive_failures(10)
                    .open_for(Duration::from_secs(5))
                    .build()
                    .unwrap(),
            ),
            scope: Scope::PerHandler,
            retry: Some(
                Backoff::exponential(Duration::from_secs(1))
                    .cap(Duration::from_secs(10))
                    .max_tries(2),
            ),
        };
        assert_eq!(settings.unwrap(), expected);
        assert_eq!(parse("retries=0").unwrap(), Settings::default());
        assert_eq!(parse("breaker=off").unwrap().breaker, None);
        for (wrong, says) in [
            ("", "has no value"),
            ("failures", "has no value"),
            ("failures=0", "at least 1"),
            ("failures=many", "whole number"),
            ("open-for=5", "no length of time"),
            ("speed=2", "no setting"),
            ("scope=all", "`type` or `handler`"),
            ("breaker=maybe", "`on` or `off`"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
