//! What the user may set.

use std::{path::PathBuf, time::Duration};

use clap::{ValueEnum, builder::ArgPredicate};
use serde::{Serialize, Serializer};
use swarmbus::{Overflow, core::overflow::AdaptiveRateConfig, transport};
use swarmbus_store::Durability;

use super::{
    chaos::ChaosArgs, message::HEADER_LEN, outlet::Mode as BusMode, remote::RemoteArgs,
    swarm::MIN_AGENTS,
};

const MAX_AGENTS: usize = 10_000;
const MAX_PAYLOAD: usize = 1 << 20;

/// Let many agents coordinate over one bus, and measure it.
///
/// Coordinators give tasks to workers, workers report results, validators vote
/// on them, and coordinators act on the votes. Every event is delivered to a
/// handler that reads its whole payload and checks it. A task whose votes do
/// not come is given up, after 100 ms or eight times what tasks usually take.
///
/// With --chaos it is services that are called, behind retries, time-outs,
/// bulkheads, circuit breakers and fallbacks, and they fail on purpose.
///
/// With --transport the agents are spread over processes, and every event goes
/// over a server from the agent that publishes it to the process of the one
/// that handles it.
///
/// The exit code is 1 when an event is not accounted for, when the log of
/// --store says something else than the bus, or when a service that came back
/// was not served again in time. With --transport: when an event was lost and
/// not reported as a gap (live), or lost or delivered twice at all (durable,
/// group; what is marked as redelivered does not count).
#[derive(Clone, Debug, clap::Args, Serialize)]
pub(crate) struct Args {
    /// Agents: a fifth coordinators, a fifth validators, the others workers.
    #[arg(long, value_name = "N", default_value = "100", value_parser = agents)]
    pub(super) agents: usize,

    /// How long the load lasts.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    #[serde(serialize_with = "as_seconds")]
    pub(super) seconds: Duration,

    /// Bytes of each event's payload, 40 of them the agents' header.
    #[arg(long, value_name = "BYTES", default_value = "200", value_parser = payload)]
    pub(super) payload: usize,

    /// Tasks that empty the bus's queue [default: what the bus takes].
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<usize>,

    /// How events get to those that handle them: how agents hand them to the
    /// bus (queued, inline or batch; default queued) or, with --transport, how
    /// its channels deliver (live, durable or group; default live).
    #[arg(long, value_enum)]
    #[serde(serialize_with = "as_mode")]
    pub(super) mode: Option<Mode>,

    /// What happens to an event that finds the queue full.
    #[arg(long, value_enum, default_value_t = Policy::Reject)]
    pub(super) overflow: Policy,

    /// How many events may wait in the queue.
    #[arg(long, value_name = "EVENTS", default_value_t = 10_000)]
    pub(super) capacity: usize,

    /// Tasks that each coordinator keeps in flight.
    #[arg(long, value_name = "TASKS", default_value = "64", value_parser = window)]
    pub(super) window: u32,

    /// Events per second that all agents together publish at most, in even
    /// steps: to measure latency below saturation [default: no limit; with
    /// --chaos 4000].
    #[arg(long, value_name = "EVENTS_PER_S", value_parser = rate)]
    pub(super) rate: Option<f64>,

    /// Share of handler calls that fail, 0 to 1 [default: 0; with --chaos 0.2].
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    #[arg(hide_default_value = true, default_value_if("chaos", ArgPredicate::IsPresent, "0.2"))]
    pub(super) fail_rate: f64,

    /// Share of handler calls that wait for 1 ms, or with --chaos for 50 ms; 0
    /// to 1 [default: 0; with --chaos 0.05].
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    #[arg(hide_default_value = true, default_value_if("chaos", ArgPredicate::IsPresent, "0.05"))]
    pub(super) slow_rate: f64,

    /// Replay the types and payloads of this file's JSON Lines as tasks; `-`
    /// reads standard input. A line is a CloudEvents event, or any JSON object:
    /// its type is then the first of `type`, `event_type`, `event`, `reason`
    /// and `kind` that makes one, else `line`. The first 10,000 lines or 64 MiB
    /// are kept and repeated; a line may have 1 MiB.
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    pub(super) events: Option<PathBuf>,

    /// Write every event down in this event log, an SQLite file, before it
    /// counts as published; with --chaos handler calls, too, for `swarmbus
    /// replay --what-if`. What an earlier load test left pending in it is
    /// settled first, unhandled.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store: Option<PathBuf>,

    /// With --store: when an event counts as published.
    #[arg(long, value_enum, default_value_t = Safety::Commit, requires = "store")]
    pub(super) durability: Safety,

    #[command(flatten)]
    #[serde(skip_serializing_if = "ChaosArgs::is_off")]
    pub(super) chaos: ChaosArgs,

    #[command(flatten)]
    #[serde(skip)]
    pub(super) remote: RemoteArgs,

    /// Print one JSON object in place of the table.
    #[arg(long)]
    #[serde(skip)]
    pub(super) json: bool,

