//! [`Sender`]: the task that sends what a publisher collects.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use redis::Value;
use swarmbus::transport::TransportError;
use swarmbus_core::backoff::Backoff;
use tokio::time::sleep;
use tracing::warn;

use super::{
    Shared,
    desk::{Broken, Round, Ticketed},
};
use crate::{
    carrier::{Answer, Carrier, Parcel},
    connection::Link,
    error::{ConnectionError, disconnected, refused},
    wire::Connection,
};

/// Between tries when the server does not take what it is sent.
const NOT_NOW: Backoff =
    Backoff::exponential(Duration::from_millis(50)).cap(Duration::from_secs(1));

pub(super) struct Sender {
    shared: Arc<Shared>,
    link: Link,
    carrier: Arc<dyn Carrier>,
    /// The oldest of those that are on their way.
    first: Option<Round>,
    /// To be sent before anything newer.
    again: VecDeque<Ticketed>,
    /// How often in a row the server said: not now.
    refusals: u32,
    /// The keys are on another node: nothing more is sent to this one.
    moved: Option<ConnectionError>,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, link: Link, carrier: Arc<dyn Carrier>) -> Self {
        Self {
            shared,
            link,
            carrier,
            first: None,
            again: VecDeque::new(),
            refusals: 0,
            moved: None,
        }
    }

    pub(super) async fn run(mut self) {
        let end = self.shared.end.clone();
        let _gone = self.shared.gone.clone().drop_guard();
        end.run_until_cancelled(async {
            let mut number = 0;
            while let Ok((next, connection)) = self.link.next(number).await {
                number = next;
                let Err(Broken) = match self.prepare(number, &connection).await {
                    Ok(()) => self.serve(number, &connection).await,
                    Err(broken) => Err(broken),
                };
                self.forget_rounds();
            }
        })
        .await;
        self.hand_back();
    }

    /// Returns when the carrier can use the connection. What the server refuses to this
    /// user it would refuse over every connection: then somebody has to allow it.
    async fn prepare(&mut self, number: u64, connection: &Connection) -> Result<(), Broken> {
        loop {
            match self.carrier.prepare(connection).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_final() => self.hold(number, error).await?,
                Err(error) => {
                    let Err(broken) = self.broken(number, error);
                    return Err(broken);
                }
            }
        }
    }

    /// The publisher is closed. What the server did not take goes back to it; of what
    /// is on its way nobody will know whether it arrived.
    fn hand_back(&mut self) {
        let (mut unknown, mut left) = (0, Vec::new());
        let rounds = self.give_up();
        unknown += rounds.iter().flat_map(|round| &round.parcels).map(|p| p.1.count).sum::<u32>();
        for Ticketed(ticket, parcel) in std::mem::take(&mut self.again) {
            if parcel.again {
                unknown += parcel.count;
            } else {
                left.push(Ticketed(ticket, parcel));
            }
        }
        if unknown > 0 {
            let mode = self.carrier.name();
            warn!(mode, events = unknown, "closed while events were on their way to Redis");
            self.shared.meter.lost("unknown", unknown as usize);
        }
        let mut state = self.shared.state.lock();
        left.append(&mut state.packed);
        state.packed = left;
    }

    /// Sends over one connection, until that breaks.
    async fn serve(
        &mut self,
        number: u64,
        connection: &Connection,
    ) -> Result<std::convert::Infallible, Broken> {
        self.moved = None;
        self.shared.desk.lock().open(number, connection);
        loop {
            let room = self.send_what_waits()?;
            let Some(first) = &mut self.first else {
                if let Some(error) = self.moved.take() {
                    return self.broken(number, error);
                }
                tokio::select! {
                    () = self.shared.work.notified() => {}
                    () = self.link.lost(number) => return Err(Broken),
                }
                self.linger().await;
                continue;
            };
            let answers = tokio::select! {
                biased;
                answers = first.answers.all() => answers,
                () = self.shared.work.notified(), if room => continue,
            };
            self.settle(number, connection, answers).await?;
        }
    }

    /// Sends what may be on its way now. `true` if more may follow before an answer.
    fn send_what_waits(&mut self) -> Result<bool, Broken> {
        let shared = Arc::clone(&self.shared);
        let mut desk = shared.desk.lock();
        let alone = self.carrier.resends() || !self.again.is_empty();
        desk.lend(!alone && self.moved.is_none() && shared.batching.delay.is_zero());
        let room = loop {
            let room = self.moved.is_none() && desk.has_room(alone);
            if !room || !desk.next_round(&shared, &mut self.again, false)? {
                break room;
            }
        };
        desk.pack_ahead(&shared);
        self.first = self.first.take().or_else(|| desk.rounds.pop_front());
        Ok(room)
    }

    /// Lets a batch grow, if that is wanted.
    async fn linger(&mut self) {
        let batching = &self.shared.batching;
        if !batching.delay.is_zero()
            && self.shared.state.lock().outbox.len() < batching.events.get()
        {
            sleep(batching.delay).await;
        }
    }

    /// Takes note of what became of the oldest round.
    async fn settle(
        &mut self,
        number: u64,
        connection: &Connection,
        answers: Result<Vec<Value>, ConnectionError>,
    ) -> Result<(), Broken> {
        let Some(round) = self.first.take() else { return Ok(()) };
        self.shared.desk.lock().answered(&round);
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                self.unknown(round.parcels, &error);
                let Err(broken) = self.broken(number, error);
                return Err(broken);
            }
        };
        let (mut events, mut not_now, frames) = (0, None, round.parcels.len());
        for (Ticketed(ticket, parcel), answer) in round.parcels.into_iter().zip(answers) {
            match self.carrier.judge(answer) {
                Answer::Taken => events += parcel.count as usize,
                Answer::Refused(error) => self.lose(&parcel, "refused", refused(error)),
                Answer::NotNow(error) => {
                    // It goes before anything newer.
                    self.shared.desk.lock().lend(false);
                    not_now = Some(error);
                    self.again.push_back(Ticketed(ticket, parcel));
                }
            }
        }
        self.shared.meter.sent(events, frames);
        self.mark_settled();
        match not_now {
            Some(error) if error.is_another_node() => {
                self.moved = Some(error);
                Ok(())
            }
            Some(error) => self.pause(number, connection, error).await,
            None => {
                if self.refusals > 0 {
                    self.refusals = 0;
                    self.shared.state.lock().trouble = None;
                }
                Ok(())
            }
        }
    }

    /// The server does not take it for now: waits, and prepares the next try.
    async fn pause(
        &mut self,
        number: u64,
        connection: &Connection,
        error: ConnectionError,
    ) -> Result<(), Broken> {
        self.hold(number, error).await?;
        self.prepare(number, connection).await
    }

    /// Waits, and lets publishers know why.
    async fn hold(&mut self, number: u64, error: ConnectionError) -> Result<(), Broken> {
        if self.refusals == 0 {
            warn!(mode = self.carrier.name(), %error, "Redis does not take events; trying again");
        }
        if error.breaks_connection() {
            // Perhaps it is a replica now.
            self.link.doubt();
        }
        self.shared.state.lock().trouble = Some(error);
        self.stop_flowing();
        tokio::select! {
            () = sleep(NOT_NOW.delay(self.refusals, 0)) => {}
            () = self.link.lost(number) => return Err(Broken),
        }
        self.refusals = self.refusals.saturating_add(1);
        Ok(())
    }

    fn broken(
        &self,
        number: u64,
        error: ConnectionError,
    ) -> Result<std::convert::Infallible, Broken> {
        self.link.give_up(number, error);
        Err(Broken)
    }

    /// Publishers need not wait as long as there is room.
    fn stop_flowing(&self) {
        self.shared.state.lock().flowing = false;
        self.shared.room.notify_waiters();
    }

    /// What became of rounds whose connection broke is not known.
    fn forget_rounds(&mut self) {
        self.stop_flowing();
        for round in self.give_up() {
            let error = self.link.error().unwrap_or(ConnectionError::Closed);
            self.unknown(round.parcels, &error);
        }
    }

    /// Nothing more goes over this connection. Gives what was on its way.
    fn give_up(&mut self) -> Vec<Round> {
        let rounds = self.shared.desk.lock().close();
        self.first.take().into_iter().chain(rounds).collect()
    }

    fn unknown(&mut self, mut parcels: Vec<Ticketed>, error: &ConnectionError) {
        if self.carrier.resends() {
            parcels.iter_mut().for_each(|Ticketed(_, parcel)| parcel.again = true);
            self.again.extend(parcels);
        } else {
            for Ticketed(_, parcel) in parcels {
                self.lose(&parcel, "connection", disconnected(error.clone()));
            }
        }
        self.mark_settled();
    }

    fn lose(&self, parcel: &Parcel, reason: &'static str, cause: TransportError) {
        self.shared.meter.lost(reason, parcel.count as usize);
        self.shared.state.lock().lose(parcel.count as usize, cause);
    }

    /// Tells those who wait for a flush.
    fn mark_settled(&self) {
        let desk = self.shared.desk.lock();
        let rounds = self.first.iter().chain(&desk.rounds).flat_map(|round| &round.parcels);
        let oldest = self.again.iter().chain(rounds).map(|Ticketed(ticket, _)| *ticket).min();
        let settled = oldest.unwrap_or_else(|| {
            let state = self.shared.state.lock();
            let packed = state.packed.first().map(|Ticketed(ticket, _)| *ticket);
            packed.unwrap_or_else(|| state.outbox.oldest_ticket())
        });
        self.shared.settled.send_replace(settled);
    }
}
