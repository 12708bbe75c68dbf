//! [`Member`]: one subscriber of a group channel, at work.
//!
//! It fetches new tasks over a connection of its own, where it waits on the
//! server; looks now and then for tasks that were left or delayed; and sends
//! answers, many at a time. All three work on one [`Desk`].

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::{Cmd, Value};
use swarmbus::transport::{EntryId, Feed, Gap, GapReason};
use swarmbus_core::{Event, backoff::Backoff, codec};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    desk::{Answer, Desk, Task},
    scripts::{self, ACK, CLAIM, Claimed, Given, JOIN, MEET, RETURN, Seat, TIDY, life},
};
use crate::{
    connection::Link,
    error::{ConnectionError, refused},
    meter::TaskMeter,
    server::{Call, Server, run_of},
    wire::Connection,
};

/// Tasks that are fetched at a time.
const FETCH: usize = 256;

/// How long a fetch waits on the server. After this and the time for answers
/// without a word, the connection is taken for dead.
const WAIT: Duration = Duration::from_secs(2);

/// Answers of one call.
const ANSWERS: usize = 512;

/// After a failure of the server.
const AGAIN: Backoff = Backoff::exponential(Duration::from_millis(50)).cap(Duration::from_secs(2));

pub(super) struct Member {
    /// For commands.
    pub(super) server: Server,
    /// For waiting.
    pub(super) waiting: Link,
    pub(super) seat: Seat,
    pub(super) desk: Arc<Desk>,
    pub(super) meter: TaskMeter,
    /// Held while tasks that were delivered before are being given to us, so
    /// that none is taken for lost that is on its way.
    pub(super) giving: tokio::sync::Mutex<()>,
    /// Some may have been lost on the way.
    pub(super) doubt: AtomicBool,
    /// A task may be due.
    pub(super) due: Notify,
    /// There was no room for tasks that may be due.
    pub(super) starved: AtomicBool,
}

impl Member {
    /// Until the inbox is dropped or the transport is closed.
    pub(super) async fn run(self, feed: Feed, end: CancellationToken) {
        let mut error = None;
        tokio::select! {
            // Each goes on for ever, unless it fails for ever.
            Err(failed) = self.fetch(&feed) => error = Some(failed),
            Err(failed) = self.claim(&feed) => error = Some(failed),
            Err(failed) = self.send_answers(&feed) => error = Some(failed),
            Err(failed) = self.tidy() => error = Some(failed),
            () = feed.gone() => {
                self.waiting.close();
                tokio::select! {
                    _ = timeout(self.seat.idle, self.last_answers()) => {}
                    () = end.cancelled() => {}
                }
            }
            () = end.cancelled() => {}
        }
        self.desk.end();
        match error {
            Some(ConnectionError::Closed) | None => {}
            Some(error) => feed.fail(refused(error)),
        }
    }

    /// What the program took along may still be answered in time.
    async fn last_answers(&self) {
        loop {
            if self.send_some().await.is_err() || !self.desk.holds_some() {
                return;
            }
            self.desk.answered.notified().await;
        }
    }

    /// Makes the group if it is gone.
    pub(super) async fn join(&self, from_beginning: bool) -> Result<(bool, u64), ConnectionError> {
        scripts::joined(
            self.server.insist(Call::Script(&JOIN, &self.seat.join(from_beginning))).await?,
        )
    }

    async fn fetch(&self, feed: &Feed) -> Result<Infallible, ConnectionError> {
        let (mut last, mut met, mut failures) = (0, 0, 0);
        loop {
            let (number, connection) = self.waiting.next(0).await?;
            if number != last || self.doubt.swap(false, Relaxed) {
                // Tasks that were given to us may not have arrived. No fetch is
                // under way now that would confuse us.
                self.resume(feed).await?;
                last = number;
            }
            let most = self.desk.wanted().min(FETCH);
            if most == 0 {
                self.desk.room.notified().await;
                continue;
            }
            let fetched = async {
                if number != met {
                    self.meet(&connection).await?;
                    met = number;
                }
                self.fetch_some(&connection, most).await
            };
            match fetched.await {
                Ok(mut tasks) => {
                    failures = 0;
                    self.meter.redelivered(self.desk.recognise(&mut tasks));
                    self.take(feed, tasks);
                    continue;
                }
                Err(error) if is_gone(&error) => {
                    self.group_is_gone(feed).await?;
                    continue;
                }
                Err(error) if error.breaks_connection() => {
                    self.waiting.give_up(number, error);
                    self.waiting.lost(number).await;
                    continue;
                }
                Err(error) if error.is_final() => return Err(error),
                Err(_) => sleep(AGAIN.delay(failures, 0)).await,
            }
            failures = failures.saturating_add(1);
        }
    }

