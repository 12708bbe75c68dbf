//! The group mode: a work queue. In each group of consumers one gets a task,
//! and it comes again until it is acknowledged or given up.
//!
//! A channel is a stream, of which an entry is one event, so that each is
//! acknowledged alone; its ids are numbers without holes, so that it shows when
//! something was trimmed, and random numbers that tell it from another that had
//! its number. Groups, who has what and how often it was delivered
//! are Redis's own consumer groups. See ADR 0024.

mod carrier;
mod desk;
mod member;
mod scripts;

use std::{
    fmt,
    sync::{Arc, Weak, atomic::AtomicBool},
};

use parking_lot::Mutex;
use redis::Value;
use swarmbus::transport::{
    Channel, DeadTask, Gap, GapReason, Inbox, Mode, Start, SubscribeOptions, TransportError,
    TransportPublishError,
};
use swarmbus_core::{Event, Timestamp, codec};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{
    carrier::GroupCarrier,
    desk::Desk,
    member::Member,
    scripts::{APPEND, Append, Appended, Keys, Seat},
};
use crate::{
    carrier::Carrier,
    channel::key,
    connection::Link,
    duties::Blocking,
    error::{ConnectionError, failed},
    meter::TaskMeter,
    script::Answer,
    server::{Call, Server},
};

pub(crate) use self::scripts::Limits;

/// Group channels of one transport.
pub(crate) struct Groups {
    server: Server,
    limits: Limits,
    meter: TaskMeter,
    /// Of all members at work.
    desks: Mutex<Vec<Weak<Desk>>>,
    /// Ends all subscriptions.
    end: CancellationToken,
}

impl Groups {
    /// Members of one transport, each of which has a connection of its own.
    const MAX_MEMBERS: usize = 1_024;

    /// `server`: for answers and claims.
    pub(crate) fn new(server: Server, limits: Limits) -> Self {
        let (desks, end) = (Mutex::default(), CancellationToken::new());
        Self { server, limits, meter: TaskMeter::new(), desks, end }
    }

    /// What a publisher of group channels sends with.
    pub(crate) fn carrier(&self) -> Arc<dyn Carrier> {
        Arc::new(GroupCarrier::new(Arc::clone(self.server.link.dialer()), self.limits))
    }

    /// See [`Transport::subscribe`](swarmbus::transport::Transport::subscribe).
    pub(crate) async fn subscribe(
        &self,
        channel: &Channel,
        options: &SubscribeOptions,
    ) -> Result<Inbox, TransportError> {
        options.check(Mode::Group)?;
        let dialer = self.server.link.dialer();
        let mut seat =
            Seat::new(&dialer.settings.prefix, channel, options.get_group(), &self.limits);
        let random = || format!("{}:{:016x}", dialer.instance, fastrand::u64(..));
        seat.consumer = options.get_consumer().map_or_else(random, str::to_owned);
        seat.tries = options.get_max_deliveries();
        seat.idle = options.get_redeliver_after();
        let capacity = options.get_capacity(Mode::Group);
        let desk = self.desk(capacity.get())?;
        let waiting = Link::start(Arc::clone(dialer), Arc::new(Blocking("worker")));
        let member = Member {
            server: self.server.clone(),
            waiting,
            seat,
            desk,
            meter: self.meter.clone(),
            giving: tokio::sync::Mutex::default(),
            doubt: AtomicBool::new(false),
            due: Notify::new(),
            starved: AtomicBool::new(false),
        };
        let from_beginning = options.get_start() != Some(Start::New);
        let joined = tokio::select! {
            joined = member.join(from_beginning) => joined,
            () = self.end.cancelled() => Err(ConnectionError::Closed),
        };
        let (_, missed) = joined.map_err(failed)?;
        // Gaps take room, too.
        let (feed, inbox) = Inbox::new(capacity.saturating_add(4));
        if missed > 0 {
            member.gap(&feed, Gap::new(missed, GapReason::Trimmed));
        }
        tokio::spawn(member.run(feed, self.end.clone()));
        Ok(inbox)
    }

