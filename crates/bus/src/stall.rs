//! Calls that take too long, and commands that wait for each other.
//!
//! A runner says in its own cell of the ledger which handler it has, which is
//! one more store beside its counts; a thread that belongs to the bus looks at
//! the cells now and then. A thread, because a handler that never yields may
//! hold up every thread of the runtime, and with them any task.
//!
//! Commands are rarer and nest, and calls in tasks of their own have no runner.
//! Each has a node in a graph for as long as it goes on.

mod frame;
mod graph;
mod watchdog;

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::Sender,
    },
    time::Duration,
};

use parking_lot::Mutex;
use swarmbus_core::EventType;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::graph::{Graph, Name, NodeId, Wait};
pub(crate) use self::{
    frame::{Frame, current as current_frame, within},
    watchdog::Watchdog,
};
use crate::{error::CommandError, ledger::Books};

/// A call that has not ended within [`BusBuilder::stall_limit`](crate::BusBuilder::stall_limit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Who called whom, outermost first: names of handlers, and `command TYPE`.
    /// The call itself is at [`at`](Self::at); what comes after it is what it
    /// waits for.
    pub chain: Vec<String>,
    /// Where in the chain the call is.
    pub at: usize,
    /// How long it has taken so far, or took: at least, as nobody looks all the
    /// time.
    pub lasted: Duration,
}

/// The calls that take too long now, and how often any did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StallReport {
    /// Those that go on, at most [`MAX_STALLS`].
    pub now: Vec<Stall>,
    /// How many there were, those included.
    pub total: u64,
    /// Commands that were refused because they would have waited for
    /// themselves: [`CommandError::Cycle`].
    pub cycles: u64,
    /// Commands that may wait for themselves. It is not certain, so they wait.
    pub suspected_cycles: u64,
}

/// How many stalls are looked at together. Those beyond it have their turn when
/// others have ended. Of commands that wait for one turn, the first speaks for
/// all.
pub const MAX_STALLS: usize = 100;

/// A stall as `handler → command charge → command refund`.
impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} takes {:?} so far: {}", self.name(), self.lasted, self.chain.join(" → "))
    }
}

impl Stall {
    /// The name of the call.
    pub fn name(&self) -> &str {
        self.chain.get(self.at).map_or("", String::as_str)
    }
}

pub(crate) type Callback = Box<dyn Fn(&Stall) + Send + Sync>;

/// Who is called by whom, in one bus.
pub(crate) struct Stalls {
    pub(crate) limit: Duration,
    pub(crate) on_stall: Option<Callback>,
    graph: Mutex<Graph>,
    now: Mutex<Vec<Stall>>,
    total: AtomicU64,
    cycles: AtomicU64,
    suspected: AtomicU64,
    /// The watchdog ends with it.
    _stop: Option<Sender<()>>,
}

impl Stalls {
    /// With the watchdog that is still to be started; a limit of
    /// [`Duration::MAX`] needs none.
    pub(crate) fn new(limit: Duration, on_stall: Option<Callback>) -> (Self, Option<Watchdog>) {
        let (watchdog, stop) = match limit {
            Duration::MAX => (None, None),
            limit => {
                let (watchdog, stop) = Watchdog::new(limit);
                (Some(watchdog), Some(stop))
            }
        };
        let stalls = Self {
            limit,
            on_stall,
            graph: Mutex::default(),
            now: Mutex::default(),
            total: AtomicU64::new(0),
            cycles: AtomicU64::new(0),
            suspected: AtomicU64::new(0),
            _stop: stop,
        };
        (stalls, watchdog)
    }

