//! [`Sender`]: the task that sends what a publisher collects.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value;
use swarmbus::transport::TransportError;
use swarmbus_core::{backoff::Backoff, overflow::Overflow};
use tokio::time::sleep;
use tracing::warn;

use super::{
    Shared,
    pack::{Limits, Packer},
};
use crate::{
    carrier::{Answer, Carrier, Parcel},
    connection::Link,
    error::{ConnectionError, disconnected, refused},
    outbox::Entry,
    wire::{Answers, Connection, request::Request},
};

/// Rounds on their way at a time: the server works on one while the other is
/// made. More of them would be smaller ones.
const WINDOW: usize = 2;

/// What one round holds at most, in events and bytes, of carriers that do not
/// send again.
const ROUND: (usize, usize) = (2_048, 256 << 10);

/// Between tries when the server does not take what it is sent.
const NOT_NOW: Backoff =
    Backoff::exponential(Duration::from_millis(50)).cap(Duration::from_secs(1));

pub(super) struct Sender {
    shared: Arc<Shared>,
    link: Link,
    carrier: Arc<dyn Carrier>,
    packer: Packer,
    rounds: VecDeque<Round>,
    /// To be sent before anything newer.
    again: VecDeque<Ticketed>,
    /// How often in a row the server said: not now.
    refusals: u32,
    /// The keys are on another node: nothing more is sent to this one.
    moved: Option<ConnectionError>,
    taken: Vec<Entry>,
    /// Kept for its memory.
    request: Request,
}

/// A parcel, and the lowest ticket of the round that it was packed in.
pub(super) struct Ticketed(pub(super) u64, pub(super) Parcel);

/// Parcels that were sent together.
struct Round {
    parcels: Vec<Ticketed>,
    answers: Answers,
}

