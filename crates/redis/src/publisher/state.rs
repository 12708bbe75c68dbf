//! [`State`]: the events that a publisher has taken in, and their numbers.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use ahash::RandomState;
use lru::LruCache;
use swarmbus::transport::{Channel, TransportError};
use swarmbus_core::{
    Event,
    overflow::{Overflow, Reason},
};
use tokio::time::Instant;

use super::{Shared, desk::Ticketed};
use crate::{
    carrier::Carrier,
    channel::{key, main_purpose},
    error::ConnectionError,
    outbox::{Entry, Lane, Offered, Outbox},
    wire::request::Request,
};

/// Channels whose numbering is remembered. One that is forgotten begins anew
/// under another publisher's number.
const MAX_LANES: NonZeroUsize = NonZeroUsize::new(4_096).expect("not 0");

/// How often subscribers are told where a channel that has fallen silent is. A
/// connection may be away when they are told first.
const POSITIONS: u8 = 3;

/// Events and bytes that wait at most while the server takes what it is sent, if
/// publishers wait for room anyway: what waits then is old when it leaves. The
/// whole buffer is for times when nothing can be sent.
const FLOWING: (usize, usize) = (4_096, 1 << 20);

/// What a publisher has taken in.
pub(super) struct State {
    pub(super) outbox: Outbox,
    lanes: LruCache<Channel, Numbering, RandomState>,
    /// Lost since the last flush.
    pub(super) lost: u64,
    /// The same, never taken back.
    pub(super) ever_lost: u64,
    /// What happened to the last of them.
    pub(super) cause: Option<TransportError>,
    /// Subscribers are to be told the numbers that come next.
    pub(super) positions_due: bool,
    /// Packed while others were on their way: to be sent before anything that
    /// waits in the outbox.
    pub(super) packed: Vec<Ticketed>,
    /// The server takes what it is sent, and publishers may be made to wait:
    /// see [`FLOWING`].
    pub(super) flowing: bool,
    /// Why the server does not take what it is sent, while that lasts.
    pub(super) trouble: Option<ConnectionError>,
    pub(super) closed: bool,
}

/// How far a channel is.
struct Numbering {
    lane: Arc<Lane>,
    next: u64,
    /// How often the position is still to be told after the last event.
    positions: u8,
}

/// Why an event was not taken.
pub(super) enum Refusal {
    /// Waiting is no use.
    Final(TransportError),
    /// There is room, but the server is about to take what waits.
    Flow,
    /// There may be room later.
    Full,
    /// There will be room then.
    RateLimited(Duration),
}

impl State {
    pub(super) fn new(
        overflow: Overflow,
        max_events: NonZeroUsize,
        max_bytes: NonZeroUsize,
    ) -> Self {
        Self {
            outbox: Outbox::new(overflow, max_events, max_bytes),
            lanes: LruCache::with_hasher(MAX_LANES, RandomState::default()),
            lost: 0,
            ever_lost: 0,
            cause: None,
            positions_due: false,
            packed: Vec::new(),
            flowing: false,
            trouble: None,
            closed: false,
        }
    }

    /// Takes an event in, and numbers it.
    pub(super) fn offer(
        &mut self,
        shared: &Shared,
        channel: &Channel,
        event: Event,
        len: usize,
    ) -> Result<(), Box<(Event, Refusal)>> {
        if self.closed {
            return Err(Box::new((event, Refusal::Final(TransportError::Closed))));
        }
        let numbering = self.lanes.get_or_insert_mut_ref(channel, || Numbering {
            lane: Arc::new(Lane {
                key: key(&shared.prefix, channel, main_purpose(channel.mode())),
                channel: channel.clone(),
                publisher: fastrand::u64(..),
                born: Instant::now(),
            }),
            next: 1,
            positions: 0,
        });
        let (lane, number) = (Arc::clone(&numbering.lane), numbering.next);
        let entry = Entry { lane, event, number, len, ticket: 0 };
        match self.outbox.offer(entry, || shared.now()) {
            Offered::Taken { dropped } => {
                numbering.next += 1;
                numbering.positions = POSITIONS;
                if !dropped.is_empty() {
                    self.lose(dropped.len(), TransportError::Full);
                    shared.meter.lost("overflow", dropped.len());
                }
                Ok(())
            }
            Offered::Refused(entry, reason) => {
                let refusal = match reason {
                    Reason::RateLimited { retry_after } => Refusal::RateLimited(retry_after),
                    Reason::Outranked => Refusal::Final(TransportError::Full),
                    _ => Refusal::Full,
                };
                Err(Box::new((entry.event, refusal)))
            }
        }
    }

    /// Whether enough waits for a server that takes what it is sent.
    pub(super) fn flows(&self) -> bool {
        self.flowing && (self.outbox.len() >= FLOWING.0 || self.outbox.bytes() >= FLOWING.1)
    }

    /// What tells the positions of channels that have fallen silent, if it is
    /// time to. It has to be sent after all that was taken out before.
    pub(super) fn due_positions(&mut self, carrier: &dyn Carrier) -> Request {
        let mut request = Request::new();
        if !self.positions_due || !self.outbox.is_empty() {
            return request;
        }
        self.positions_due = false;
        let silent = self.lanes.iter_mut().filter(|(_, numbering)| numbering.positions > 0);
        for (_, numbering) in silent {
            numbering.positions -= 1;
            carrier.position(&numbering.lane, numbering.next, &mut request);
        }
        request
    }

    pub(super) fn lose(&mut self, events: usize, cause: TransportError) {
        self.lost += events as u64;
        self.ever_lost += events as u64;
        self.cause = Some(cause);
    }
}
