//! [`Desk`]: sends over one connection, and knows what is on its way.
//!
//! The task has it, and lends it to whoever publishes when there is little to do: then
//! an event is written by its publisher and not handed to another task, which the
//! system may let run much later.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use swarmbus_core::overflow::Overflow;

use super::{
    Batching, Shared,
    pack::{Limits, Packer},
};
use crate::{
    carrier::{Carrier, Parcel},
    connection::Link,
    outbox::Entry,
    wire::{Answers, Connection, request::Request},
};

/// Rounds on their way at a time: the server works on one while the other is
/// made. More of them would be smaller ones.
const WINDOW: usize = 2;

/// As long as no more events are on their way, there may be more rounds: what comes
/// now and then does not wait for an answer.
const FEW: usize = 32;

/// What one round holds at most, in events and bytes, of carriers that do not
/// send again.
const ROUND: (usize, usize) = (2_048, 256 << 10);

/// The header of a parcel's frame, of which the outbox knows nothing.
const PARCEL_SLACK: usize = swarmbus_core::codec::layout::FRAME_HEADER;

/// A parcel, and the lowest ticket of the round that it was packed in.
pub(super) struct Ticketed(pub(super) u64, pub(super) Parcel);

/// Parcels that were sent together.
pub(super) struct Round {
    pub(super) parcels: Vec<Ticketed>,
    pub(super) answers: Answers,
}

pub(super) struct Desk {
    carrier: Arc<dyn Carrier>,
    link: Link,
    packer: Packer,
    /// What is sent over, while that works.
    connection: Option<(u64, Connection)>,
    /// Publishers may send by themselves: nothing has to go before what they have.
    lent: bool,
    /// Oldest first; the one that the task waits for it has taken out.
    pub(super) rounds: VecDeque<Round>,
    /// Rounds on their way, that one included, and their events.
    on_way: (usize, usize),
    taken: Vec<Entry>,
    /// Kept for its memory.
    request: Request,
}

/// A connection is of no use any more.
pub(super) struct Broken;

impl Desk {
    /// Events of more bytes are not for whoever publishes to write.
    pub(super) const LONG: usize = 16 << 10;

    pub(super) fn new(link: Link, carrier: Arc<dyn Carrier>, batching: &Batching) -> Self {
        let limits = Limits {
            events: batching.events.get(),
            bytes: batching.bytes.get(),
            numbered: carrier.numbered(),
        };
        Self {
            carrier,
            link,
            packer: Packer::new(limits),
            connection: None,
            lent: false,
            rounds: VecDeque::new(),
            on_way: (0, 0),
            taken: Vec::new(),
            request: Request::new(),
        }
    }

    /// Sends over this connection from now on.
    pub(super) fn open(&mut self, number: u64, connection: &Connection) {
        self.connection = Some((number, connection.clone()));
    }

    /// Sends nothing more, and gives up what was on its way.
    pub(super) fn close(&mut self) -> VecDeque<Round> {
        self.connection = None;
        self.lend(false);
        self.on_way = (0, 0);
        std::mem::take(&mut self.rounds)
    }

    pub(super) fn lend(&mut self, lent: bool) {
        self.lent = lent;
    }

    /// Whether another round may go: `alone`, after all others are answered.
    pub(super) fn has_room(&self, alone: bool) -> bool {
        let (rounds, events) = self.on_way;
        if alone { rounds == 0 } else { rounds < WINDOW || events < FEW }
    }

    /// A round that was taken out is answered.
    pub(super) fn answered(&mut self, round: &Round) {
        self.on_way.0 -= 1;
        self.on_way.1 -= events(&round.parcels);
    }

    /// For whoever publishes: sends all that waits. `false` if the task has to see to
    /// it. The task is woken by the answer.
    ///
    /// With a round on its way and another made, what comes next is left to collect,
    /// or somebody who publishes much would send it all one by one.
    pub(super) fn send_directly(&mut self, shared: &Shared) -> bool {
        if !self.lent || self.on_way.0 >= WINDOW {
            return false;
        }
        let sent = self.next_round(shared, &mut VecDeque::new(), true);
        sent.is_ok_and(|sent| sent) && shared.state.lock().outbox.is_empty()
    }

