//! Clients of Redis for Node, in programs of their own.

use std::{path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{arena::Arena, pace::RATE};
use crate::compare::script::{FOLDER, Script};

const FILE: &str = "redis/rival.mjs";

/// One client, for all that is asked of it.
pub(super) struct Client(Arc<Mutex<Running>>);

struct Running {
    script: Script,
    /// Goes after those who use its server.
    _arena: Arc<Arena>,
}

impl Client {
    /// `None` where it is not installed, which is said.
    pub(super) fn start(arena: &Arc<Arena>, library: &str) -> Option<Self> {
        if !Path::new(FOLDER).join("redis/node_modules").exists() {
            eprintln!("  left out: {library}, as `npm ci` was not run in benches/node/redis");
            return None;
        }
        let script = Script::start(FILE, &[library, &arena.server.url()])?;
        let _arena = Arc::clone(arena);
        Some(Self(Arc::new(Mutex::new(Running { script, _arena }))))
    }

    /// Publishes as fast as it is taken.
    pub(super) fn flood(&self) -> impl FnMut(u64) -> Duration + use<> {
        let running = Arc::clone(&self.0);
        move |n| running.lock().script.ask(&format!("throughput {n}"))
    }

    /// Publishes at an even rate.
    pub(super) fn paced(&self) -> impl FnMut(u64) -> Duration + use<> {
        let running = Arc::clone(&self.0);
        move |n| running.lock().script.ask(&format!("latency {n} {RATE}"))
    }
}
