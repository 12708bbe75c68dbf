//! [`Rig`]: the servers of one run, and how publishers and subscribers reach
//! them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use swarmbus_redis::{
    Settings,
    local::{Cluster, Fsync, Proxy, Replicated, Server},
};
use tokio::{
    task::block_in_place,
    time::{self, Instant, interval},
};

use crate::fault::Fault;

/// Shorter than by default, so that what nobody tells is noticed sooner. How
/// fast connections are made again is left as it is.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(1);
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the server holds back for a subscriber that does not read.
const OUTPUT_LIMIT: u64 = 256 << 10;

pub(crate) const PASSWORD: &str = "password";

/// From one look at something to the next.
const LOOK: Duration = Duration::from_millis(2);

/// The two sides, by the names of their users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Publisher,
    Subscriber,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Publisher, Self::Subscriber];

    pub(crate) fn user(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        }
    }
}

pub(crate) struct Rig {
    servers: Servers,
    /// Between each side and the server.
    proxies: Option<[Proxy; 2]>,
}

enum Servers {
    One(Server),
    Set(Replicated),
    Cluster(Cluster),
}

impl Rig {
    pub(crate) async fn start(fault: Fault) -> Result<Self> {
        let servers = block_in_place(|| servers(fault))?;
        let proxies = match &servers {
            Servers::One(server) if fault.has_network() => {
                let start = || Proxy::start(server.address());
                Some([start().await?, start().await?])
            }
            _ => None,
        };
        Ok(Self { servers, proxies })
    }

    /// How one side connects.
    pub(crate) fn settings(&self, side: Side) -> Result<Settings> {
        let settings = match &self.servers {
            Servers::One(_) | Servers::Cluster(_) => Settings::new(&self.url(side))?,
            Servers::Set(set) => {
                let sentinels = set.sentinels().iter().map(Server::url);
                Settings::new(&self.url(side))?.sentinels(sentinels)?
            }
        };
        Ok(settings.probe_every(PROBE_EVERY).response_timeout(RESPONSE_TIMEOUT))
    }

    pub(crate) fn url(&self, side: Side) -> String {
        match &self.servers {
            Servers::One(server) => {
                let address = self.proxy(side).map_or(server.address(), Proxy::address);
                format!("redis://{}:{PASSWORD}@{address}", side.user())
            }
            Servers::Set(_) => format!("redis://{}", Replicated::NAME),
            Servers::Cluster(cluster) => cluster.url(),
        }
    }

    pub(crate) fn proxy(&self, side: Side) -> Option<&Proxy> {
        self.proxies.as_ref().map(|proxies| &proxies[side as usize])
    }

    /// The one server of this run.
    pub(crate) fn server(&self) -> Result<&Server> {
        match &self.servers {
            Servers::One(server) => Ok(server),
            Servers::Set(_) | Servers::Cluster(_) => bail!("there are several servers"),
        }
    }

    pub(crate) fn set(&self) -> Result<&Replicated> {
        match &self.servers {
            Servers::Set(set) => Ok(set),
            Servers::One(_) | Servers::Cluster(_) => bail!("there are no sentinels"),
        }
    }

    pub(crate) fn cluster(&self) -> Result<&Cluster> {
        match &self.servers {
            Servers::Cluster(cluster) => Ok(cluster),
            Servers::One(_) | Servers::Set(_) => bail!("there is no cluster"),
        }
    }

    /// Tells the server something.
    pub(crate) fn tell(&self, command: &[&str]) -> Result<String> {
        let server = self.server()?;
        let answer = block_in_place(|| server.run(command));
        answer.with_context(|| format!("the server was told: {}", command.join(" ")))
    }

    /// Brings back what died, so that it can happen again.
    pub(crate) async fn mend(&self) -> Result<()> {
        let servers = match &self.servers {
            Servers::One(_) => return Ok(()),
            Servers::Set(set) => set.servers(),
            Servers::Cluster(cluster) => cluster.nodes(),
        };
        for server in servers.iter().filter(|server| !server.is_running()) {
            block_in_place(|| server.restart())?;
        }
        if let Servers::Set(set) = &self.servers {
            let master = block_in_place(|| set.master().map(Server::address))?;
            let port = master.port().to_string();
            for server in servers.iter().filter(|server| server.address() != master) {
                block_in_place(|| server.run(["REPLICAOF", "127.0.0.1", &port]))?;
            }
        }
        let whole = || {
            let states: Vec<_> = servers.iter().map(replication).collect();
            let masters = states.iter().filter(|state| state.contains("role:master")).count();
            // A replica for each master.
            masters * 2 == states.len()
                && states.iter().all(|state| {
                    state.contains("connected_slaves:1") || state.contains("link_status:up")
                })
        };
        until("the replicas", Duration::from_secs(60), whole).await?;
        if let Servers::Cluster(cluster) = &self.servers {
            block_in_place(|| cluster.wait_until_ok())?;
        }
        Ok(())
    }
}

fn servers(fault: Fault) -> Result<Servers> {
    match fault {
        Fault::Failover => return Ok(Servers::Set(Replicated::start(1, 3)?)),
        Fault::ClusterFailover | Fault::Reshard => {
            return Ok(Servers::Cluster(Cluster::start(3, 1)?));
        }
        _ => {}
    }
    let mut server = Server::builder();
    for side in Side::BOTH {
        server = server.user(side.user(), &format!("on >{PASSWORD} ~* &* +@all"));
    }
    if matches!(fault, Fault::Kill9 | Fault::Restart | Fault::Outage) {
        server = server.append_only(Fsync::Always);
    }
    if fault == Fault::SlowSubscriber {
        server = server.pubsub_buffer(OUTPUT_LIMIT);
    }
    Ok(Servers::One(server.start()?))
}

/// What a server says of itself and those it copies from; nothing if it does not
/// answer.
fn replication(server: &Server) -> String {
    block_in_place(|| server.run(["INFO", "replication"])).unwrap_or_default()
}

/// Waits for something, and fails when that takes too long.
pub(crate) async fn until(
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Result<()> {
    let (deadline, mut looks) = (Instant::now() + limit, interval(LOOK));
    while !is_so() {
        if Instant::now() > deadline {
            bail!("{what}: it did not come within {limit:?}");
        }
        looks.tick().await;
    }
    Ok(())
}

/// Lets a fault last.
pub(crate) async fn last(time: Duration) {
    time::sleep(time).await; // sleep: a fault has a duration
}