/// A connection is of no use any more.
struct Broken;

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, link: Link, carrier: Arc<dyn Carrier>) -> Self {
        let limits = Limits {
            events: shared.batching.events.get(),
            bytes: shared.batching.bytes.get(),
            numbered: carrier.numbered(),
        };
        Self {
            shared,
            link,
            carrier,
            packer: Packer::new(limits),
            rounds: VecDeque::new(),
            again: VecDeque::new(),
            refusals: 0,
            moved: None,
            taken: Vec::new(),
            request: Request::new(),
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
        let rounds = std::mem::take(&mut self.rounds);
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
        loop {
            if let Some(error) = self.moved.take_if(|_| self.rounds.is_empty()) {
                return self.broken(number, error);
            }
            let alone = self.carrier.resends() || !self.again.is_empty();
            let window = match (&self.moved, alone) {
                (Some(_), _) => 0,
                (None, true) => 1,
                (None, false) => WINDOW,
            };
            while self.rounds.len() < window && self.next_round(number, connection)? {}
            self.pack_ahead();
            let room = self.rounds.len() < window;
            let Some(first) = self.rounds.front_mut() else {
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

    /// Lets a batch grow, if that is wanted.
    async fn linger(&mut self) {
        let batching = &self.shared.batching;
        if !batching.delay.is_zero()
            && self.shared.state.lock().outbox.len() < batching.events.get()
        {
            sleep(batching.delay).await;
        }
    }

    /// Sends what waits, and returns before it is answered; `false` if nothing
    /// waits.
    fn next_round(&mut self, number: u64, connection: &Connection) -> Result<bool, Broken> {
        // What is sent over a connection that is known to be gone is lost.
        if !self.link.is_current(number) {
            return Err(Broken);
        }
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        let parcels = self.fill(&mut request);
        let sent = request.commands() > 0;
        if sent {
            let answers = connection.send(&request);
            self.rounds.push_back(Round { parcels, answers });
        }
        self.request = request;
        Ok(sent)
    }

    /// Puts the commands of the next round into `request`: those of the parcels
    /// that are returned, and then those of positions.
    fn fill(&mut self, request: &mut Request) -> Vec<Ticketed> {
        if let Some(Ticketed(front, _)) = self.again.front() {
            // By themselves, so that a channel has one parcel on its way.
            let same = self.again.iter().take_while(|next| next.0 == *front).count();
            let parcels: Vec<_> = self.again.drain(..same).collect();
            for Ticketed(_, parcel) in &parcels {
                self.carrier.command(parcel, request);
            }
            return parcels;
        }
        let carrier = &*self.carrier;
        let keeps = carrier.keeps();
        let (events, bytes) = self.most();
        let (mut parcels, positions) = {
            let mut state = self.shared.state.lock();
            state.flowing = matches!(self.shared.batching.overflow, Overflow::Reject);
            let packed = std::mem::take(&mut state.packed);
            if packed.is_empty() {
                state.outbox.take(events, bytes, &mut self.taken);
            }
            self.shared.meter.waiting(state.outbox.len());
            (packed, state.due_positions(carrier))
        };
        for Ticketed(_, parcel) in &parcels {
            carrier.command(parcel, request);
        }
        if let Some(ticket) = self.taken.first().map(|entry| entry.ticket) {
            self.shared.room.notify_waiters();
            self.packer.pack(&mut self.taken, |mut parcel| {
                carrier.command(&parcel, request);
                if !keeps {
                    parcel.frame = Bytes::new();
                }
                parcels.push(Ticketed(ticket, parcel));
            });
        }
        request.append(&positions);
        parcels
    }

    /// What one round holds at most, in events and bytes.
    fn most(&self) -> (usize, usize) {
        if !self.carrier.resends() {
            return ROUND;
        }
        // One parcel of each channel at the most.
        let batching = &self.shared.batching;
        (batching.events.get(), batching.bytes.get().saturating_sub(PARCEL_SLACK).max(1))
    }

    /// Packs the next round while the server works on this one, if it is full
    /// already: one that is not may still grow. Only for carriers that have one
    /// round on its way at a time.
    fn pack_ahead(&mut self) {
        if !self.carrier.resends() || self.rounds.is_empty() {
            return;
        }
        let (events, bytes) = self.most();
        {
            let mut state = self.shared.state.lock();
            let full = state.outbox.len() >= events || state.outbox.bytes() >= bytes;
            if !full || !state.packed.is_empty() {
                return;
            }
            state.outbox.take(events, bytes, &mut self.taken);
        }
        self.shared.room.notify_waiters();
        let Some(ticket) = self.taken.first().map(|entry| entry.ticket) else { return };
        let mut packed = Vec::new();
        self.packer.pack(&mut self.taken, |parcel| packed.push(Ticketed(ticket, parcel)));
        self.shared.state.lock().packed = packed;
    }

    /// Takes note of what became of the oldest round.
    async fn settle(
        &mut self,
        number: u64,
        connection: &Connection,
        answers: Result<Vec<Value>, ConnectionError>,
    ) -> Result<(), Broken> {
        let Some(round) = self.rounds.pop_front() else { return Ok(()) };
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
        let rounds = std::mem::take(&mut self.rounds);
        for round in rounds {
            let error = self.link.error().unwrap_or(ConnectionError::Closed);
            self.unknown(round.parcels, &error);
        }
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
        let rounds = self.rounds.iter().flat_map(|round| &round.parcels);
        let oldest = self.again.iter().chain(rounds).map(|Ticketed(ticket, _)| *ticket).min();
        let settled = oldest.unwrap_or_else(|| {
            let state = self.shared.state.lock();
            let packed = state.packed.first().map(|Ticketed(ticket, _)| *ticket);
            packed.unwrap_or_else(|| state.outbox.oldest_ticket())
        });
        self.shared.settled.send_replace(settled);
    }
}

/// The header of a parcel's frame, of which the outbox knows nothing.
const PARCEL_SLACK: usize = swarmbus_core::codec::layout::FRAME_HEADER;
