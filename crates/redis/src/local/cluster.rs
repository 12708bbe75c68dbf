//! [`Cluster`]: servers that share the keys.

use std::{
    ffi::OsStr,
    process::Command,
    time::{Duration, Instant},
};

use super::{
    Server, StartError,
    sets::{wait_until, wait_until_in_step},
};

/// How long a replica tries to take over when it is told to.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// A Redis Cluster.
///
/// ```
/// use swarmbus_redis::local::Cluster;
///
/// # fn main() -> Result<(), swarmbus_redis::local::StartError> {
/// let cluster = Cluster::start(3, 0)?;
/// assert_eq!(cluster.nodes().len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts so many masters, at least 3, with so many replicas each, and
    /// returns when they are one cluster. A node that does not answer for 1 s
    /// is down.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(masters: usize, replicas: usize) -> Result<Self, StartError> {
        let nodes = (0..masters * (replicas + 1)).map(|_| Self::node());
        let nodes = nodes.collect::<Result<_, _>>()?;
        let cluster = Self { nodes };
        let addresses = cluster.nodes.iter().map(|node| node.address().to_string());
        let replicas = replicas.to_string();
        let options = ["--cluster-replicas", &replicas, "--cluster-yes"].map(str::to_owned);
        let command = ["create".to_owned()].into_iter().chain(addresses).chain(options);
        cluster.manage(command)?;
        cluster.wait_until_ok()?;
        let follows = |node: &&Server| node.run(["ROLE"]).is_ok_and(|r| r.starts_with("slave"));
        cluster.nodes.iter().filter(follows).try_for_each(wait_until_in_step)?;
        Ok(cluster)
    }

    fn node() -> Result<Server, StartError> {
        Server::builder()
            .cluster()
            .setting("cluster-node-timeout", "1000")
            // However far behind: that is what is to be tested.
            .setting("cluster-replica-validity-factor", "0")
            .setting("repl-diskless-sync-delay", "0")
            .start()
    }

    /// `redis+cluster://` with the addresses of all nodes.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// All nodes: masters first, as far as nothing failed over.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// Runs `redis-cli --cluster` with these arguments: `reshard`, `rebalance`,
    /// `add-node`, …
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`] with what it says.
    pub fn manage<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, StartError> {
        let first = self.nodes.first().ok_or(StartError::NoProgram)?;
        let output =
            Command::new(&first.programs.client).arg("--cluster").args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(StartError::Refused(format!("{text} {error}")))
    }

    /// Returns when every node that runs says that the cluster is whole.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub fn wait_until_ok(&self) -> Result<(), StartError> {
        wait_until("the cluster", || {
            self.nodes.iter().filter(|node| node.is_running()).all(|node| {
                node.run(["CLUSTER", "INFO"]).is_ok_and(|info| info.contains("cluster_state:ok"))
            })
        })
    }

    /// Who has a slot, by the word of the first node that runs.
    ///
    /// # Errors
    ///
    /// When nobody has it.
    pub fn master_of(&self, slot: u16) -> Result<&Server, StartError> {
        let nodes = self.nodes.iter().filter(|node| node.is_running());
        let known = nodes.map(|node| node.run(["CLUSTER", "NODES"])).find_map(Result::ok);
        let known = known.unwrap_or_default();
        let has = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<u16>(), last.parse::<u16>());
            matches!((first, last), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
        };
        let line = known.lines().find(|line| line.split(' ').skip(8).any(has));
        let address = line.and_then(|line| line.split(' ').nth(1)?.split('@').next());
        self.nodes
            .iter()
            .find(|node| address == Some(&*node.address().to_string()))
            .ok_or_else(|| StartError::Refused(format!("nobody has slot {slot}: {known}")))
    }

    /// Gives a slot and its keys to another master, key by key, as resharding
    /// does: clients are sent from one to the other.
    ///
    /// # Errors
    ///
    /// When a node refuses.
    pub fn move_slot(&self, slot: u16, to: &Server) -> Result<(), StartError> {
        let from = self.master_of(slot)?;
        let (slot, port) = (slot.to_string(), to.address().port().to_string());
        let (from_id, to_id) = (from.run(["CLUSTER", "MYID"])?, to.run(["CLUSTER", "MYID"])?);
        to.run(["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])?;
        from.run(["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id])?;
        loop {
            let keys = from.run(["CLUSTER", "GETKEYSINSLOT", &slot, "10"])?;
            if keys.is_empty() {
                break;
            }
            let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            from.run(migrate.into_iter().chain(keys.lines()))?;
        }
        // Those who have it now first, so that it is nowhere for no moment.
        for node in [to, from] {
            node.run(["CLUSTER", "SETSLOT", &slot, "NODE", &to_id])?;
        }
        Ok(())
    }

    /// Starts another master, without slots, and returns when all know it.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn add_master(&mut self) -> Result<&Server, StartError> {
        let node = Self::node()?;
        let first = self.nodes.first().ok_or(StartError::NoProgram)?;
        let bus = node.run(["CONFIG", "GET", "cluster-port"])?;
        let bus = bus.lines().nth(1).unwrap_or_default().to_owned();
        let port = node.address().port().to_string();
        first.run(["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        let id = node.run(["CLUSTER", "MYID"])?;
        self.nodes.push(node);
        wait_until("the new node", || {
            let running = self.nodes.iter().filter(|node| node.is_running());
            running.into_iter().all(|node| {
                let known = node.run(["CLUSTER", "NODES"]).unwrap_or_default();
                known.lines().any(|line| line.starts_with(&id) && !line.contains("handshake"))
            })
        })?;
        self.wait_until_ok()?;
        self.nodes.last().ok_or(StartError::NoProgram)
    }

    /// A replica of a master.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn replica_of(&self, master: &Server) -> Result<&Server, StartError> {
        let port = master.address().port().to_string();
        let follows = |node: &&Server| {
            let role = node.run(["ROLE"]).unwrap_or_default();
            role.starts_with("slave") && role.lines().nth(2) == Some(&*port)
        };
        let none = || StartError::Refused(format!("{} has no replica", master.address()));
        self.nodes.iter().find(follows).ok_or_else(none)
    }

    /// Has a replica take over from its master, which lives and hands over
    /// everything, and returns when it has.
    ///
    /// # Errors
    ///
    /// When it is no replica, or that takes too long.
    pub fn fail_over_to(&self, replica: &Server) -> Result<(), StartError> {
        wait_until_in_step(replica)?;
        let mut asked = None::<Instant>;
        wait_until("another master", || {
            // The others do not vote twice within a short time, and then it gives up.
            if asked.is_none_or(|asked| asked.elapsed() > GIVEN_UP) {
                asked = Some(Instant::now());
                let _ = replica.run(["CLUSTER", "FAILOVER"]);
            }
            replica.run(["ROLE"]).is_ok_and(|role| role.starts_with("master"))
        })?;
        self.wait_until_ok()
    }

    /// Returns when all other nodes know that this one has failed, and the
    /// cluster is whole without it.
    ///
    /// # Errors
    ///
    /// When that takes too long: it was no master with a replica.
    pub fn wait_until_replaced(&self, node: &Server) -> Result<(), StartError> {
        let address = format!(" {}@", node.address());
        let knows = |other: &Server| {
            other.run(["CLUSTER", "NODES"]).is_ok_and(|nodes| {
                let failed = |line: &str| line.contains(&address) && line.contains("fail ");
                nodes.lines().any(failed)
            })
        };
        let others = || self.nodes.iter().filter(|other| other.address() != node.address());
        wait_until("another master", || others().all(knows))?;
        self.wait_until_ok()
    }
}