    pub(crate) fn report(&self) -> StallReport {
        StallReport {
            now: self.now.lock().clone(),
            total: self.total(),
            cycles: self.cycles(),
            suspected_cycles: self.suspected.load(Relaxed),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    pub(crate) fn cycles(&self) -> u64 {
        self.cycles.load(Relaxed)
    }

    /// A command is about to be answered, for whoever the caller is.
    pub(crate) fn command<'a>(&'a self, command: &EventType, books: &'a Books) -> Ongoing<'a> {
        self.begin(Name::Command(command.clone()), books)
    }

    /// A handler is about to be called by a runner that is nobody's in
    /// particular, and so has no cell to say so in.
    pub(crate) fn handler<'a>(&'a self, name: &Arc<str>, books: &'a Books) -> Ongoing<'a> {
        self.begin(Name::Handler(Arc::clone(name)), books)
    }

    fn begin<'a>(&'a self, name: Name, books: &'a Books) -> Ongoing<'a> {
        let (cells, parent) = callers(books, current_frame());
        let id = self.graph.lock().begin(name, cells, parent);
        Ongoing { stalls: self, books, id }
    }

    /// Says that a call has taken too long.
    #[cold]
    fn tell(&self, stall: &Stall) {
        self.total.fetch_add(1, Relaxed);
        let chain = stall.chain.join(" → ");
        tracing::warn!(name = stall.name(), chain, lasted = ?stall.lasted, "a call has stalled");
        if let Some(callback) = &self.on_stall
            && catch_unwind(AssertUnwindSafe(|| callback(stall))).is_err()
        {
            tracing::error!("a stall callback panicked");
        }
    }
}

/// The handlers around a place, innermost first, up to the command that they
/// are called by, if any.
fn callers(books: &Books, mut frame: Frame) -> (Vec<usize>, Option<NodeId>) {
    let mut cells = Vec::new();
    loop {
        match frame {
            Frame::Nobody => return (cells, None),
            Frame::Call(id) => return (cells, Some(id)),
            Frame::Runner(cell) => {
                // What is told while it changes may be a ring.
                if cells.contains(&cell) {
                    return (cells, None);
                }
                cells.push(cell);
                frame = books.caller(cell);
            }
        }
    }
}

/// A command that is being answered, or a handler that is being called. Dropping
/// it says that it no longer is.
pub(crate) struct Ongoing<'a> {
    stalls: &'a Stalls,
    books: &'a Books,
    id: NodeId,
}

impl Ongoing<'_> {
    /// Waits for the turn of a handler that answers one command at a time.
    ///
    /// Cancel safe: dropped while it waits, others have their turn.
    ///
    /// # Errors
    ///
    /// [`CommandError::Cycle`], if the turn can never come.
    pub(crate) async fn turn<'t>(&'t self, turn: &'t Turn) -> Result<Taken<'t>, CommandError> {
        let permit = match turn.free.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = self.wait_for(turn)?;
                // Never closed.
                turn.free.acquire().await.map_err(|_| CommandError::Closed)?
            }
        };
        self.stalls.graph.lock().hold(turn.id(), self.id);
        Ok(Taken { call: self, turn, _permit: permit })
    }

    fn wait_for<'t>(&'t self, turn: &Turn) -> Result<Waiting<'t>, CommandError> {
        let (waited, chain) = {
            let mut graph = self.stalls.graph.lock();
            let waited = graph.wait(self.id, turn.id());
            let chain = match waited {
                Wait::Fine => Vec::new(),
                Wait::Suspected | Wait::Never => graph.chain(self.id),
            };
            (waited, chain)
        };
        let names = || chain.iter().map(|name| name.text(self.books)).collect::<Vec<_>>();
        match waited {
            Wait::Fine => {}
            Wait::Suspected => {
                self.stalls.suspected.fetch_add(1, Relaxed);
                let chain = names().join(" → ");
                tracing::warn!(chain, "a command may wait for itself");
            }
            Wait::Never => {
                self.stalls.cycles.fetch_add(1, Relaxed);
                let chain = names();
                tracing::error!(chain = chain.join(" → "), "a command waits for itself");
                return Err(CommandError::Cycle { chain });
            }
        }
        Ok(Waiting(self))
    }

    /// Polls the handler so that what it calls knows who calls.
    pub(crate) fn framed<F: Future>(&self, future: F) -> impl Future<Output = F::Output> {
        frame::framed(Frame::Call(self.id), future)
    }
}

impl Drop for Ongoing<'_> {
    fn drop(&mut self) {
        let ended = self.stalls.graph.lock().end(self.id);
        drop(ended);
    }
}

/// A command that waits for its turn.
struct Waiting<'a>(&'a Ongoing<'a>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.stalls.graph.lock().stop_waiting(self.0.id);
    }
}

/// Whose turn it is, for a handler that answers one command at a time.
pub(crate) struct Turn {
    free: Semaphore,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self { free: Semaphore::new(1) }
    }

    /// Tells living turns apart.
    fn id(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }
}

/// A turn that was taken, until it is dropped.
pub(crate) struct Taken<'a> {
    call: &'a Ongoing<'a>,
    turn: &'a Turn,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // Before the permit: the next to hold it says so after this.
        self.call.stalls.graph.lock().release(self.turn.id());
    }
}
