//! What the user may set of the chaos.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::cmd::load_test::args::{at_most, number, share};

const MAX_BURST: u32 = 100;

#[derive(Clone, Debug, clap::Args, Serialize)]
pub(crate) struct ChaosArgs {
    /// Break services on purpose, behind the whole pipeline: after a calm of a
    /// sixth of --seconds, calls fail, wait, panic and hang for --seconds,
    /// events come in bursts, and one service is down for a while in the
    /// middle. Publishes --rate events per second [default: 4000] besides the
    /// bursts, for --agents sources.
    #[arg(long, value_enum, value_name = "SCENARIO", num_args = 0..=1)]
    #[arg(default_missing_value = "faults", conflicts_with_all = ["mode", "window", "events"])]
    pub(in crate::cmd::load_test) chaos: Option<Scenario>,

    /// With --chaos: share of handler calls that panic.
    #[arg(long, value_name = "P", default_value = "0.01", value_parser = share, requires = "chaos")]
    pub(super) panic_rate: f64,

    /// With --chaos: share of handler calls that never end by themselves.
    #[arg(long, value_name = "P", default_value = "0.0005", value_parser = share, requires = "chaos")]
    pub(super) stuck_rate: f64,

    /// With --chaos: how long one service is down; 0 for not at all [default: a
    /// sixth of --seconds].
    #[arg(long, value_name = "S", value_parser = outage, requires = "chaos")]
    #[serde(serialize_with = "as_seconds")]
    pub(super) outage: Option<Duration>,

    /// With --chaos: how many times as many events come in a burst; 1 for no
    /// bursts.
    #[arg(long, value_name = "N", default_value = "5", value_parser = burst, requires = "chaos")]
    pub(super) burst: u32,
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Calls of handlers, now and then, and one service as a whole.
    Faults,
    /// The last of five services that call each other: in the middle third it
    /// hangs, once with circuit breakers and once without. There is no bus in
    /// this; of the settings, only --seconds, --rate [default: 300] and --seed
    /// count.
    Cascade,
}

impl ChaosArgs {
    pub(in crate::cmd::load_test) fn is_off(&self) -> bool {
        self.chaos.is_none()
    }
}

fn outage(text: &str) -> Result<Duration, String> {
    let seconds: f64 = number(text)?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("it must be from 0 (none) to 86400 (a day)".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn burst(text: &str) -> Result<u32, String> {
    match number(text)? {
        0 => Err("1 is as many as ever".to_owned()),
        n => at_most(n, MAX_BURST),
    }
}

fn as_seconds<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(to)
}
