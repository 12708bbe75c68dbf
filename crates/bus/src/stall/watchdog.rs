//! The thread that looks for calls which take too long.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc, Weak,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    MAX_STALLS, Stall, callers,
    graph::{Graph, Name, NodeId},
};
use crate::{inner::Inner, ledger::Books};

/// It looks four times in the time a call may take, but at least once a second.
const LONGEST_PERIOD: Duration = Duration::from_secs(1);

/// Looks at one bus until the other end of its channel is dropped.
pub(crate) struct Watchdog {
    period: Duration,
    stop: Receiver<()>,
}

impl Watchdog {
    pub(super) fn new(limit: Duration) -> (Self, Sender<()>) {
        let (stopper, stop) = channel();
        let period = (limit / 4).clamp(Duration::from_millis(1), LONGEST_PERIOD);
        (Self { period, stop }, stopper)
    }

    /// Starts the thread.
    pub(crate) fn start(self, inner: &Arc<Inner>) -> io::Result<()> {
        let bus = Arc::downgrade(inner);
        let mut sight = Sight::new(&inner.books);
        let body = move || self.run(&bus, &mut sight);
        thread::Builder::new().name("swarmbus-stalls".to_owned()).spawn(body)?;
        Ok(())
    }

    fn run(self, bus: &Weak<Inner>, sight: &mut Sight) {
        while self.stop.recv_timeout(self.period) == Err(RecvTimeoutError::Timeout) {
            match bus.upgrade() {
                Some(inner) => sight.look(&inner, Instant::now()),
                None => return,
            }
        }
    }
}

/// What was seen the last time.
struct Sight {
    /// When that was.
    last: Instant,
    /// Since when the process has run: what came before is not counted.
    awake: Instant,
    /// A place for each runner that has a cell of its own.
    runners: Vec<Seen>,
    /// The commands that were told of.
    told: HashMap<NodeId, Stall>,
}

struct Seen {
    /// The handler, and which of the runner's calls it is.
    call: (u64, u64),
    since: Instant,
    told: Option<Stall>,
}

/// A call that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    Handler(usize),
    Command(NodeId),
}

/// A stall whose names have not been looked up.
struct Draft {
    call: Call,
    chain: Vec<Name>,
    at: usize,
    lasted: Duration,
}

impl Sight {
    fn new(books: &Books) -> Self {
        let nothing = || Seen { call: (0, 0), since: Instant::now(), told: None };
        // The last cell is shared: what stands there is nobody's in particular.
        let runners = (1..books.runners()).map(|_| nothing()).collect();
        let now = Instant::now();
        Self { last: now, awake: now, runners, told: HashMap::new() }
    }

    /// Notices that nobody has looked for so long that the process, or the
    /// machine, must have been stopped: then no call could go on.
    fn wake(&mut self, now: Instant, limit: Duration) {
        let asleep = now.saturating_duration_since(self.last);
        self.last = now;
        if asleep > (limit / 2).max(2 * LONGEST_PERIOD) {
            self.awake = now;
            self.runners.iter_mut().for_each(|seen| seen.since = now);
        }
    }

