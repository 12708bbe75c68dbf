//! What a fault does, from its beginning to its end.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use swarmbus::transport::{Mode, Transport as _};
use swarmbus_redis::{
    RedisTransport,
    local::{Cluster, Proxy, Server, Way},
};
use tokio::task::block_in_place;

use crate::{
    audience::Audience,
    fault::Fault,
    memory::Memory,
    rig::{PASSWORD, Rig, Side, last, until},
};

/// The longest that anything here takes to show.
const LIMIT: Duration = Duration::from_secs(30);

/// How long the network or the server is away.
const SHORT: Duration = Duration::from_millis(500);

/// Bytes a second that a subscriber which reads nothing is sent.
const FLOOD: u64 = 20 << 20;

pub(crate) struct Harm<'a> {
    pub(crate) fault: Fault,
    pub(crate) rig: &'a Rig,
    /// A transport of the subscribers.
    pub(crate) transport: &'a RedisTransport,
    pub(crate) outage: Duration,
}

impl Harm<'_> {
    /// Does it for the time numbered so, from 0, and returns when it is over.
    pub(crate) async fn strike(&self, time: usize, audiences: &mut [Audience]) -> Result<Memory> {
        let mut memory = Memory::default();
        let rig = self.rig;
        match self.fault {
            Fault::Kill9 => {
                let server = rig.server()?;
                block_in_place(|| server.kill9());
                block_in_place(|| server.restart())?;
            }
            Fault::KillPublisher => self.kill(&[Side::Publisher])?,
            Fault::KillSubscriber => self.kill(&[Side::Subscriber])?,
            Fault::KillBoth => self.kill(&Side::BOTH)?,
            Fault::SlowSubscriber => self.read_nothing(audiences).await?,
            Fault::Cut | Fault::HalfOpen | Fault::Flapping => {
                let sides = [&Side::BOTH[..1], &Side::BOTH[1..], &Side::BOTH][time % 3];
                let proxies: Vec<_> = sides.iter().filter_map(|side| rig.proxy(*side)).collect();
                self.break_network(&proxies).await?;
            }
            Fault::Flushall => drop(rig.tell(&["FLUSHALL"])?),
            Fault::Eviction => {
                rig.tell(&[
                    "DEL",
                    "swarmbus:{chaos-durable}:meta",
                    "swarmbus:{chaos-group}:tasks",
                ])?;
            }
            Fault::Failover => block_in_place(|| fail_over(rig, time))?,
            Fault::ClusterFailover => {
                let place = block_in_place(|| Place::of(rig.cluster()?, audiences, time))?;
                block_in_place(|| place.fail_over(time))?;
            }
            Fault::Reshard => {
                let place = block_in_place(|| Place::of(rig.cluster()?, audiences, time))?;
                block_in_place(|| place.move_away())?;
            }
            Fault::Restart => {
                for child in audiences.iter_mut().filter_map(Audience::child) {
                    child.kill().await?;
                }
                for child in audiences.iter_mut().filter_map(Audience::child) {
                    child.resume().await?;
                }
            }
            Fault::Poison => self.poison(time, audiences).await?,
            Fault::Oom => {
                rig.tell(&["CONFIG", "SET", "maxmemory", "1"])?;
                self.until_told(audiences).await?;
                rig.tell(&["CONFIG", "SET", "maxmemory", "0"])?;
            }
            Fault::Readonly => {
                // Of a master that is not there.
                rig.tell(&["REPLICAOF", "127.0.0.1", "1"])?;
                self.until_told(audiences).await?;
                rig.tell(&["REPLICAOF", "NO", "ONE"])?;
            }
            Fault::Noauth => {
                self.passwords("changed")?;
                self.kill(&Side::BOTH)?;
                self.until_told(audiences).await?;
                self.passwords(PASSWORD)?;
            }
            Fault::Outage => memory = self.stay_away(audiences).await?,
        }
        Ok(memory)
    }

    fn kill(&self, sides: &[Side]) -> Result<()> {
        for side in sides {
            self.rig.tell(&["CLIENT", "KILL", "USER", side.user()])?;
        }
        Ok(())
    }

    fn passwords(&self, password: &str) -> Result<()> {
        for side in Side::BOTH {
            let password = format!(">{password}");
            self.rig.tell(&["ACL", "SETUSER", side.user(), "resetpass", &password])?;
        }
        Ok(())
    }

    /// Nothing arrives at the subscribers until the server has cut off those who
    /// listen. Workers ask for what they get, so that nobody cuts them off: they
    /// are killed.
    async fn read_nothing(&self, audiences: &[Audience]) -> Result<()> {
        let proxy = self.rig.proxy(Side::Subscriber).context("there is no network")?;
        let listens = || -> Result<bool> {
            let clients = self.rig.tell(&["CLIENT", "LIST", "TYPE", "pubsub"])?;
            Ok(clients.contains(&format!("user={}", Side::Subscriber.user())))
        };
        let listened = audiences.iter().any(|audience| audience.load.mode() != Mode::Group);
        proxy.set(Way::Held);
        let pad = |bytes: u64| {
            for audience in audiences {
                audience.load.padding.store(bytes as usize, SeqCst);
            }
        };
        let rate = audiences.first().map_or(1, |audience| audience.load.rate.load(SeqCst));
        pad(FLOOD / rate.max(1));
        until("a subscriber that is cut off", LIMIT, || {
            !listened || listens().is_ok_and(|listens| !listens)
        })
        .await?;
        pad(0);
        self.rig.tell(&["CLIENT", "KILL", "USER", Side::Subscriber.user(), "TYPE", "normal"])?;
        proxy.pass();
        Ok(())
    }

    async fn break_network(&self, proxies: &[&Proxy]) -> Result<()> {
        match self.fault {
            Fault::HalfOpen => {
                let before: Vec<_> =
                    proxies.iter().map(|proxy| proxy.accepted() + proxy.connections()).collect();
                proxies.iter().for_each(|proxy| proxy.swallow());
                // Each connection that is found dead is made anew.
                until("somebody who notices", LIMIT, || {
                    proxies.iter().zip(&before).all(|(proxy, all)| proxy.accepted() >= *all)
                })
                .await?;
                for proxy in proxies {
                    proxy.pass();
                    // Whatever was made meanwhile is not known to anybody.
                    proxy.cut();
                }
            }
            Fault::Flapping => {
                for _ in 0..5 {
                    proxies.iter().for_each(|proxy| proxy.refuse());
                    last(SHORT / 10).await;
                    proxies.iter().for_each(|proxy| proxy.pass());
                    last(SHORT / 10).await;
                }
            }
            _ => {
                proxies.iter().for_each(|proxy| proxy.refuse());
                last(SHORT).await;
                proxies.iter().for_each(|proxy| proxy.pass());
            }
        }
        Ok(())
    }

    async fn poison(&self, time: usize, audiences: &[Audience]) -> Result<()> {
        let [audience] = audiences else { bail!("poison is for a group") };
        audience.load.poison.store(true, SeqCst);
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            let dead = self.transport.dead_letters(&audience.load.channel, 1_000).await?;
            if dead.len() > time {
                return Ok(());
            }
        }
        bail!("the poison was not given up within {LIMIT:?}")
    }

    /// Returns when every publisher has been told what is wrong.
    async fn until_told(&self, audiences: &[Audience]) -> Result<()> {
        audiences.iter().for_each(|audience| audience.load.forget_errors());
        until("an error that says what is wrong", LIMIT, || {
            audiences.iter().all(|audience| {
                let seen = audience.load.errors();
                let expected = self.fault.error(audience.load.mode());
                expected.is_none_or(|names| names.iter().any(|name| seen.contains(name)))
            })
        })
        .await
    }

    /// The server is away, and everybody publishes as fast as can be.
    async fn stay_away(&self, audiences: &[Audience]) -> Result<Memory> {
        let server = self.rig.server()?;
        let rates: Vec<_> =
            audiences.iter().map(|audience| audience.load.rate.swap(0, SeqCst)).collect();
        block_in_place(|| server.kill9());
        let memory = Memory::watch(self.outage).await;
        for (audience, rate) in audiences.iter().zip(rates) {
            audience.load.rate.store(rate, SeqCst);
        }
        block_in_place(|| server.restart())?;
        Ok(memory)
    }
}

