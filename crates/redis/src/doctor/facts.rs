//! What a server says about itself.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::{Value, cmd};
use tokio::time::Instant;

use crate::{
    dialer::Dialer,
    error::ConnectionError,
    server::{allowed, lines, pairs, text},
    wire::Connection,
};

/// How often it is pinged.
const PINGS: usize = 200;

/// Answers of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// INFO; empty if the user may not ask.
    pub(super) info: HashMap<String, String>,
    /// CONFIG GET; empty if the user may not ask.
    pub(super) config: HashMap<String, String>,
    /// As whom we ask.
    pub(super) user: Option<String>,
}

impl Facts {
    pub(super) async fn ask(
        dialer: &Dialer,
        connection: &Connection,
    ) -> Result<Self, ConnectionError> {
        let mut get = cmd("CONFIG");
        get.arg("GET");
        for name in ["appendfsync", "client-output-buffer-limit", "save"] {
            get.arg(name);
        }
        let info = allowed(dialer, connection, &cmd("INFO")).await?;
        let config = allowed(dialer, connection, &get).await?;
        let mut whoami = cmd("ACL");
        whoami.arg("WHOAMI");
        let user = allowed(dialer, connection, &whoami).await?.and_then(|user| text(&user));
        let info = info.and_then(|info| text(&info)).unwrap_or_default();
        Ok(Self {
            info: lines(&info),
            config: config.as_ref().map(pairs).unwrap_or_default(),
            user,
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str)
    }

    /// A number of INFO; 0 if it is not there.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// Times of answers, shortest first.
pub(super) async fn ping(
    dialer: &Dialer,
    connection: &Connection,
) -> Result<Vec<Duration>, ConnectionError> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let began = Instant::now();
        dialer.ask(connection, &cmd("PING")).await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// How far the server's clock is ahead of ours, in microseconds; `None` if it
/// does not say.
pub(super) async fn clock(
    dialer: &Dialer,
    connection: &Connection,
) -> Result<Option<i128>, ConnectionError> {
    let before = wall();
    let Some(answer) = allowed(dialer, connection, &cmd("TIME")).await? else { return Ok(None) };
    let ours = i128::midpoint(before, wall());
    let Value::Array(parts) = &answer else { return Ok(None) };
    let [seconds, micros] = parts.as_slice() else { return Ok(None) };
    let number = |value| text(value).and_then(|text| text.parse::<i128>().ok());
    Ok(number(seconds).zip(number(micros)).map(|(s, us)| s * 1_000_000 + us - ours))
}

fn wall() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i128
}
