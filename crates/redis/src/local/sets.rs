//! [`Replicated`]: servers with sentinels.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use super::{Server, StartError};

/// The longest that servers may take to agree on something.
const AGREE_LIMIT: Duration = Duration::from_secs(60);

/// From one look to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A master, its replicas, and sentinels that watch them under the name
/// [`NAME`](Self::NAME).
///
/// ```
/// use swarmbus_redis::local::Replicated;
///
/// # fn main() -> Result<(), swarmbus_redis::local::StartError> {
/// let set = Replicated::start(1, 3)?;
/// let first = set.master()?.address();
/// set.fail_over()?;
/// assert_ne!(set.master()?.address(), first);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Replicated {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Replicated {
    /// What sentinels call the master.
    pub const NAME: &'static str = "main";

    /// Starts one master and so many replicas and sentinels, and returns when
    /// replicas have what the master has and every sentinel knows all of them. A
    /// majority of the sentinels decides; a
    /// master that does not answer for 0.5 s is down.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(replicas: usize, sentinels: usize) -> Result<Self, StartError> {
        // At once, and not after the five seconds that others may join.
        let server = || Server::builder().setting("repl-diskless-sync-delay", "0");
        let master = server().start()?;
        let port = master.address().port();
        let mut servers = vec![master];
        for _ in 0..replicas {
            servers.push(server().setting("replicaof", &format!("127.0.0.1 {port}")).start()?);
        }
        servers.iter().skip(1).try_for_each(wait_until_in_step)?;
        let (name, quorum) = (Self::NAME, sentinels / 2 + 1);
        let watch = || {
            Server::builder()
                .sentinel()
                .setting("sentinel", &format!("monitor {name} 127.0.0.1 {port} {quorum}"))
                .setting("sentinel", &format!("down-after-milliseconds {name} 500"))
                .setting("sentinel", &format!("failover-timeout {name} 3000"))
                .start()
        };
        let sentinels: Vec<Server> = (0..sentinels).map(|_| watch()).collect::<Result<_, _>>()?;
        let set = Self { servers, sentinels };
        let others = set.sentinels.len().saturating_sub(1);
        wait_until("the sentinels", || {
            set.sentinels.iter().all(|sentinel| {
                let Ok(known) = sentinel.run(["SENTINEL", "MASTER", name]) else { return false };
                field(&known, "num-slaves") == Some(replicas)
                    && field(&known, "num-other-sentinels") == Some(others)
            })
        })?;
        Ok(set)
    }

    /// Master and replicas, in the order of their start.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Those who watch.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// Who is the master now, by the word of the first sentinel that runs.
    ///
    /// # Errors
    ///
    /// When no sentinel answers, or names a server that is none of these.
    pub fn master(&self) -> Result<&Server, StartError> {
        let asked = self.sentinels.iter().find_map(|sentinel| {
            sentinel.run(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME]).ok()
        });
        let port = asked.as_deref().and_then(|answer| answer.lines().nth(1)?.parse::<u16>().ok());
        self.servers
            .iter()
            .find(|server| Some(server.address().port()) == port)
            .ok_or_else(|| StartError::Refused(format!("no sentinel knows a master: {asked:?}")))
    }

    /// Has another server made the master, and returns when the sentinels agree
    /// and it takes writes.
    ///
    /// # Errors
    ///
    /// When they refuse, or do not agree in time.
    pub fn fail_over(&self) -> Result<(), StartError> {
        let before = self.master()?.address();
        let sentinel = self.sentinels.first().ok_or(StartError::NoProgram)?;
        let mut asked = Ok(String::new());
        // One that has lost sight of a replica on a busy machine sees it again, and
        // one that is not done with the last failover will be.
        wait_until("a replica that may take over", || {
            asked = sentinel.run(["SENTINEL", "FAILOVER", Self::NAME]);
            let not_yet = |why: &str| why.starts_with("NOGOODSLAVE") || why.starts_with("INPROG");
            !matches!(&asked, Err(StartError::Refused(why)) if not_yet(why))
        })?;
        asked?;
        self.wait_for_another_than(before)
    }

    /// Returns when another server than this is the master and takes writes.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub fn wait_for_another_than(&self, before: SocketAddr) -> Result<(), StartError> {
        wait_until("another master", || {
            self.master().is_ok_and(|now| {
                now.address() != before
                    && now.run(["ROLE"]).is_ok_and(|role| role.starts_with("master"))
            })
        })
    }
}

/// Returns when a replica has what its master has.
pub(super) fn wait_until_in_step(replica: &Server) -> Result<(), StartError> {
    wait_until("a replica in step with its master", || {
        let info = replica.run(["INFO", "replication"]).unwrap_or_default();
        info.contains("master_link_status:up")
    })
}

/// Looks again and again.
pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), StartError> {
    let deadline = Instant::now() + AGREE_LIMIT;
    while !is_so() {
        if Instant::now() > deadline {
            return Err(StartError::TimedOut { log: format!("{what} did not come") });
        }
        thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// A number from names and values on lines in turn.
fn field(lines: &str, name: &str) -> Option<usize> {
    let mut lines = lines.lines();
    lines.find(|line| *line == name)?;
    lines.next()?.parse().ok()
}
