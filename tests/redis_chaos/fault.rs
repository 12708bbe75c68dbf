//! [`Fault`]: what is done to a server and its connections, and what is promised
//! all the same.

use clap::ValueEnum;
use swarmbus::transport::Mode;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// The server is killed and started again; it has written what it answered.
    Kill9,
    /// CLIENT KILL of all connections of the publishers.
    KillPublisher,
    /// CLIENT KILL of all connections of the subscribers.
    KillSubscriber,
    /// CLIENT KILL of both.
    KillBoth,
    /// The subscribers read nothing, until the server cuts them off.
    SlowSubscriber,
    /// The network is down for half a second.
    Cut,
    /// The network swallows everything, until that is noticed.
    HalfOpen,
    /// The network goes down and up again.
    Flapping,
    /// FLUSHALL.
    Flushall,
    /// The key that holds a channel's epoch is evicted.
    Eviction,
    /// The master dies, or is told to hand over, and sentinels make the replica
    /// master.
    Failover,
    /// The same to the node of a cluster that has one of the channels.
    ClusterFailover,
    /// The slot of one of the channels is given to another node of a cluster.
    Reshard,
    /// The subscriber's process is killed and started again from the position
    /// that it had saved.
    Restart,
    /// A task that nobody can do, and that kills every second worker.
    Poison,
    /// `maxmemory` is reached.
    Oom,
    /// The server becomes a replica.
    Readonly,
    /// The password is changed.
    Noauth,
    /// The server is away for long, while everybody publishes as fast as can be.
    Outage,
}

/// What must hold, whatever goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing is lost or comes twice (tasks: without being marked).
    Exact,
    /// What is lost is in gaps, to the last event.
    Counted,
    /// What is lost is in the place of a gap; nothing comes twice.
    Told,
    /// The same, and each time there is a gap.
    NewEpoch,
    /// As exact, but what cannot be done is a dead letter.
    Buried,
}

impl Promise {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exact => "lost 0, duplicated 0",
            Self::Counted => "lost = reported",
            Self::Told => "lost is reported, duplicated 0",
            Self::NewEpoch => "a gap each time, duplicated 0",
            Self::Buried => "dead-lettered, others flow",
        }
    }
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill9 => "kill9",
            Self::KillPublisher => "kill-publisher",
            Self::KillSubscriber => "kill-subscriber",
            Self::KillBoth => "kill-both",
            Self::SlowSubscriber => "slow-subscriber",
            Self::Cut => "cut",
            Self::HalfOpen => "half-open",
            Self::Flapping => "flapping",
            Self::Flushall => "flushall",
            Self::Eviction => "eviction",
            Self::Failover => "failover",
            Self::ClusterFailover => "cluster-failover",
            Self::Reshard => "reshard",
            Self::Restart => "restart",
            Self::Poison => "poison",
            Self::Oom => "oom",
            Self::Readonly => "readonly",
            Self::Noauth => "noauth",
            Self::Outage => "outage",
        }
    }

    /// What this mode promises; `None` if the fault does not concern it.
    pub(crate) fn promise(self, mode: Mode) -> Option<Promise> {
        match (self, mode) {
            (Self::Poison, Mode::Group) => Some(Promise::Buried),
            (Self::Poison, _) | (Self::Flushall | Self::Eviction | Self::Restart, Mode::Live) => {
                None
            }
            (_, Mode::Live) => Some(Promise::Counted),
            (Self::Flushall | Self::Eviction, _) => Some(Promise::NewEpoch),
            (Self::Failover | Self::ClusterFailover, _) => Some(Promise::Told),
            _ => Some(Promise::Exact),
        }
    }

    /// Whether clients reach the server through a network that can be broken.
    pub(crate) fn has_network(self) -> bool {
        matches!(self, Self::SlowSubscriber | Self::Cut | Self::HalfOpen | Self::Flapping)
    }

    /// What a publisher must be told meanwhile.
    pub(crate) fn error(self, mode: Mode) -> Option<&'static [&'static str]> {
        match (self, mode) {
            // PUBLISH needs no memory.
            (Self::Oom, Mode::Live) => None,
            (Self::Oom, _) => Some(&["out of memory"]),
            (Self::Readonly, _) => Some(&["wrong role", "read only"]),
            (Self::Noauth, _) => Some(&["wrong password"]),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_concerns_somebody_and_has_the_name_it_is_called_by() {
        for fault in Fault::value_variants() {
            let modes = [Mode::Live, Mode::Durable, Mode::Group];
            assert!(modes.iter().any(|mode| fault.promise(*mode).is_some()), "{fault:?}");
            assert_eq!(fault.to_possible_value().unwrap().get_name(), fault.name());
        }
    }
}
