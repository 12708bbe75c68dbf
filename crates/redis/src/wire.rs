//! [`Connection`]: commands to a server, their answers, and what it sends unasked.
//!
//! Whoever has a command writes it to the socket itself, as far as the system
//! takes it; a task reads, and writes what was left over. So nothing is handed from
//! task to task on its way out, and a message once on its way in. All that came in
//! one read is passed on together.

mod driver;
pub(crate) mod request;
mod scan;
pub(crate) mod socket;

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use redis::{Cmd, Value};
use tokio::{
    io::AsyncWrite,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use self::{driver::Driver, request::Request, scan::Place, socket::Stream};
use crate::error::ConnectionError;

#[cfg(feature = "fuzzing")]
pub(crate) use self::driver::check::check;

/// Requests on their way over one connection. Others wait.
const IN_FLIGHT: usize = 1_024;

/// What comes without being asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Push<'a> {
    /// Messages of one read, in order.
    Messages(Messages<'a>),
    /// The server has ended a subscription by itself.
    Left(&'a str),
    /// The connection has ended; nothing follows.
    Ended(&'a ConnectionError),
}

/// What is done with it, in the task that reads the connection: briefly, and
/// without waiting.
pub(crate) type OnPush = Arc<dyn Fn(Push<'_>) + Send + Sync>;

/// Messages, as they lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages<'a> {
    bytes: &'a Bytes,
    places: &'a [Place],
}

impl<'a> Messages<'a> {
    /// Those in a row that have the same name, with it; and the rest.
    pub(crate) fn split(self) -> Option<(&'a [u8], Self, Self)> {
        let name = self.name(self.places.first()?);
        let same = self.places.iter().take_while(|place| self.name(place) == name).count();
        let (row, rest) = self.split_at(same);
        Some((name, row, rest))
    }

    /// Those in a row whose names begin like this, and the rest.
    pub(crate) fn split_prefix(self, prefix: &[u8]) -> (Self, Self) {
        let same = self.places.iter().take_while(|place| self.name(place).starts_with(prefix));
        self.split_at(same.count())
    }

    /// The name of the first.
    pub(crate) fn first_name(self) -> Option<&'a [u8]> {
        self.places.first().map(|place| self.name(place))
    }

    /// What they say. It shares memory with all that came in the same read.
    pub(crate) fn payloads(self) -> impl Iterator<Item = Bytes> + 'a {
        self.places.iter().map(move |place| self.bytes.slice(place.payload.clone()))
    }

    /// Without the first.
    pub(crate) fn skip_one(self) -> Self {
        self.split_at(1.min(self.places.len())).1
    }

    fn name(self, place: &Place) -> &'a [u8] {
        self.bytes.get(place.name.clone()).unwrap_or_default()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (first, rest) = self.places.split_at(at);
        (Self { places: first, ..self }, Self { places: rest, ..self })
    }
}

/// A connection. Clones share it; when the last is dropped, it ends.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    /// For an answer; none: as long as it takes.
    patience: Option<Duration>,
    _alive: Arc<Alive>,
}

/// Ends the task.
struct Alive(AbortHandle);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    state: Mutex<State>,
    room: Arc<Semaphore>,
}

struct State {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// What the system did not take yet.
    left: BytesMut,
    /// Who waits for answers, in order.
    pending: VecDeque<Pending>,
    /// The task that reads.
    waker: Waker,
    ended: Option<ConnectionError>,
}

/// A request whose answers are not all there.
struct Pending {
    expected: usize,
    answers: Vec<Value>,
    /// Of a request that the server confirms name by name: which, and the names.
    names: Option<(Subscription, Vec<String>)>,
    to: oneshot::Sender<Vec<Value>>,
    _room: Option<OwnedSemaphorePermit>,
    /// Dropped after the answers are there, or never will be.
    _wakes: Option<Wakes>,
}

/// Wakes somebody who waits for something else, too.
struct Wakes(Arc<Notify>);

impl Drop for Wakes {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Connection {
    /// Takes a stream over, and reads it in a task of its own.
    fn new(stream: Stream, patience: Option<Duration>, on_push: OnPush) -> Self {
        let Stream { reader, writer } = stream;
        let state = State {
            writer,
            left: BytesMut::new(),
            pending: VecDeque::new(),
            waker: Waker::noop().clone(),
            ended: None,
        };
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        let shared = Arc::new(Shared { state: Mutex::new(state), room });
        let task = tokio::spawn(Driver::new(Arc::clone(&shared), reader, on_push).run());
        Self { shared, patience, _alive: Arc::new(Alive(task.abort_handle())) }
    }

    /// One command and its answer, which may be a [`Value::ServerError`].
    /// Dropped, the command may have been executed.
    pub(crate) async fn ask(&self, command: &Cmd) -> Result<Value, ConnectionError> {
        let mut answers = self.ask_all(Request::of(command)).await?;
        answers.pop().ok_or(ConnectionError::Closed)
    }