    /// A new connection: who is there, and what may it not know?
    async fn meet(&self, connection: &Connection) -> Result<(), ConnectionError> {
        let dialer = self.waiting.dialer();
        let patience = dialer.settings.response_timeout;
        let met = async {
            let server = run_of(dialer, connection).await?;
            if server == 0 {
                return Ok(None);
            }
            scripts::met(MEET.run(dialer, connection, &self.seat.meet(server)).await?)
        };
        let met = timeout(patience, met).await;
        self.desk.doubt(met.unwrap_or(Err(ConnectionError::TimedOut(patience)))?);
        Ok(())
    }

    /// Waits for new tasks.
    async fn fetch_some(
        &self,
        connection: &Connection,
        most: usize,
    ) -> Result<Vec<Given>, ConnectionError> {
        let (dialer, call) = (self.waiting.dialer(), self.seat.read(most, WAIT));
        let patience = WAIT + dialer.settings.response_timeout;
        let answer = timeout(patience, dialer.ask(connection, &call)).await;
        scripts::new_tasks(answer.unwrap_or(Err(ConnectionError::TimedOut(patience)))?)
    }

    /// The server lost the group, and with it the channel.
    async fn group_is_gone(&self, feed: &Feed) -> Result<(), ConnectionError> {
        match self.join(true).await {
            Ok((created, missed)) => {
                if created {
                    self.desk.forget();
                    self.gap(feed, Gap::new(None, GapReason::NewEpoch));
                } else if missed > 0 {
                    self.gap(feed, Gap::new(missed, GapReason::Trimmed));
                }
                Ok(())
            }
            Err(error) if error.is_final() || error == ConnectionError::Closed => Err(error),
            Err(_) => Ok(()),
        }
    }

    /// Looks for tasks that were delivered before.
    async fn claim(&self, feed: &Feed) -> Result<Infallible, ConnectionError> {
        const LEAST: Duration = Duration::from_millis(20);
        let every = (self.seat.idle / 4).clamp(LEAST, Duration::from_secs(5));
        let mut wait = every;
        loop {
            tokio::select! {
                () = self.due.notified() => {}
                () = sleep(wait) => {}
            }
            wait = match self.claim_once(feed).await {
                Ok(next) => next.unwrap_or(every).clamp(Duration::from_millis(1), every),
                Err(ConnectionError::Closed) => return Err(ConnectionError::Closed),
                Err(error) if error.is_final() && !is_gone(&error) => return Err(error),
                Err(_) => every,
            };
            // An inbox full of gaps may have been read in the meantime.
            self.hand_out(feed);
        }
    }

    /// One look at the whole list; returns when the next delay is over.
    async fn claim_once(&self, feed: &Feed) -> Result<Option<Duration>, ConnectionError> {
        let _alone = self.giving.lock().await;
        let mut cursor = None;
        loop {
            let most = self.desk.wanted().min(FETCH);
            if most == 0 {
                self.starved.store(true, Relaxed);
                return Ok(None);
            }
            let call = self.seat.claim(most, cursor.as_deref());
            let claimed = self.claim_some(&call).await?;
            let (wait, next) = (claimed.wait, claimed.cursor.clone());
            self.take_claimed(feed, claimed);
            cursor = next;
            if cursor.is_none() {
                return Ok(wait);
            }
        }
    }

