//! `--node-agents`: workers that are processes of Node.js, which join by the
//! `swarmbus` package. What they do is in `node_agent.mjs`.

use anyhow::Result;
use serde_json::json;
use swarmbus::transport::Channel;
use tokio::process::Command;

use super::channels;
use crate::cmd::load_test::{
    args::Args,
    swarm::{Swarm, result_type},
};

const AGENT: &str = include_str!("node_agent.mjs");

/// Starts the worker with this number.
pub(super) fn command(args: &Args, run: &str, worker: usize) -> Result<Command> {
    let (swarm, spread) = (Swarm::of(args.agents), args.remote.spread());
    let channels = channels(args, run)?;
    let names: Vec<_> = channels.iter().map(Channel::name).collect();
    let settings = json!({
        "mode": args.channel_mode()?.name(),
        "channels": names,
        "own": spread.processes + worker,
        "agent": swarm.coordinators + worker,
        "source": format!("worker-{worker}"),
        "type": result_type(swarm.team_of(worker), worker)?.as_str(),
        "places": spread.of_validators(&swarm, worker),
        "payload": args.payload,
    });
    let mut command = Command::new("node");
    command.current_dir(&args.remote.node_dir);
    command.args(["--input-type=module", "--eval", AGENT, "--", &settings.to_string()]);
    Ok(command)
}