    /// Where the random numbers start: who gets which task, which calls fail,
    /// who votes no, and what payloads hold.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
}

/// How events get to those that handle them. One word for both, as for the
/// agents it is one thing: what becomes of an event that they hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// `Bus::publish`: one by one, through the queue.
    Queued,
    /// `Bus::dispatch`: the handlers run in the agent that publishes.
    Inline,
    /// `Bus::publish_batch`: through the queue, up to 64 at once.
    Batch,
    /// Over a transport, at most once.
    Live,
    /// Over a transport, once and in order.
    Durable,
    /// Over a transport, until it is acknowledged.
    Group,
}

/// `--mode` does not go with `--transport` as it is.
#[derive(Debug, thiserror::Error)]
#[error("--mode {mode} {needs}")]
pub(crate) struct WrongMode {
    mode: String,
    needs: &'static str,
}

impl WrongMode {
    fn new(mode: Mode, needs: &'static str) -> Self {
        let value = mode.to_possible_value();
        Self { mode: value.map_or_else(String::new, |v| v.get_name().to_owned()), needs }
    }
}

impl Args {
    /// How agents hand events to a bus.
    pub(super) fn bus_mode(&self) -> Result<BusMode, WrongMode> {
        match self.mode.unwrap_or(Mode::Queued) {
            Mode::Queued => Ok(BusMode::Queued),
            Mode::Inline => Ok(BusMode::Inline),
            Mode::Batch => Ok(BusMode::Batch),
            mode @ (Mode::Live | Mode::Durable | Mode::Group) => {
                Err(WrongMode::new(mode, "needs --transport redis"))
            }
        }
    }

    /// How the channels of a transport deliver.
    pub(super) fn channel_mode(&self) -> Result<transport::Mode, WrongMode> {
        match self.mode.unwrap_or(Mode::Live) {
            Mode::Live => Ok(transport::Mode::Live),
            Mode::Durable => Ok(transport::Mode::Durable),
            Mode::Group => Ok(transport::Mode::Group),
            mode @ (Mode::Queued | Mode::Inline | Mode::Batch) => {
                let needs = "is for a bus: with --transport, it is live, durable or group";
                Err(WrongMode::new(mode, needs))
            }
        }
    }
}

/// [`Durability`], as the user writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Safety {
    /// When it is on the disk: a power failure loses nothing.
    Commit,
    /// When the operating system has it: a crash of the program loses nothing,
    /// a power failure about the last 10 ms.
    Group,
}

impl From<Safety> for Durability {
    fn from(safety: Safety) -> Self {
        match safety {
            Safety::Commit => Self::CommitBeforeAccept,
            Safety::Group => Self::GROUP,
        }
    }
}

/// [`Overflow`], as the user writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    /// Agents wait; nothing is lost.
    Reject,
    /// The event that has waited longest is dropped.
    DropOldest,
    /// The least urgent event is dropped.
    DropLowest,
    /// Fewer events are let in while the queue is too full.
    Adaptive,
}

impl From<Policy> for Overflow {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Reject => Self::Reject,
            Policy::DropOldest => Self::DropOldest,
            Policy::DropLowest => Self::DropLowestPriority,
            Policy::Adaptive => Self::AdaptiveRate(AdaptiveRateConfig::default()),
        }
    }
}

fn agents(text: &str) -> Result<usize, String> {
    let n: usize = number(text)?;
    if n < MIN_AGENTS {
        return Err(format!(
            "{n} cannot coordinate: it takes a coordinator, a worker and a validator, so at \
             least {MIN_AGENTS}"
        ));
    }
    at_most(n, MAX_AGENTS)
}

fn payload(text: &str) -> Result<usize, String> {
    let n: usize = number(text)?;
    if n < HEADER_LEN {
        return Err(format!("the agents' header alone takes {HEADER_LEN} bytes"));
    }
    at_most(n, MAX_PAYLOAD)
}

fn window(text: &str) -> Result<u32, String> {
    match number(text)? {
        0 => Err("a coordinator needs at least 1 task".to_owned()),
        n => at_most(n, 1 << 16),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = number(text)?;
    if !(0.01..=86_400.0).contains(&seconds) {
        return Err("it must be from 0.01 to 86400 (a day)".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = number(text)?;
    if !(1.0..=1e12).contains(&rate) {
        return Err("it must be at least 1 event per second".to_owned());
    }
    Ok(rate)
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let share: f64 = number(text)?;
    if !(0.0..=1.0).contains(&share) {
        return Err("it is a share: from 0 (none) to 1 (all)".to_owned());
    }
    Ok(share)
}

pub(super) fn number<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

pub(super) fn at_most<T: PartialOrd + std::fmt::Display>(n: T, limit: T) -> Result<T, String> {
    if n > limit { Err(format!("it must be at most {limit}")) } else { Ok(n) }
}

fn as_seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

fn as_mode<S: Serializer>(mode: &Option<Mode>, to: S) -> Result<S::Ok, S::Error> {
    mode.unwrap_or(Mode::Queued).serialize(to)
}