    /// Sends the first of these, or what waits if there are none, and returns before it
    /// is answered; `false` if nothing waits.
    pub(super) fn next_round(
        &mut self,
        shared: &Shared,
        again: &mut VecDeque<Ticketed>,
        wakes: bool,
    ) -> Result<bool, Broken> {
        let Some((number, connection)) = self.connection.clone() else { return Err(Broken) };
        // What is sent over a connection that is known to be gone is lost.
        if !self.link.is_current(number) {
            return Err(Broken);
        }
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        let parcels = match again.front() {
            Some(Ticketed(front, _)) => {
                // By themselves, so that a channel has one parcel on its way.
                let same = again.iter().take_while(|next| next.0 == *front).count();
                let parcels: Vec<_> = again.drain(..same).collect();
                for Ticketed(_, parcel) in &parcels {
                    self.carrier.command(parcel, &mut request);
                }
                parcels
            }
            None => self.fill(shared, &mut request),
        };
        let sent = request.commands() > 0;
        if sent {
            let wakes = wakes.then(|| Arc::clone(&shared.work));
            let answers = connection.send(&request, wakes);
            self.on_way.0 += 1;
            self.on_way.1 += events(&parcels);
            self.rounds.push_back(Round { parcels, answers });
        }
        self.request = request;
        Ok(sent)
    }

    /// Puts the commands of the next round into `request`: those of the parcels
    /// that are returned, and then those of positions.
    fn fill(&mut self, shared: &Shared, request: &mut Request) -> Vec<Ticketed> {
        let carrier = &*self.carrier;
        let keeps = carrier.keeps();
        let (events, bytes) = self.most(&shared.batching);
        let (mut parcels, positions) = {
            let mut state = shared.state.lock();
            state.flowing = matches!(shared.batching.overflow, Overflow::Reject);
            let packed = std::mem::take(&mut state.packed);
            if packed.is_empty() {
                state.outbox.take(events, bytes, &mut self.taken);
            }
            shared.meter.waiting(state.outbox.len());
            (packed, state.due_positions(carrier))
        };
        for Ticketed(_, parcel) in &parcels {
            carrier.command(parcel, request);
        }
        if let Some(ticket) = self.taken.first().map(|entry| entry.ticket) {
            shared.room.notify_waiters();
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
    fn most(&self, batching: &Batching) -> (usize, usize) {
        if !self.carrier.resends() {
            return ROUND;
        }
        // One parcel of each channel at the most.
        (batching.events.get(), batching.bytes.get().saturating_sub(PARCEL_SLACK).max(1))
    }

    /// Packs the next round while the server works on this one, if it is full
    /// already: one that is not may still grow. Only for carriers that have one
    /// round on its way at a time.
    pub(super) fn pack_ahead(&mut self, shared: &Shared) {
        if !self.carrier.resends() || self.on_way.0 == 0 {
            return;
        }
        let (events, bytes) = self.most(&shared.batching);
        {
            let mut state = shared.state.lock();
            let full = state.outbox.len() >= events || state.outbox.bytes() >= bytes;
            if !full || !state.packed.is_empty() {
                return;
            }
            state.outbox.take(events, bytes, &mut self.taken);
        }
        shared.room.notify_waiters();
        let Some(ticket) = self.taken.first().map(|entry| entry.ticket) else { return };
        let mut packed = Vec::new();
        self.packer.pack(&mut self.taken, |parcel| packed.push(Ticketed(ticket, parcel)));
        shared.state.lock().packed = packed;
    }
}

fn events(parcels: &[Ticketed]) -> usize {
    parcels.iter().map(|Ticketed(_, parcel)| parcel.count as usize).sum()
}
