//! The task that looks after the state: the only one that changes it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use swarmbus_core::lifecycle::{Lifecycle, Refused, State, StateKind, Transition};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{OnTransition, look::Eyes};
use crate::clock::BusClock;

/// The lifecycle and how often it has changed, so that a reader can say which
/// one it means.
#[derive(Clone)]
pub(super) struct View {
    pub(super) lifecycle: Lifecycle,
    pub(super) version: u64,
}

/// What somebody decided by hand.
pub(super) struct Command {
    pub(super) to: StateKind,
    pub(super) reason: String,
    pub(super) reply: oneshot::Sender<Result<(Transition, u64), Refused>>,
}

pub(super) struct Driver {
    view: watch::Sender<View>,
    states: watch::Sender<State>,
    eyes: Eyes,
    on_transition: Vec<OnTransition>,
    settle_for: Duration,
    /// Since when nothing has been wrong.
    well_since: Option<Instant>,
}

impl Driver {
    pub(super) fn new(
        view: watch::Sender<View>,
        states: watch::Sender<State>,
        eyes: Eyes,
        on_transition: Vec<OnTransition>,
        settle_for: Duration,
    ) -> Self {
        Self { view, states, eyes, on_transition, settle_for, well_since: None }
    }

    /// Runs until nobody holds the [`System`](super::System) any more.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut health: watch::Receiver<()>,
        look_every: Duration,
    ) {
        let mut tick = interval(look_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Each of these loses nothing when another is first.
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                // The checks may have ended before us: then only the tick is left.
                Ok(()) = health.changed() => self.look(),
                _ = tick.tick() => self.look(),
            }
        }
    }

    fn obey(&mut self, Command { to, reason, reply }: Command) {
        // Maintenance is entered from anywhere, initializing only from there:
        // the machine's table says so.
        let done = self.go(to, reason);
        // Who asked may have gone; it is done all the same.
        let _ = reply.send(done);
        self.look();
    }

    /// Follows what is seen, as far as it leads.
    fn look(&mut self) {
        let mut signs = self.eyes.look();
        let well = signs.fatal.is_none() && signs.down.is_none() && signs.trying.is_none();
        let now = Instant::now();
        self.well_since = if well { self.well_since.or(Some(now)) } else { None };
        signs.settled = self.well_since.is_some_and(|since| now - since >= self.settle_for);
        // No chain of steps is longer than there are states.
        for _ in StateKind::ALL {
            let state = self.states.borrow().kind();
            let Some((to, reason)) = signs.heading(state) else { return };
            if self.go(to, reason).is_err() {
                return;
            }
        }
    }

    /// Makes one change known to everybody, callbacks last.
    fn go(&self, to: StateKind, reason: String) -> Result<(Transition, u64), Refused> {
        let mut view = self.view.borrow().clone();
        let transition = view.lifecycle.transition(to, reason, BusClock::wall())?;
        view.version += 1;
        let (state, version) = (view.lifecycle.state().clone(), view.version);
        self.view.send_replace(view);
        self.states.send_replace(state);
        tracing::info!("system: {transition}");
        for callback in &self.on_transition {
            if catch_unwind(AssertUnwindSafe(|| callback(&transition))).is_err() {
                tracing::error!("a callback panicked after a change of the system's state");
            }
        }
        Ok((transition, version))
    }
}
