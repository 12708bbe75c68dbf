//! [`Driver`]: the task that reads a connection.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use redis::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    Messages, OnPush, Push, Shared,
    scan::{Place, ScanError, Scanner, message, number, text},
};
use crate::error::ConnectionError;

/// Bytes of one read. What is kept of a message keeps all of them in memory.
const READ: usize = 64 << 10;

/// Reads between looks at what is still to be written, and at other tasks.
const READS: usize = 16;

pub(super) struct Driver {
    shared: Arc<Shared>,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    on_push: OnPush,
    buffer: BytesMut,
    scanner: Scanner,
    /// Messages that are in the buffer.
    places: Vec<Place>,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        reader: Box<dyn AsyncRead + Send + Unpin>,
        on_push: OnPush,
    ) -> Self {
        let (buffer, scanner, places) = (BytesMut::new(), Scanner::default(), Vec::new());
        Self { shared, reader, on_push, buffer, scanner, places }
    }

    pub(super) async fn run(mut self) {
        let error = poll_fn(|context| {
            // Nobody may wait for answers that nobody reads any more.
            catch_unwind(AssertUnwindSafe(|| self.poll(context))).unwrap_or_else(|_| {
                Poll::Ready(ConnectionError::Protocol("reading it panicked".to_owned()))
            })
        })
        .await;
        self.shared.end(&error);
        (self.on_push)(Push::Ended(&error));
    }

    /// Why it has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ConnectionError> {
        for _ in 0..READS {
            if let Err(error) = self.shared.flush(context) {
                return Poll::Ready(ConnectionError::Lost(error.to_string()));
            }
            // At most as much again as has come.
            if self.buffer.capacity() - self.buffer.len() < READ / 4 {
                self.buffer.reserve(READ.max(self.buffer.len()));
            }
            match ready!(pin!(self.reader.read_buf(&mut self.buffer)).poll(context)) {
                Ok(0) => {
                    return Poll::Ready(ConnectionError::Lost("closed by the other side".into()));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(ConnectionError::Lost(error.to_string())),
            }
            if let Err(error) = self.understand() {
                return Poll::Ready(error);
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Passes on what is complete, and what comes before something that makes no
    /// sense.
    fn understand(&mut self) -> Result<(), ConnectionError> {
        let mut at = 0;
        let understood = self.understand_from(&mut at);
        self.hand_over(at);
        understood
    }

    /// `at` is behind what is understood.
    fn understand_from(&mut self, at: &mut usize) -> Result<(), ConnectionError> {
        while *at < self.buffer.len() {
            let nonsense = |error: ScanError| ConnectionError::Protocol(error.to_string());
            if let Some((place, end)) = message(&self.buffer, *at).map_err(nonsense)? {
                self.places.push(place);
                *at = end;
                // It may have begun with this one when not all of it was there.
                self.scanner = Scanner::default();
                continue;
            }
            let rest = self.buffer.get(*at..).unwrap_or_default();
            let Some(len) = self.scanner.end(rest).map_err(nonsense)? else { break };
            // In the order in which they came.
            if !self.places.is_empty() {
                self.hand_over(*at);
                *at = 0;
            }
            self.answer(*at, *at + len)?;
            *at += len;
        }
        Ok(())
    }

    /// Hands over the messages in the front of the buffer, and forgets that.
    fn hand_over(&mut self, len: usize) {
        if self.places.is_empty() {
            return self.buffer.advance(len);
        }
        let bytes = &self.buffer.split_to(len).freeze();
        (self.on_push)(Push::Messages(Messages { bytes, places: &self.places }));
        self.places.clear();
    }

    /// An answer, or something unasked that is no message.
    fn answer(&mut self, from: usize, to: usize) -> Result<(), ConnectionError> {
        let bytes = self.buffer.get(from..to).unwrap_or_default();
        let value = match bytes {
            [b'>', ..] => return self.push(bytes),
            [b':', line @ .., b'\r', b'\n'] => number(line).map(Value::Int),
            _ => redis::parse_redis_value(bytes).ok(),
        };
        let Some(value) = value else {
            return Err(ConnectionError::Protocol("an answer cannot be read".to_owned()));
        };
        self.answered(value)
    }

    fn answered(&self, value: Value) -> Result<(), ConnectionError> {
        let mut state = self.shared.state.lock();
        let Some(pending) = state.pending.front_mut() else {
            return Err(ConnectionError::Protocol("an answer to no question".to_owned()));
        };
        pending.answers.push(value);
        if pending.answers.len() < pending.expected {
            return Ok(());
        }
        let complete = state.pending.pop_front();
        drop(state);
        if let Some(complete) = complete {
            // Perhaps nobody waits any more.
            let _ = complete.to.send(complete.answers);
        }
        Ok(())
    }

    /// A confirmation, or news.
    fn push(&self, bytes: &[u8]) -> Result<(), ConnectionError> {
        // Its kind is behind the line with the number of its parts.
        let begin = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let Ok(Some((kind, after))) = text(bytes, begin) else { return Ok(()) };
        let Ok(Some((name, _))) = text(bytes, after) else { return Ok(()) };
        let of = |place| std::str::from_utf8(bytes.get(place).unwrap_or_default()).ok();
        let (Some(kind), Some(name)) = (of(kind), of(name)) else { return Ok(()) };
        let asked = {
            let state = self.shared.state.lock();
            let asked = state.pending.front().and_then(|pending| {
                let (how, names) = pending.names.as_ref()?;
                Some(
                    how.is_confirmed_by(kind)
                        && names.get(pending.answers.len()).is_some_and(|n| n == name),
                )
            });
            asked.unwrap_or(false)
        };
        if asked {
            return self.answered(Value::Okay);
        }
        if kind == "sunsubscribe" {
            (self.on_push)(Push::Left(name));
        }
        Ok(())
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
#[cfg(test)]
mod tests;