    /// Takes what the server says that we have, and we do not.
    async fn resume(&self, feed: &Feed) -> Result<(), ConnectionError> {
        let _alone = self.giving.lock().await;
        let (mut after, mut failures) = (None, 0);
        loop {
            let error = match self.resume_page(feed, after).await {
                Ok(None) => return Ok(()),
                Ok(last) => {
                    after = last;
                    continue;
                }
                // The fetch will find out.
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => error,
            };
            if error.is_final() || error == ConnectionError::Closed {
                return Err(error);
            }
            sleep(AGAIN.delay(failures, 0)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// One page; returns its last id if there may be more.
    async fn resume_page(
        &self,
        feed: &Feed,
        after: Option<EntryId>,
    ) -> Result<Option<EntryId>, ConnectionError> {
        let call = self.seat.pending(after, FETCH);
        let ids = scripts::pending_ids(self.server.once(Call::Command(&call)).await?)?;
        let next = ids.last().copied().filter(|_| ids.len() == FETCH);
        let unknown = self.desk.unknown(ids);
        if !unknown.is_empty() {
            let call = self.seat.claim_own(&unknown);
            let claimed = self.claim_some(&call).await?;
            self.take_claimed(feed, claimed);
        }
        Ok(next)
    }

    /// Not asked again: what was given and did not arrive is found by a resume.
    async fn claim_some(&self, call: &Cmd) -> Result<Claimed, ConnectionError> {
        let answer = self.server.once(Call::Script(&CLAIM, call)).await;
        if answer.is_err() {
            self.doubt.store(true, Relaxed);
        }
        Claimed::read(answer?)
    }

    fn take_claimed(&self, feed: &Feed, claimed: Claimed) {
        if claimed.lost > 0 {
            self.gap(feed, Gap::new(claimed.lost, GapReason::Trimmed));
        }
        self.meter.redelivered(claimed.tasks.len());
        self.meter.given_up(claimed.dead);
        self.take(feed, claimed.tasks);
    }

    fn take(&self, feed: &Feed, given: Vec<Given>) {
        if given.last().is_some_and(|last| self.desk.is_new_life(life(last.id))) {
            self.gap(feed, Gap::new(None, GapReason::NewEpoch));
        }
        let mut tasks = Vec::with_capacity(given.len());
        for Given { id, lost, deliveries, frame } in given {
            if lost > 0 {
                self.desk.add(std::mem::take(&mut tasks));
                self.hand_out(feed);
                self.gap(feed, Gap::new(lost, GapReason::Lost));
            }
            match event(frame) {
                Some(event) => tasks.push(Task { id, deliveries, event }),
                None => {
                    self.desk.bury(id);
                    self.gap(feed, Gap::new(1, GapReason::Unreadable));
                }
            }
        }
        self.desk.add(tasks);
        self.hand_out(feed);
    }

    fn hand_out(&self, feed: &Feed) {
        let mut batch = self.desk.hand_out(feed.free());
        if !batch.is_empty() {
            self.meter.receive.received(&batch);
            feed.deliver(&mut batch);
        }
    }

    pub(super) fn gap(&self, feed: &Feed, gap: Gap) {
        self.meter.receive.missed(&gap);
        feed.gap(gap);
    }

    async fn send_answers(&self, feed: &Feed) -> Result<Infallible, ConnectionError> {
        let mut failures = 0;
        loop {
            self.desk.answered.notified().await;
            loop {
                self.hand_out(feed);
                if self.starved.swap(false, Relaxed) {
                    self.due.notify_one();
                }
                match self.send_some().await {
                    Ok(true) => failures = 0,
                    Ok(false) => break,
                    Err(ConnectionError::Closed) => return Err(ConnectionError::Closed),
                    Err(error) if error.is_final() && !is_gone(&error) => return Err(error),
                    Err(_) => {
                        sleep(AGAIN.delay(failures, 0)).await;
                        failures = failures.saturating_add(1);
                    }
                }
            }
        }
    }

    /// Sends the answers that there are; `false` if there are none.
    async fn send_some(&self) -> Result<bool, ConnectionError> {
        let answers = self.desk.answers();
        if answers.is_empty() {
            return Ok(false);
        }
        let mut rest = &answers[..];
        while let Some(first) = rest.first() {
            let count = match first {
                Answer::Done(_) => {
                    let ids = rest.iter().map_while(|answer| match answer {
                        Answer::Done(id) => Some(*id),
                        Answer::Again(..) | Answer::Dead(_) => None,
                    });
                    let ids: Vec<_> = ids.take(ANSWERS).collect();
                    self.server.insist(Call::Script(&ACK, &self.seat.ack(&ids))).await?;
                    ids.len()
                }
                Answer::Again(id, delay) => {
                    let call = self.seat.give_back(*id, Some(*delay));
                    self.returned(self.server.insist(Call::Script(&RETURN, &call)).await?);
                    self.due.notify_one();
                    1
                }
                Answer::Dead(id) => {
                    let call = self.seat.give_back(*id, None);
                    self.returned(self.server.insist(Call::Script(&RETURN, &call)).await?);
                    1
                }
            };
            self.desk.confirm(count);
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(true)
    }

    fn returned(&self, answer: Value) {
        if answer == Value::Int(2) {
            self.meter.given_up(1);
        }
    }

    async fn tidy(&self) -> Result<Infallible, ConnectionError> {
        loop {
            sleep(self.seat.limits.tidy_every).await;
            // If it fails, next time, perhaps; nothing depends on it now.
            let tidied = self.server.insist(Call::Script(&TIDY, &self.seat.tidy())).await;
            if tidied == Err(ConnectionError::Closed) {
                return Err(ConnectionError::Closed);
            }
        }
    }
}

/// The group or the stream is not there, any more.
fn is_gone(error: &ConnectionError) -> bool {
    let gone = |text: &str| text.starts_with("NOGROUP") || text.starts_with("UNBLOCKED");
    matches!(error, ConnectionError::Protocol(text) if gone(text))
}

/// The one event of an entry.
pub(super) fn event(frame: bytes::Bytes) -> Option<Event> {
    let frame = codec::Frame::parse(frame).ok()?;
    let view = frame.iter().next()?.ok()?;
    view.to_event().ok()
}
