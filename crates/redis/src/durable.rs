//! The durable mode: every subscriber gets every event once and in order, as
//! long as the channel keeps it.
//!
//! A channel is a stream, its log, and a hash with its epoch and offset. An
//! entry of the log is a frame of events; its id is the offset of the last of
//! them. One call of a script appends a frame and publishes it. A subscription
//! listens to what is published, and reads the log where that has a hole. See
//! ADR 0024.

mod carrier;
mod fan;
mod header;
mod reader;
mod recent;
mod scripts;
mod subscription;
mod tap;

use std::{fmt, sync::Arc, time::Duration};

use swarmbus::transport::{
    Channel, Inbox, Mode, Received, Start, SubscribeOptions, TransportError, TransportPublishError,
};
use swarmbus_core::{Event, codec};
use tokio_util::sync::CancellationToken;

use self::{
    carrier::DurableCarrier,
    fan::Fans,
    header::Header,
    reader::Reader,
    scripts::{APPEND, Append, Appended, Keys, Part},
    subscription::{LogReader, Subscription},
    tap::Tap,
};
use crate::{
    carrier::Carrier,
    channel::key,
    error::{ConnectionError, failed},
    meter::ReceiveMeter,
    server::{Call, Server},
    subscriber::Subscriber,
};

pub(crate) use self::scripts::Retention;

/// Durable channels of one transport.
pub(crate) struct Durable {
    server: Server,
    retention: Retention,
    check_every: Duration,
    meter: ReceiveMeter,
    fans: Fans,
    /// Ends all subscriptions.
    end: CancellationToken,
}

impl Durable {
    /// How often a quiet subscription asks whether it really has all: pub/sub
    /// may lose the last message, and then nothing follows that would show it.
    pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(40);

    /// `server`: for reading, beside the publisher's connection.
    pub(crate) fn new(
        server: Server,
        subscriber: Arc<Subscriber>,
        retention: Retention,
        check_every: Duration,
    ) -> Self {
        let (meter, fans) = (ReceiveMeter::new("durable"), Fans::new(subscriber));
        Self { server, retention, check_every, meter, fans, end: CancellationToken::new() }
    }

    /// What a publisher of durable channels sends with.
    pub(crate) fn carrier(&self) -> Arc<dyn Carrier> {
        Arc::new(DurableCarrier::new(Arc::clone(self.server.link.dialer()), self.retention))
    }

    /// See [`Transport::subscribe`](swarmbus::transport::Transport::subscribe).
    pub(crate) async fn subscribe(
        &self,
        channel: &Channel,
        options: &SubscribeOptions,
    ) -> Result<Inbox, TransportError> {
        options.check(Mode::Durable)?;
        let patience = self.server.link.dialer().settings.response_timeout;
        let log = self.log(channel);
        let tap = Arc::new(Tap::default());
        // First the live feed, then the log: nothing falls in between.
        let begin = async {
            let tapped = self.fans.join(&log.keys.log, &tap, patience).await?;
            tap.clear();
            Ok((tapped, log.try_read(Part::Newest, 1, None).await?))
        };
        let begun = tokio::select! {
            biased;
            () = self.end.cancelled() => Err(ConnectionError::Closed),
            begun = begin => begun,
        };
        let (tapped, newest) = begun.map_err(failed)?;
        let reader = match options.get_start().unwrap_or(Start::New) {
            Start::New => match newest.entries.first().map(|(_, entry)| Header::parse(entry)) {
                Some(Ok(header)) if header.stamp.last() == newest.end.offset => {
                    Reader::behind(header.stamp, newest.end)
                }
                _ => Reader::after(newest.end),
            },
            Start::Beginning => Reader::oldest(newest.end.epoch),
            Start::After(position) => Reader::after(position),
        };
        let catch_up = !reader.is_at(newest.end);
        let (feed, inbox) = Inbox::new(options.get_capacity(Mode::Durable));
        let subscription =
            Subscription::new(log, tap, reader, self.check_every, self.meter.clone());
        let end = self.end.clone();
        tokio::spawn(async move {
            subscription.run(feed, catch_up, end).await;
            drop(tapped);
        });
        Ok(inbox)
    }

    /// See [`Transport::history`](swarmbus::transport::Transport::history).
    pub(crate) async fn history(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<Received>, TransportError> {
        let log = self.log(channel);
        let mut frames = count.clamp(1, 16);
        loop {
            let page = log.try_read(Part::Newest, frames, None).await.map_err(failed)?;
            let headers = page.entries.iter().filter_map(|(_, entry)| Header::parse(entry).ok());
            let headers: Vec<_> = headers.collect();
            let events: u64 = headers.iter().map(|header| header.stamp.count).sum();
            if page.entries.len() < frames || events >= count as u64 {
                let mut history = Vec::new();
                for header in headers.iter().rev() {
                    header.unpack(0, |incoming| history.extend(incoming.event()));
                }
                history.drain(..history.len().saturating_sub(count));
                return Ok(history);
            }
            frames = frames.saturating_mul(4);
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
        let settings = &self.server.link.dialer().settings;
        let append = Append {
            frame: &frame,
            count: 1,
            publisher: fastrand::u64(..),
            record: &key(&settings.prefix, channel, &format!("idem:log:{once}")),
            number: 0,
            reached: None,
            publish: self.server.link.dialer().publish(),
            server: 0,
        };
        let keys = Keys::new(&settings.prefix, channel);
        let call = |server| Append { server, ..append }.call(&keys, &self.retention);
        // The same call again does nothing, so a broken connection is no reason
        // to give up.
        let answer = self.server.insist(Call::Signed(&APPEND, &call)).await.map_err(failed)?;
        match Appended::read(answer).map_err(failed)? {
            (_, Appended::Done(_) | Appended::Known(_)) => Ok(true),
            (_, Appended::KeyUsed) => Ok(false),
        }
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.end.cancel();
    }

    fn log(&self, channel: &Channel) -> LogReader {
        let keys = Keys::new(self.server.prefix(), channel);
        LogReader { server: self.server.clone(), keys, retention: self.retention }
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("server", &self.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
