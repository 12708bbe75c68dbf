//! What holds for bytes of any kind that come from a server: checked by the
//! mutation test beside this, and by the fuzz target `wire`.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use redis::Value;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::{Semaphore, oneshot},
};

use super::{Driver, READ};
use crate::wire::{Pending, Push, Shared, State, Subscription};

/// What a connection made of bytes.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    /// Names and payloads.
    messages: Vec<(Vec<u8>, Vec<u8>)>,
    left: Vec<String>,
    /// As text, because not every number is equal to itself.
    answers: Vec<String>,
    /// Why it broke.
    error: Option<String>,
}

/// Reads bytes as one piece, and in pieces of these lengths, which should come to
/// the same. Returns how many messages and answers it met.
pub(crate) fn check(bytes: &[u8], pieces: impl FnMut() -> usize) -> usize {
    let whole = hear(bytes, || bytes.len());
    let parts = hear(bytes, pieces);
    assert_eq!(whole, parts, "{}", bytes.escape_ascii());
    whole.messages.len() + whole.answers.len()
}

fn hear(bytes: &[u8], mut pieces: impl FnMut() -> usize) -> Heard {
    let shared = Arc::new(asked());
    let heard = Arc::new(Mutex::new(Heard::default()));
    let told = Arc::clone(&heard);
    let on_push = Arc::new(move |push: Push<'_>| note(&mut told.lock(), push));
    let coming = Arc::new(Mutex::new(BytesMut::new()));
    let reader = Box::new(Coming(Arc::clone(&coming)));
    let mut driver = Driver::new(Arc::clone(&shared), reader, on_push);
    let (mut rest, mut came, mut error) = (bytes, 0, None);
    while !rest.is_empty() && error.is_none() {
        let (piece, later) = rest.split_at(pieces().clamp(1, rest.len()));
        rest = later;
        came += piece.len();
        coming.lock().extend_from_slice(piece);
        // It looks at other tasks between reads.
        while error.is_none() && !coming.lock().is_empty() {
            match driver.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(why) => error = Some(why.to_string()),
                Poll::Pending => {}
            }
        }
        // What comes is kept once, and at most as much again is taken in advance.
        let taken = driver.buffer.capacity();
        assert!(taken <= 4 * (came + READ), "{taken} bytes for {came}");
        assert!(driver.places.is_empty(), "what is complete was handed over");
    }
    let mut answers = Vec::new();
    for answer in shared.state.lock().pending.iter().flat_map(|pending| &pending.answers) {
        let values = count(answer);
        assert!(values <= bytes.len(), "{values} values in {} bytes", bytes.len());
        answers.push(format!("{answer:?}"));
    }
    let heard = std::mem::take(&mut *heard.lock());
    Heard { answers, error, ..heard }
}

/// A connection that has asked for names and waits for more answers than there are.
fn asked() -> Shared {
    let names = ["a", "b", "c", "d"].map(str::to_owned).into_iter().cycle().take(64).collect();
    let pending = Pending {
        expected: usize::MAX,
        answers: Vec::new(),
        names: Some((Subscription::Subscribe, names)),
        to: oneshot::channel().0,
        _room: None,
        _wakes: None,
    };
    let state = State {
        writer: Box::new(tokio::io::sink()),
        left: BytesMut::new(),
        pending: [pending].into(),
        waker: Waker::noop().clone(),
        ended: None,
    };
    Shared { state: Mutex::new(state), room: Arc::new(Semaphore::new(0)) }
}

fn note(heard: &mut Heard, push: Push<'_>) {
    match push {
        Push::Messages(mut messages) => {
            while let Some((name, row, rest)) = messages.split() {
                heard.messages.extend(row.payloads().map(|p| (name.to_vec(), p.to_vec())));
                messages = rest;
            }
        }
        Push::Left(name) => heard.left.push(name.to_owned()),
        // The task says so, not what it does.
        Push::Ended(_) => {}
    }
}

/// A value and those inside of it.
fn count(value: &Value) -> usize {
    let inside = match value {
        Value::Array(items) | Value::Set(items) => items.iter().map(count).sum(),
        Value::Map(pairs) => pairs.iter().map(|(key, value)| count(key) + count(value)).sum(),
        Value::Push { data, .. } => data.iter().map(count).sum(),
        Value::Attribute { data, attributes } => {
            let pairs = attributes.iter().map(|(key, value)| count(key) + count(value));
            count(data) + pairs.sum::<usize>()
        }
        _ => 0,
    };
    inside + 1
}

/// What has come and was not read yet; then nothing, for now.
struct Coming(Arc<Mutex<BytesMut>>);

impl AsyncRead for Coming {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut coming = self.0.lock();
        if coming.is_empty() {
            return Poll::Pending;
        }
        let len = coming.len().min(buffer.remaining());
        buffer.put_slice(&coming.split_to(len));
        Poll::Ready(Ok(()))
    }
}