    fn desk(&self, capacity: usize) -> Result<Arc<Desk>, TransportError> {
        let mut desks = self.desks.lock();
        desks.retain(|desk| desk.strong_count() > 0);
        if desks.len() >= Self::MAX_MEMBERS {
            return Err(TransportError::TooMany { limit: Self::MAX_MEMBERS });
        }
        let desk = Arc::new(Desk::new(capacity));
        desks.push(Arc::downgrade(&desk));
        Ok(desk)
    }

    /// Waits until the server has every answer to a task that was given before.
    pub(crate) async fn flush(&self) -> Result<(), TransportError> {
        let desks: Vec<_> = self.desks.lock().iter().filter_map(Weak::upgrade).collect();
        let flushed = async {
            for desk in desks {
                desk.flushed().await;
            }
        };
        let patience = self.server.link.dialer().settings.response_timeout;
        tokio::select! {
            flushed = timeout(patience, flushed) => flushed.map_err(|_| {
                self.server.link.error().map_or(TransportError::TimedOut, failed)
            }),
            () = self.end.cancelled() => Err(TransportError::Closed),
        }
    }

    /// See [`Transport::publish_once`](swarmbus::transport::Transport::publish_once).
    pub(crate) async fn publish_once(
        &self,
        channel: &Channel,
        once: &str,
        event: Event,
    ) -> Result<bool, TransportPublishError> {
        match self.try_publish_once(channel, once, &event).await {
            Ok(published) => Ok(published),
            Err(cause) => Err(TransportPublishError::new(event, cause)),
        }
    }

    async fn try_publish_once(
        &self,
        channel: &Channel,
        once: &str,
        event: &Event,
    ) -> Result<bool, TransportError> {
        let frame = codec::encode(event).map_err(|e| TransportError::Unfit(Arc::new(e)))?;
        let prefix = self.server.prefix();
        let append = Append {
            frame: &frame,
            count: 1,
            publisher: fastrand::u64(..),
            record: &key(prefix, channel, &format!("idem:tasks:{once}")),
            number: 0,
            reached: None,
            again: false,
            server: 0,
        };
        let keys = Keys::new(prefix, channel);
        let call = |server| Append { server, ..append }.call(&keys, &self.limits);
        let answer = self.server.insist(Call::Signed(&APPEND, &call)).await.map_err(failed)?;
        match Appended::read(answer).map_err(failed)?.1 {
            Appended::Done(_) | Appended::Known => Ok(true),
            Appended::KeyUsed => Ok(false),
            Appended::Full => Err(TransportError::Full),
        }
    }

    /// See [`Transport::dead_letters`](swarmbus::transport::Transport::dead_letters).
    pub(crate) async fn dead_letters(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<DeadTask>, TransportError> {
        if count == 0 {
            // Redis answers this with nil, as if there were no such stream.
            return Ok(Vec::new());
        }
        let stream = key(self.server.prefix(), channel, "dead");
        let mut call = redis::cmd("XREVRANGE");
        call.arg(stream).arg("+").arg("-").arg("COUNT").arg(count);
        let answer = self.server.insist(Call::Command(&call)).await.map_err(failed)?;
        let mut dead = dead_tasks(answer).map_err(failed)?;
        dead.reverse();
        Ok(dead)
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.end.cancel();
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Reads dead letters. One whose event nobody can read is left out: it stays on
/// the server, for somebody who can.
fn dead_tasks(value: Value) -> Result<Vec<DeadTask>, ConnectionError> {
    let mut entries = Answer::new(value)?;
    let mut dead = Vec::new();
    while !entries.is_empty() {
        let mut entry = entries.array()?;
        // The id that the server gives has its clock's milliseconds.
        let at = Timestamp::from_micros(entry.id()?.0.saturating_mul(1_000));
        let mut fields = entry.array()?;
        let (mut event, mut group, mut deliveries) = (None, String::new(), 0);
        while !fields.is_empty() {
            match &*fields.text()? {
                "e" => event = member::event(fields.bytes()?.into()),
                "group" => group = fields.text()?,
                "deliveries" => deliveries = fields.text()?.parse().unwrap_or(u32::MAX),
                _ => drop(fields.value()?),
            }
        }
        if let (Some(event), Some(at)) = (event, at) {
            dead.push(DeadTask { event, group, deliveries, at });
        }
    }
    Ok(dead)
}

#[cfg(test)]
mod tests;
