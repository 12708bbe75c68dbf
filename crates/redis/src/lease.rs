//! [`RedisLeases`]: leases among all processes that use one server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::Value;
use swarmbus::{
    lease::{Grant, LeaseError, LeaseStore, check},
    transport::Channel,
};

use crate::{
    channel,
    connection::Link,
    duties::Commands,
    error::ConnectionError,
    script::{Answer, Script, millis, unexpected},
    server::{Call, Server},
    settings::Settings,
    state::{OpenError, dialer},
};

static ACQUIRE: Script = Script::new(include_str!("lua/lease_acquire.lua"));
static RENEW: Script = Script::new(include_str!("lua/lease_renew.lua"));
static RELEASE: Script = Script::new(include_str!("lua/lease_release.lua"));

/// Keeps leases in Redis, for [`Leases`](swarmbus::lease::Leases): the lease
/// `a` of the store `planner` is `swarmbus:{planner}:lease:a` there.
///
/// # What it promises, and what a server does to that
///
/// - **Time** is counted by the server's wall clock. If that is set forward,
///   leases end early, and another may be granted while the first holder still
///   counts on its own: run a clock that is slewed, not set.
/// - **Tokens** are the server's time in microseconds, or one more than the
///   last token if that is higher. They grow over an expiry, a restart, a loss
///   of the data and a failover, unless the last token is lost *and* the clock
///   goes back behind it.
/// - **A crash** of a server without `appendonly`, or a failover to a replica
///   that had not heard of it, may lose a lease, and it is granted anew. The
///   old holder is told at its next renewal; until then its token is what
///   stops it. Redis replicates after it has answered, so no setting of it
///   changes this.
/// - **Eviction** may take a lease like any other key: use a server with
///   `noeviction`.
///
/// ```no_run
/// use std::time::Duration;
/// use swarmbus::lease::Leases;
/// use swarmbus_redis::{RedisLeases, Settings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = Settings::new("redis://127.0.0.1:6379")?;
/// let leases = Leases::new(RedisLeases::connect(settings, "planner").await?);
/// let lease = leases.acquire("leader", Duration::from_secs(10)).await?;
/// println!("leading with token {}", lease.token());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RedisLeases {
    server: Server,
    /// What the keys of leases begin with.
    prefix: String,
    /// The key of the last token.
    token: String,
}

impl RedisLeases {
    /// Connects to a server. The name keeps stores that share it apart.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]: the first try to connect must succeed.
    pub async fn connect(settings: Settings, name: &str) -> Result<Self, OpenError> {
        let name = Channel::live(name)?;
        let link = Link::connect(dialer(settings, &name)?, Arc::new(Commands("leases"))).await?;
        Ok(Self::on(Server::new(link), &name))
    }

    pub(crate) fn on(server: Server, name: &Channel) -> Self {
        let prefix = channel::key(server.prefix(), name, "lease:");
        let token = channel::key(server.prefix(), name, "token");
        Self { server, prefix, token }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

#[async_trait]
impl LeaseStore for RedisLeases {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Grant, LeaseError> {
        check(name, ttl)?;
        let mut call = ACQUIRE.call(&[&self.key(name), &self.token]);
        call.arg(holder).arg(millis(ttl));
        let answer =
            self.server.insist(Call::Script(&ACQUIRE, &call)).await.map_err(lease_error)?;
        granted(answer).map_err(lease_error)
    }

    async fn renew(
        &self,
        name: &str,
        holder: &str,
        token: u64,
        ttl: Duration,
    ) -> Result<bool, LeaseError> {
        check(name, ttl)?;
        let mut call = RENEW.call(&[&self.key(name)]);
        call.arg(format!("{token} {holder}")).arg(millis(ttl));
        decided(self.server.insist(Call::Script(&RENEW, &call)).await)
    }

    async fn release(&self, name: &str, holder: &str, token: u64) -> Result<bool, LeaseError> {
        let mut call = RELEASE.call(&[&self.key(name)]);
        call.arg(format!("{token} {holder}"));
        decided(self.server.once(Call::Script(&RELEASE, &call)).await)
    }
}

fn granted(answer: Value) -> Result<Grant, ConnectionError> {
    let mut answer = Answer::new(answer)?;
    if answer.int()? == 1 {
        let token = answer.text()?.parse();
        let token = token.map_err(|_| ConnectionError::Protocol("a token is no number".into()))?;
        return Ok(Grant::Granted { token });
    }
    // Negative if somebody made it last for ever.
    let left = u64::try_from(answer.int()?).unwrap_or(u64::MAX);
    Ok(Grant::Held { left: Duration::from_millis(left) })
}

fn decided(answer: Result<Value, ConnectionError>) -> Result<bool, LeaseError> {
    match answer.map_err(lease_error)? {
        Value::Int(answer) => Ok(answer == 1),
        other => Err(lease_error(unexpected(&other))),
    }
}

fn lease_error(error: ConnectionError) -> LeaseError {
    match error {
        ConnectionError::OutOfMemory => LeaseError::Full,
        other => LeaseError::unavailable(other),
    }
}

#[cfg(test)]
mod tests;