/// In turn, the master is killed, and told to hand over.
fn fail_over(rig: &Rig, time: usize) -> Result<()> {
    let set = rig.set()?;
    let before = set.master()?;
    if time.is_multiple_of(2) {
        before.kill9();
        set.wait_for_another_than(before.address())?;
    } else {
        set.fail_over()?;
    }
    Ok(())
}

/// Where a channel is in a cluster.
struct Place<'a> {
    cluster: &'a Cluster,
    master: &'a Server,
    slot: u16,
}

impl<'a> Place<'a> {
    /// Of each channel in turn.
    fn of(cluster: &'a Cluster, audiences: &[Audience], time: usize) -> Result<Self> {
        let audience = audiences.get(time % audiences.len()).context("nobody listens")?;
        let pattern = format!("*{}*", audience.load.channel.name());
        let look: &[&str] = match audience.load.mode() {
            Mode::Live => &["PUBSUB", "SHARDCHANNELS", &pattern],
            Mode::Durable | Mode::Group => &["KEYS", &pattern],
        };
        let name = cluster.nodes().iter().filter(|node| is_master(node)).find_map(|node| {
            let names = node.run(look).ok()?;
            names.lines().next().filter(|name| !name.is_empty()).map(str::to_owned)
        });
        let name = name.context("no node has the channel")?;
        let first = cluster.nodes().iter().find(|node| node.is_running()).context("no node")?;
        let slot = first.run(["CLUSTER", "KEYSLOT", &name])?.parse()?;
        Ok(Self { cluster, master: cluster.master_of(slot)?, slot })
    }

    /// In turn, the master is killed, and its replica told to take over.
    fn fail_over(&self, time: usize) -> Result<()> {
        if (time / 3).is_multiple_of(2) {
            self.master.kill9();
            self.cluster.wait_until_replaced(self.master)?;
            return Ok(());
        }
        let port = format!("master_port:{}", self.master.address().port());
        let replica =
            self.cluster.nodes().iter().find(|node| {
                node.run(["INFO", "replication"]).is_ok_and(|text| text.contains(&port))
            });
        let replica = replica.context("the master has no replica")?;
        let (mut asked, end) = (None::<Instant>, Instant::now() + LIMIT);
        while !is_master(replica) {
            ensure!(Instant::now() < end, "the replica did not take over");
            // On a busy machine it may give up; it gives itself five seconds.
            if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(6)) {
                replica.run(["CLUSTER", "FAILOVER"])?;
                asked = Some(Instant::now());
            }
        }
        Ok(())
    }

    fn move_away(&self) -> Result<()> {
        let other = self
            .cluster
            .nodes()
            .iter()
            .find(|node| node.address() != self.master.address() && is_master(node));
        self.cluster.move_slot(self.slot, other.context("there is no other master")?)?;
        Ok(())
    }
}

fn is_master(node: &Server) -> bool {
    node.run(["ROLE"]).is_ok_and(|role| role.starts_with("master"))
}
