//! Our side of the codec's cases.

use std::{hint::black_box, rc::Rc, time::Duration};

use bytes::Bytes;
use swarmbus_core::{
    Event,
    codec::{self, DecodeError, EventView, Frame, FrameWriter},
    router::RouteCache,
};

use super::{
    BATCH, Messages, in_batches, in_turn,
    message::{Message, Task},
};

/// A frame for each message.
pub(super) struct Frames {
    messages: Messages,
    frames: Rc<[Bytes]>,
}

impl Frames {
    pub(super) fn new(messages: &Messages) -> Self {
        let frames: Rc<[_]> = messages.iter().map(encode).collect();
        for (message, frame) in messages.iter().zip(&*frames) {
            assert_eq!(*message, Message::from_event(&decoded(frame)), "round trip");
        }
        Self { messages: Rc::clone(messages), frames }
    }

    pub(super) fn route_by_peek(&self) -> impl FnMut(u64) -> Duration + use<> {
        let frames = Rc::clone(&self.frames);
        let mut routes = Routes::new(&self.messages);
        in_turn(&self.messages, move |i| routes.find(codec::peek(&frames[i])))
    }

    pub(super) fn route_by_parse(&self) -> impl FnMut(u64) -> Duration + use<> {
        let frames = Rc::clone(&self.frames);
        let mut routes = Routes::new(&self.messages);
        in_turn(&self.messages, move |i| {
            // A receiver owns its bytes: this adds to a count of references.
            let frame = Frame::parse(frames[i].clone()).expect("a frame");
            frame.iter().map(|view| routes.find(view)).sum()
        })
    }

    pub(super) fn route_batch(&self) -> impl FnMut(u64) -> Duration + use<> {
        let mut writer = FrameWriter::new();
        for message in self.messages.iter().cycle().take(BATCH) {
            writer.push(&message.to_event()).expect("room");
        }
        let batch = writer.finish().expect("a frame");
        let mut routes = Routes::new(&self.messages);
        in_batches(&self.messages, move || {
            let frame = Frame::parse(black_box(&batch).clone()).expect("a frame");
            frame.iter().map(|view| routes.find(view)).sum()
        })
    }

    pub(super) fn decode(&self) -> impl FnMut(u64) -> Duration + use<> {
        let frames = Rc::clone(&self.frames);
        in_turn(&self.messages, move |i| {
            let event = decoded(&frames[i]);
            black_box(event.decode::<Task>().expect("decoded"));
            black_box(event).ty().as_str().len()
        })
    }
}

/// From the fields and the typed payload.
pub(super) fn encode(message: &Message) -> Bytes {
    codec::encode(&message.to_event()).expect("encoded")
}

fn decoded(frame: &Bytes) -> Event {
    let frame = Frame::parse(frame.clone()).expect("a frame");
    let view = frame.iter().next().expect("an event").expect("well formed");
    view.to_event().expect("well formed")
}

/// From a type's bytes to its handlers; here, to the length of the type.
struct Routes(RouteCache<usize>);

impl Routes {
    const GENERATION: u64 = 1;

    fn new(messages: &[Message]) -> Self {
        let mut cache = RouteCache::new(RouteCache::<()>::DEFAULT_CAPACITY);
        for message in messages {
            let event = message.to_event();
            cache.get_or_insert_with(Self::GENERATION, event.ty(), || message.ty.len());
        }
        Self(cache)
    }

    #[inline]
    fn find(&mut self, view: Result<EventView<'_>, DecodeError>) -> usize {
        let view = view.expect("well formed");
        *self.0.get_by_bytes(Self::GENERATION, view.type_bytes()).expect("a cached type")
    }
}
