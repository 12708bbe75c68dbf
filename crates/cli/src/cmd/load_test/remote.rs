//! `load-test --transport`: the agents in several processes, which only a
//! server joins.
//!
//! The program starts itself once more for each process (`child.rs`) and tells
//! them what to do (`parent.rs`) over their standard input and output, in the
//! lines of `protocol.rs`. An agent publishes to the channel of each process in
//! which somebody handles the event (`wire.rs`), also if that is its own; what
//! comes in there is counted (`seen.rs`) and handed to a bus that has the
//! agents' handlers.
#![allow(clippy::doc_markdown, reason = "help is read in a terminal")]

mod child;
mod node;
mod parent;
mod protocol;
mod report;
mod seen;
mod wire;

use std::{path::PathBuf, process::ExitCode, str::FromStr};

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use swarmbus::transport::Channel;

use super::{
    args::{Args, Mode},
    swarm::Swarm,
};
use crate::cmd::server::ServerArg;

use self::wire::Spread;
pub(super) use self::wire::{Home, TRAILER_LEN, Wire};

const MAX_PROCESSES: u16 = 64;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RemoteArgs {
    /// Spread the agents over processes that a server joins. Without --redis
    /// and SWARMBUS_REDIS, a private redis-server is started, which keeps
    /// nothing. On another one, channels named load-test:… are used, and
    /// deleted at the end.
    #[arg(long, value_enum, value_name = "WHICH")]
    #[arg(conflicts_with_all = [
        "chaos", "store", "workers", "overflow", "capacity", "fail_rate", "slow_rate", "events",
    ])]
    transport: Option<Kind>,

    /// With --transport: processes.
    #[arg(long, value_name = "N", default_value = "1", requires = "transport")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_PROCESSES)))]
    processes: u16,

    /// With --transport: how many of the workers are processes of Node.js, which
    /// join by the `swarmbus` package.
    #[arg(long, value_name = "K", default_value = "0", requires = "transport")]
    #[arg(value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_PROCESSES)))]
    node_agents: u16,

    /// With --node-agents: the folder in which Node.js finds the packages
    /// `swarmbus` and `redis`.
    #[arg(long, value_name = "DIR", default_value = ".")]
    node_dir: PathBuf,

    #[command(flatten)]
    server: ServerArg,

    /// The program's word to itself: which process of which run it is.
    #[arg(long, hide = true, requires = "transport")]
    child: Option<ChildId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A Redis or Valkey server.
    Redis,
}

/// A process of a run: `NUMBER:RUN`.
#[derive(Clone, Debug)]
struct ChildId {
    number: usize,
    run: String,
}

impl FromStr for ChildId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once(':').and_then(|(n, run)| Some((n.parse().ok()?, run)));
        let (number, run) = parts.ok_or("it is NUMBER:RUN")?;
        Ok(Self { number, run: run.to_owned() })
    }
}

impl RemoteArgs {
    /// Which process has which agents.
    fn spread(&self) -> Spread {
        Spread { processes: self.processes.into(), node_agents: self.node_agents.into() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.transport.is_some()
    }

    /// Without `--transport`, nobody looks for a server.
    pub(super) fn check_off(&self) -> Result<()> {
        if self.server.is_named() {
            bail!("--redis is for --transport redis");
        }
        Ok(())
    }
}

/// Runs the load and reports. The exit code is 1 when the books do not
/// balance.
pub(super) async fn run(args: Args) -> Result<ExitCode> {
    args.channel_mode()?;
    // As the report has it.
    let args = Args { mode: args.mode.or(Some(Mode::Live)), ..args };
    let least = super::message::HEADER_LEN + TRAILER_LEN;
    if args.payload < least {
        bail!("--payload: the agents' header and the number of an event take {least} bytes");
    }
    let workers = Swarm::of(args.agents).workers;
    if usize::from(args.remote.node_agents) > workers {
        bail!("--node-agents: {} agents have {workers} workers", args.agents);
    }
    match args.remote.child.clone() {
        Some(child) => child::run(&args, &child).await,
        None => parent::run(&args).await,
    }
}

/// The channel of each process: first those of this program, then those of Node.js.
fn channels(args: &Args, run: &str) -> Result<Vec<Channel>> {
    let mode = args.channel_mode()?;
    let name = |n| format!("load-test:{run}:{n}");
    let channel = |n| Channel::new(mode, &name(n)).map_err(|error| anyhow!("{error}"));
    (0..args.remote.processes + args.remote.node_agents).map(channel).collect()
}
