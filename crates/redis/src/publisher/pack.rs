//! [`Packer`]: joins waiting events into parcels.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use swarmbus_core::codec::FrameWriter;

use crate::{
    carrier::Parcel,
    outbox::{Entry, Lane},
};

/// How much one parcel holds at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// A parcel ends where a number is missing.
    pub(super) numbered: bool,
}

/// Joins events into parcels of their lanes. Keeps the memory of frames.
#[derive(Debug)]
pub(super) struct Packer {
    limits: Limits,
    open: Vec<Open>,
    /// Where the parcel of a lane is in `open`, by the lane's number.
    places: HashMap<u64, usize, RandomState>,
    spare: Vec<FrameWriter>,
}

/// A parcel that is not full yet.
#[derive(Debug)]
struct Open {
    lane: Arc<Lane>,
    writer: FrameWriter,
    first: u64,
    next: u64,
}

impl Packer {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: Vec::new(), places: HashMap::default(), spare: Vec::new() }
    }

    /// Gives all of `entries` to `out` as parcels. Those of a lane are in the
    /// order of its events; lanes are in the order in which their parcels filled
    /// up. A frame that `out` drops at once is memory for the next.
    pub(super) fn pack(&mut self, entries: &mut Vec<Entry>, mut out: impl FnMut(Parcel)) {
        let mut at = 0;
        for entry in &*entries {
            // Mostly the next event is of the same lane.
            let same = self.open.get(at).is_some_and(|open| Arc::ptr_eq(&open.lane, &entry.lane));
            if !same {
                at = self.place(entry);
            }
            self.add(at, entry, &mut out);
        }
        entries.clear();
        for open in &mut self.open {
            open.close(&mut out);
        }
        self.spare.extend(self.open.drain(..).map(|open| open.writer));
        self.spare.truncate(16);
        self.places.clear();
    }

    fn place(&mut self, entry: &Entry) -> usize {
        let (open, spare) = (&mut self.open, &mut self.spare);
        *self.places.entry(entry.lane.publisher).or_insert_with(|| {
            let writer = spare.pop().unwrap_or_default();
            let (lane, first) = (Arc::clone(&entry.lane), entry.number);
            open.push(Open { lane, writer, first, next: first });
            open.len() - 1
        })
    }

    fn add(&mut self, at: usize, entry: &Entry, out: &mut impl FnMut(Parcel)) {
        let Some(open) = self.open.get_mut(at) else { return };
        let hole = self.limits.numbered && open.next != entry.number;
        let full = open.writer.count() >= self.limits.events
            || open.writer.len() + entry.len > self.limits.bytes;
        if hole || full {
            open.close(out);
        }
        if open.writer.is_empty() {
            open.first = entry.number;
        }
        // What was let into the outbox fits into a frame by itself.
        if open.writer.push(&entry.event).is_err() {
            open.close(out);
            open.first = entry.number;
            let pushed = open.writer.push(&entry.event);
            debug_assert!(pushed.is_ok(), "{pushed:?}");
        }
        open.next = entry.number + 1;
    }
}

impl Open {
    fn close(&mut self, out: &mut impl FnMut(Parcel)) {
        let count = u32::try_from(self.writer.count()).unwrap_or(u32::MAX);
        // Fails only without events.
        if let Ok(frame) = self.writer.finish() {
            let lane = Arc::clone(&self.lane);
            out(Parcel { lane, frame, count, first: self.first, again: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use swarmbus::transport::Channel;
    use swarmbus_core::{Event, codec::Frame};

    use super::*;

    fn lanes() -> Vec<Arc<Lane>> {
        let channel = |n: u64| Channel::live(&format!("c{n}")).unwrap();
        (0..3)
            .map(|n| {
                Arc::new(Lane {
                    channel: channel(n),
                    key: String::new(),
                    publisher: n,
                    born: tokio::time::Instant::now(),
                })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_order_is_kept(
            steps in prop::collection::vec((0_usize..3, 0_usize..40, any::<bool>()), 1..60),
            events in 1_usize..6,
            bytes in 1_usize..400,
            numbered in any::<bool>(),
        ) {
            let (lanes, mut numbers) = (lanes(), [0_u64; 3]);
            let mut packer = Packer::new(Limits { events, bytes, numbered });
            let mut entries: Vec<_> = steps.iter().map(|(lane, len, skip)| {
                numbers[*lane] += 1 + u64::from(*skip);
                let event = Event::of("x", format!("{}{}", numbers[*lane], " ".repeat(*len)));
                let len = swarmbus_core::codec::record_len(&event).unwrap();
                Entry { lane: Arc::clone(&lanes[*lane]), event, number: numbers[*lane], len, ticket: 0 }
            }).collect();
            let expected: Vec<Vec<_>> = (0..3).map(|lane| {
                entries.iter().filter(|e| e.lane.publisher == lane)
                    .map(|e| (e.number, e.event.clone())).collect()
            }).collect();
            let mut found = vec![Vec::new(); 3];
            let mut parcels = Vec::new();
            packer.pack(&mut entries, |parcel| parcels.push(parcel));
            for parcel in parcels {
                let frame = Frame::parse(parcel.frame.clone()).unwrap();
                prop_assert_eq!(frame.count(), parcel.count as usize);
                prop_assert!(frame.count() <= events);
                prop_assert!(frame.count() == 1 || parcel.frame.len() <= bytes);
                let found = &mut found[parcel.lane.publisher as usize];
                for (number, view) in (parcel.first..).zip(&frame) {
                    found.push((number, view.unwrap().to_event().unwrap()));
                }
            }
            for (found, expected) in found.iter().zip(&expected) {
                let events = |list: &[(u64, Event)]| list.iter().map(|e| e.1.clone()).collect::<Vec<_>>();
                prop_assert_eq!(events(found), events(expected));
                if numbered {
                    prop_assert_eq!(found, expected);
                }
            }
            prop_assert!(entries.is_empty());
        }
    }
}
