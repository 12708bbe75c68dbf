//! A swarm's state, saved and restored.
//!
//! The state: 80 agents with four tasks each, 60 KB as JSON. Ours saves it
//! with `Snapshots` in a store in memory and restores it, envelope, keys and
//! time to live included. The rivals only turn it into bytes and back: as JSON,
//! which is what ours does inside, and as MessagePack; and Node, as JSON. What
//! comes back must be what was saved.

use std::{hint::black_box, time::Duration};

use serde::{Deserialize, Serialize};
use swarmbus::state::{MemoryState, Snapshots};
use tokio::runtime::{Builder, Runtime};

use super::script::Script;
use crate::harness::{Case, Effort, Row, Unit, timed};

const AGENTS: u32 = 80;
const TASKS: u32 = 4;
/// What was asked for, in microseconds.
const LIMIT: f64 = 200.0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Swarm {
    name: String,
    step: u64,
    agents: Vec<Agent>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Agent {
    id: String,
    role: String,
    status: String,
    handled: u64,
    load: f64,
    tasks: Vec<Task>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    id: String,
    goal: String,
    tries: u32,
    done: bool,
}

/// What is compared with rivals.
pub fn cases() -> Vec<Case> {
    let json = "serde_json, bytes alone";
    let mut case = Case::nanoseconds("60 KB state, saved and restored", ours())
        .against(json, None, as_json())
        .against("rmp-serde with names, bytes alone", None, as_msgpack());
    if let Some(node) = node() {
        case = case.against("Node's JSON, text alone", None, node);
    }
    vec![case]
}

/// What is held against a limit.
pub fn limits(effort: Effort) -> Vec<Row> {
    let mut ours = ours();
    let n = 2_000 / effort.divide;
    let micros = |took: Duration| took.as_secs_f64() * 1e6 / n as f64;
    let measured = (0..effort.rounds).map(|_| micros(ours(n))).collect();
    vec![Row::limit("60 KB state, saved and restored", Unit::Microseconds, LIMIT, measured)]
}

fn ours() -> impl FnMut(u64) -> Duration {
    let swarm = swarm();
    let runtime = runtime();
    let snapshots = Snapshots::builder(MemoryState::new(), "swarm").build().expect("a legal name");
    move |n| {
        let save_and_restore = async || {
            snapshots.save(&swarm).await.expect("memory takes it");
            snapshots.restore().await.expect("it can be read").expect("it is there").value
        };
        assert_eq!(runtime.block_on(save_and_restore()), swarm);
        timed(n, || {
            black_box(runtime.block_on(save_and_restore()));
        })
    }
}

fn as_json() -> impl FnMut(u64) -> Duration {
    let swarm = swarm();
    move |n| {
        let there_and_back = || -> Swarm {
            let json = serde_json::to_vec(&swarm).expect("it is JSON");
            serde_json::from_slice(&json).expect("it can be read")
        };
        assert_eq!(there_and_back(), swarm);
        timed(n, || {
            black_box(there_and_back());
        })
    }
}

fn as_msgpack() -> impl FnMut(u64) -> Duration {
    let swarm = swarm();
    move |n| {
        let there_and_back = || -> Swarm {
            let bytes = rmp_serde::to_vec_named(&swarm).expect("it is MessagePack");
            rmp_serde::from_slice(&bytes).expect("it can be read")
        };
        assert_eq!(there_and_back(), swarm);
        timed(n, || {
            black_box(there_and_back());
        })
    }
}

/// `None` without Node, which is said.
fn node() -> Option<impl FnMut(u64) -> Duration> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    serde_json::to_writer(&mut file, &swarm()).expect("it is JSON");
    let path = file.path().to_str().expect("its name is UTF-8");
    let mut script = Script::start("json.mjs", &[path])?;
    // An answer shows that it has read the file, which may go then.
    script.ask("1");
    Some(move |n: u64| script.ask(&n.to_string()))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn swarm() -> Swarm {
    let task = |agent, task| Task {
        id: format!("task-{agent}-{task}"),
        goal: format!(
            "read the reports of region {task}, compare them with those of last week, and write \
             down for agent {agent} what changed"
        ),
        tries: task,
        done: u32::is_multiple_of(agent, 3),
    };
    let agent = |n: u32| Agent {
        id: format!("agent-{n}"),
        role: "analyst".to_owned(),
        status: if n.is_multiple_of(2) { "busy" } else { "waiting" }.to_owned(),
        handled: u64::from(n) * 1_237,
        load: f64::from(n) / 7.0,
        tasks: (0..TASKS).map(|t| task(n, t)).collect(),
    };
    Swarm { name: "planner".to_owned(), step: 17, agents: (0..AGENTS).map(agent).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_as_large_as_it_is_said_to_be() {
        let len = serde_json::to_vec(&swarm()).expect("it is JSON").len();
        assert!((55_000..66_000).contains(&len), "{len} bytes");
    }
}