    /// Allocates nothing as long as all is well.
    fn look(&mut self, inner: &Inner, now: Instant) {
        let stalls = &inner.stalls;
        self.wake(now, stalls.limit);
        let mut late = false;
        for (cell, seen) in self.runners.iter_mut().enumerate() {
            let call = inner.books.at_work(cell);
            if call != seen.call {
                if let Some(stall) = seen.told.take() {
                    ended(&stall, seen.since, now);
                }
                (seen.call, seen.since) = (call, now);
            }
            late |= call.0 != 0 && now.saturating_duration_since(seen.since) >= stalls.limit;
        }
        let then = now.checked_sub(stalls.limit).filter(|then| *then >= self.awake);
        let drafts = {
            let graph = stalls.graph.lock();
            self.told.retain(|id, stall| {
                let lives = graph.get(*id).is_some();
                if !lives {
                    tracing::info!(name = stall.name(), "a stalled call has ended");
                }
                lives
            });
            late |= then.is_some_and(|then| graph.older_than(then).next().is_some());
            if !late {
                stalls.now.lock().clear();
                return;
            }
            self.drafts(&graph, inner, now, then)
        };
        let mut all = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let chain = draft.chain.iter().map(|name| name.text(&inner.books)).collect();
            let stall = Stall { chain, at: draft.at, lasted: draft.lasted };
            let told = match draft.call {
                Call::Handler(cell) => self.runners[cell].told.replace(stall.clone()),
                Call::Command(id) => self.told.insert(id, stall.clone()),
            };
            if told.is_none() {
                stalls.tell(&stall);
            }
            all.push(stall);
        }
        *stalls.now.lock() = all;
    }

    /// The innermost of the calls that take too long, the oldest commands first:
    /// those around them only wait.
    fn drafts(
        &self,
        graph: &Graph,
        inner: &Inner,
        now: Instant,
        then: Option<Instant>,
    ) -> Vec<Draft> {
        let books = &inner.books;
        let lasted = |since| now.saturating_duration_since(since);
        let handlers: Vec<usize> = (0..self.runners.len())
            .filter(|cell| {
                let seen = &self.runners[*cell];
                seen.call.0 != 0 && lasted(seen.since) >= inner.stalls.limit
            })
            .collect();
        let mut commands: Vec<_> =
            then.into_iter().flat_map(|then| graph.older_than(then)).collect();
        commands.sort_unstable_by_key(|(id, _)| *id);

        let mut waiting = HashSet::new();
        for cell in &handlers {
            let (cells, command) = callers(books, books.caller(*cell));
            waiting.extend(cells.into_iter().map(Call::Handler));
            waiting.extend(command.map(Call::Command));
        }
        for (id, node) in &commands {
            waiting.extend(node.cells().iter().copied().map(Call::Handler));
            waiting.extend(graph.caller_of(*id).map(Call::Command));
        }

        let mut drafts = Vec::new();
        for cell in handlers.into_iter().filter(|cell| !waiting.contains(&Call::Handler(*cell))) {
            let (cells, command) = callers(books, books.caller(cell));
            let mut chain = command.map(|command| graph.chain(command)).unwrap_or_default();
            chain.extend(cells.into_iter().rev().map(Name::Runner));
            let at = chain.len();
            chain.push(Name::Runner(cell));
            chain.extend(graph.chain_from(cell));
            let lasted = lasted(self.runners[cell].since);
            drafts.push(Draft { call: Call::Handler(cell), chain, at, lasted });
        }
        drafts.truncate(MAX_STALLS);
        let mut awaited = HashSet::new();
        let alone = commands.into_iter().filter(|(id, node)| {
            // Of those that wait for one turn, the first speaks for all.
            let first = node.waits_for().is_none_or(|turn| awaited.insert(turn));
            first && !waiting.contains(&Call::Command(*id))
        });
        for (id, node) in alone.take(MAX_STALLS - drafts.len()) {
            let mut chain = graph.chain(id);
            let at = chain.len() - 1;
            chain.extend(graph.chain_below(id));
            let lasted = lasted(node.since);
            drafts.push(Draft { call: Call::Command(id), chain, at, lasted });
        }
        drafts
    }
}

fn ended(stall: &Stall, since: Instant, now: Instant) {
    let lasted = now.saturating_duration_since(since);
    tracing::info!(name = stall.name(), ?lasted, "a stalled call has ended");
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use swarmbus_core::EventType;

    use super::*;
    use crate::{Bus, ledger::CellIndex, stall::Turn};

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn time_in_which_the_process_did_not_run_does_not_count() {
        // So long that the bus's own watchdog has nothing to say.
        let bus = Bus::builder().stall_limit(60 * MINUTE).build().unwrap();
        let inner = bus.inner();
        let command = EventType::new("charge").unwrap();
        let _command = inner.stalls.command(&command, &inner.books);
        let cell = CellIndex { index: 0, shared: false };
        inner.books.of(cell).matched(cell, 7);
        let mut sight = Sight::new(&inner.books);
        let mut now = Instant::now();
        let mut look = |after: Duration| {
            now += after;
            sight.look(inner, now);
            bus.stalls().now.len()
        };
        for _ in 0..10 {
            assert_eq!(look(MINUTE), 0);
        }
        assert_eq!(look(120 * MINUTE), 0, "it was stopped");
        for _ in 0..59 {
            assert_eq!(look(MINUTE), 0);
        }
        assert_eq!(look(MINUTE), 2, "both take an hour of a process that runs");
        assert_eq!(bus.stalls().total, 2);
    }

    #[tokio::test]
    async fn a_crowd_that_waits_for_one_turn_does_not_hide_who_has_it() {
        let bus = Bus::builder().stall_limit(60 * MINUTE).build().unwrap();
        let inner = bus.inner();
        let (stalls, books) = (&inner.stalls, &inner.books);
        let mut sight = Sight::new(books);
        let turn = Turn::new();
        let holder = stalls.command(&EventType::from_static("holder"), books);
        let _taken = holder.turn(&turn).await.unwrap();
        let waiting = EventType::from_static("waiting");
        let crowd: Vec<_> = (0..1_000).map(|_| stalls.command(&waiting, books)).collect();
        let mut turns: Vec<_> = crowd.iter().map(|waits| Box::pin(waits.turn(&turn))).collect();
        let mut context = Context::from_waker(Waker::noop());
        for turn in &mut turns {
            assert!(turn.as_mut().poll(&mut context).is_pending());
        }
        let now = Instant::now();
        for minute in 0..=61 {
            sight.look(inner, now + minute * MINUTE);
        }
        let stalls = bus.stalls();
        let names: Vec<_> = stalls.now.iter().map(super::super::Stall::name).collect();
        assert_eq!(names, ["command holder", "command waiting"]);
        assert_eq!(stalls.total, 2);
    }
}