    /// The same for several. They are executed one after another.
    pub(crate) async fn ask_all(&self, request: Request) -> Result<Vec<Value>, ConnectionError> {
        // It is never closed.
        let room = Arc::clone(&self.shared.room).acquire_owned().await.ok();
        self.begin(&request, None, room, None).all().await
    }

    /// SUBSCRIBE and the like, with a command and an answer for each name.
    pub(crate) async fn subscribe(
        &self,
        command: Subscription,
        names: &[String],
    ) -> Result<Vec<Value>, ConnectionError> {
        let mut request = Request::new();
        for name in names {
            request.begin(2);
            request.arg(command.name().as_bytes());
            request.arg(name.as_bytes());
        }
        let names = Some((command, names.to_vec()));
        self.begin(&request, names, None, None).all().await
    }

    /// Sends at once, in the order of calls, and has the answers come later. For
    /// those who see to it that not too many are on their way. `wakes` is notified when
    /// they are there, or never will be.
    pub(crate) fn send(&self, request: &Request, wakes: Option<Arc<Notify>>) -> Answers {
        self.begin(request, None, None, wakes)
    }

    fn begin(
        &self,
        request: &Request,
        names: Option<(Subscription, Vec<String>)>,
        room: Option<OwnedSemaphorePermit>,
        wakes: Option<Arc<Notify>>,
    ) -> Answers {
        let (to, answers) = oneshot::channel();
        let deadline = self.patience.map(|patience| (Instant::now() + patience, patience));
        let expected = request.commands();
        if expected == 0 {
            let _ = to.send(Vec::new());
        } else {
            let answers = Vec::with_capacity(expected);
            let (_room, _wakes) = (room, wakes.map(Wakes));
            self.shared.send(request, Pending { expected, answers, names, to, _room, _wakes });
        }
        Answers { answers, deadline, connection: self.clone() }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Commands that are confirmed by pushes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subscription {
    Subscribe,
    Unsubscribe,
    SSubscribe,
    SUnsubscribe,
}

impl Subscription {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::SSubscribe => "SSUBSCRIBE",
            Self::SUnsubscribe => "SUNSUBSCRIBE",
        }
    }

    /// The server confirms it by its name, in small letters.
    fn is_confirmed_by(self, kind: &str) -> bool {
        self.name().eq_ignore_ascii_case(kind)
    }
}

/// Answers to a request that is on its way.
pub(crate) struct Answers {
    answers: oneshot::Receiver<Vec<Value>>,
    deadline: Option<(Instant, Duration)>,
    /// It lasts as long as somebody waits.
    connection: Connection,
}

impl Answers {
    /// An answer for each command. Cancel safe; not to be called again after it
    /// returned.
    pub(crate) async fn all(&mut self) -> Result<Vec<Value>, ConnectionError> {
        let answers = match self.deadline {
            None => (&mut self.answers).await,
            Some((deadline, patience)) => timeout_at(deadline, &mut self.answers)
                .await
                .map_err(|_| ConnectionError::TimedOut(patience))?,
        };
        answers.map_err(|_| self.connection.shared.why())
    }
}

impl Shared {
    fn send(&self, request: &Request, pending: Pending) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            // Whoever waits learns it by the drop.
            return;
        }
        state.pending.push_back(pending);
        let mut bytes = request.bytes();
        let waker = state.waker.clone();
        let mut context = Context::from_waker(&waker);
        while state.left.is_empty() && !bytes.is_empty() {
            match Pin::new(&mut state.writer).poll_write(&mut context, bytes) {
                Poll::Ready(Ok(len)) if len > 0 => bytes.advance(len),
                // The task that reads does the rest, and finds errors.
                _ => break,
            }
        }
        state.left.extend_from_slice(bytes);
        // TLS keeps what was written until it is flushed.
        let done = bytes.is_empty()
            && matches!(Pin::new(&mut state.writer).poll_flush(&mut context), Poll::Ready(Ok(())));
        drop(state);
        if !done {
            waker.wake();
        }
    }

    /// Writes what is left, as far as that is possible.
    fn flush(&self, context: &mut Context<'_>) -> io::Result<()> {
        let mut state = self.state.lock();
        let State { writer, left, waker, .. } = &mut *state;
        if !waker.will_wake(context.waker()) {
            waker.clone_from(context.waker());
        }
        while !left.is_empty() {
            match Pin::new(&mut *writer).poll_write(context, left) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => left.advance(len),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        match Pin::new(writer).poll_flush(context) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    /// Nothing more goes or comes.
    fn end(&self, error: &ConnectionError) {
        let mut state = self.state.lock();
        state.ended.get_or_insert_with(|| error.clone());
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        drop(pending);
    }

    fn why(&self) -> ConnectionError {
        self.state.lock().ended.clone().unwrap_or(ConnectionError::Closed)
    }
}

#[cfg(test)]
mod tests;
