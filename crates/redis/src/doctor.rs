//! [`examine`]: whether a server is fit for what is built on it, and what to
//! change.
//!
//! ```
//! use swarmbus_redis::{Settings, doctor::{Verdict, examine}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = swarmbus_redis::local::Server::start()?;
//! # let url = server.url();
//! for finding in examine(&Settings::new(&url)?).await? {
//!     if finding.verdict != Verdict::Ok {
//!         println!("{}: {}; {:?}", finding.check, finding.found, finding.advice);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod cluster;
mod facts;
mod judge;
mod rights;

use std::sync::Arc;

use crate::{
    dialer::{Dialed, Dialer},
    error::ConnectionError,
    settings::{Settings, SettingsError},
};

use self::facts::Facts;

/// How well one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something may be lost, or may go wrong later.
    Warning,
    /// It does not work, or something will be lost.
    Problem,
}

impl Verdict {
    /// `ok`, `warning` or `problem`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `persistence`, `latency`, … Does not change between
    /// versions.
    pub check: &'static str,
    /// How well it is.
    pub verdict: Verdict,
    /// What is there. Holds no password.
    pub found: String,
    /// What to change: a command for the server where there is one.
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let (found, advice) = (found.into(), Some(advice.into()));
        Self { check, verdict: Verdict::Warning, found, advice }
    }

    fn problem(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, ..Self::warning(check, found, advice) }
    }
}

/// Looks at a server with the eyes of the user in `settings`: version, role,
/// persistence, memory, output buffers, clients, permissions, latency and clock.
/// It changes nothing there. Of a cluster it looks at one master so, and at the
/// others whether they answer and have all slots.
///
/// A server that cannot be reached is a finding, too. Dropped in the middle, it
/// has done no harm.
///
/// # Errors
///
/// When the settings make no sense.
pub async fn examine(settings: &Settings) -> Result<Vec<Finding>, SettingsError> {
    let dialer = Dialer::new(settings.clone())?;
    let dialer = dialer.for_name(rights::NAME).unwrap_or(dialer);
    let dialed = dialer.dial("doctor", false, Arc::new(|_| {})).await;
    let (connection, _line) = match dialed {
        Ok(Dialed { connection, line }) => (connection, line),
        Err(error) => return Ok(vec![unreached(&error)]),
    };
    let mut findings = vec![Finding::ok("connection", format!("to {}", settings.address()))];
    let asked = async {
        let facts = Facts::ask(&dialer, &connection).await?;
        findings.extend(judge::all(&facts));
        if let Some(whole) = dialer.cluster() {
            findings.extend(cluster::look(&dialer, &connection, whole).await?);
        }
        findings.push(rights::look(&dialer, &connection, facts.user.as_deref()).await?);
        let beats = facts::ping(&dialer, &connection).await?;
        findings.push(judge::latency(beats));
        let ahead = facts::clock(&dialer, &connection).await?;
        findings.push(judge::clock(ahead));
        Ok::<_, ConnectionError>(())
    };
    if let Err(error) = asked.await {
        findings.push(unreached(&error));
    }
    Ok(findings)
}

/// What keeps a client from the server.
fn unreached(error: &ConnectionError) -> Finding {
    let text = error.to_string();
    // The texts of these errors end with what to do.
    let (found, advice) = text.rsplit_once("; ").unwrap_or((&text, "see the server's log"));
    let check = match error {
        ConnectionError::WrongPassword => "password",
        ConnectionError::WrongRole { .. } => "role",
        ConnectionError::WrongMode { .. } => "mode",
        ConnectionError::Unsettled(_) => "cluster",
        ConnectionError::TooOld { .. } => "version",
        ConnectionError::NoPermission { .. } => "permissions",
        _ => "connection",
    };
    Finding::problem(check, found, advice)
}

#[cfg(test)]
mod tests;
