//! The pure heart of swarmbus: what an event is, how it travels as bytes, who
//! should receive it, and when to stop trying.
//!
//! Nothing here reads a clock, does I/O or spawns a task: `now` is always an
//! argument. The same code therefore runs under the tokio bus, in tests with
//! invented time, and compiled to WebAssembly for Node.js.
//!
//! ```
//! use swarmbus_core::{Event, Priority};
//!
//! let event = Event::of("task.created", "resize image 17")
//!     .with_source("coordinator-1")
//!     .with_priority(Priority::HIGH);
//! assert_eq!(event.ty().as_str(), "task.created");
//! assert_eq!(event.text(), Some("resize image 17"));
//! ```
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`event`] | What is an event? |
//! | [`codec`] | How does it travel as bytes, and how is it read safely? |
//! | [`router`] | Which handlers want this type? |
//! | [`breaker`] | May this call go ahead? |
//! | [`backoff`] | How long until the next try? |
//! | [`hops`] | Has this event come too far? |
//! | [`timeout`] | When must a call be over? |
//! | [`approval`] | Has somebody said yes? |
//! | [`lifecycle`] | How is the system as a whole? |
//! | [`moment`] | What is `now` for code without a clock? |
//! | [`overflow`] | What happens to an event that finds the queue full? |

pub mod approval;
pub mod backoff;
pub mod breaker;
pub mod codec;
pub mod event;
pub mod hops;
pub mod lifecycle;
pub mod moment;
pub mod overflow;
pub mod router;
mod sync;
pub mod timeout;

pub use event::{Content, Event, EventId, EventType, Payload, Priority, Str, Target, Timestamp};
pub use moment::{Clock, Moment};
