//! Payloads from standard input.

use std::{
    io::{self, BufRead, Read},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use serde::de::IgnoredAny;
use swarmbus::{
    Payload,
    core::{codec::limits::MAX_RECORD_LEN, event::Content},
};
use tokio::sync::mpsc;

use super::As;

/// The most that one payload may have: a record of a frame holds no more.
const LONGEST: usize = MAX_RECORD_LEN;

/// Lines that are read ahead.
const AHEAD: usize = 256;

/// What the bytes are.
pub(super) fn payload(content: As, bytes: Vec<u8>) -> Result<Payload> {
    let json = || serde_json::from_slice::<IgnoredAny>(&bytes);
    let content = match content {
        As::Auto if bytes.is_empty() => Content::Binary,
        As::Auto if json().is_ok() => Content::Json,
        As::Auto if std::str::from_utf8(&bytes).is_ok() => Content::Text,
        As::Auto | As::Binary => Content::Binary,
        As::Json => {
            json().map_err(|error| anyhow!("the payload is no JSON: {error}"))?;
            Content::Json
        }
        As::Text => {
            std::str::from_utf8(&bytes)
                .map_err(|error| anyhow!("the payload is no text: {error}"))?;
            Content::Text
        }
    };
    Ok(Payload::raw(content, bytes))
}

/// All of standard input as one payload.
pub(super) struct Whole;

impl Whole {
    pub(super) async fn read() -> Result<Vec<u8>> {
        tokio::task::spawn_blocking(|| {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().take(LONGEST as u64 + 1).read_to_end(&mut bytes);
            read.context("cannot read standard input")?;
            if bytes.len() > LONGEST {
                bail!("standard input is more than {LONGEST} bytes: use --lines, or send less");
            }
            // The line end that `echo` adds is nobody's payload.
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            Ok(bytes)
        })
        .await?
    }
}

/// A line and its number.
pub(super) type Line = (u64, Vec<u8>);

/// The lines of standard input.
pub(super) struct Lines(mpsc::Receiver<Result<Line>>);

impl Lines {
    /// Reads in a thread that the end of the program does not wait for.
    pub(super) fn start() -> Result<Self> {
        let (to, lines) = mpsc::channel(AHEAD);
        let read = move || {
            let mut input = io::stdin().lock();
            for number in 1.. {
                let line = match line(&mut input) {
                    Ok(Some(line)) if line.is_empty() => continue,
                    Ok(Some(line)) => Ok((number, line)),
                    Ok(None) => return,
                    Err(error) => Err(error.context(format!("standard input, line {number}"))),
                };
                let last = line.is_err();
                if to.blocking_send(line).is_err() || last {
                    return;
                }
            }
        };
        thread::Builder::new().name("stdin".to_owned()).spawn(read).context("cannot read")?;
        Ok(Self(lines))
    }

    /// The lines that are there, waiting for one; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<Line>>> {
        let mut lines = Vec::new();
        self.0.recv_many(&mut lines, AHEAD).await;
        (!lines.is_empty()).then(|| lines.into_iter().collect())
    }
}

fn line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.take(LONGEST as u64 + 2).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    if line.len() > LONGEST {
        bail!("longer than {LONGEST} bytes");
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_payload_is_is_seen() {
        let found = |bytes: &[u8]| payload(As::Auto, bytes.to_vec()).unwrap();
        let is = |bytes: &[u8], content| found(bytes) == Payload::raw(content, bytes.to_vec());
        assert!(is(br#"{"id": 17}"#, Content::Json));
        assert!(is(b"17", Content::Json));
        assert!(is(b"cat.png", Content::Text));
        assert!(is(&[0xff], Content::Binary));
        assert!(is(b"", Content::Binary));
        assert!(payload(As::Json, b"cat.png".to_vec()).is_err());
        assert!(payload(As::Text, vec![0xff]).is_err());
    }

    #[test]
    fn lines_lose_their_ends() {
        let mut input: &[u8] = b"a\r\n\nb";
        let mut next = || line(&mut input).unwrap();
        assert_eq!(next(), Some(b"a".to_vec()));
        assert_eq!(next(), Some(Vec::new()));
        assert_eq!(next(), Some(b"b".to_vec()));
        assert_eq!(next(), None);
    }
}
