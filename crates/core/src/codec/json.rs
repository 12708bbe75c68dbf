//! Events as `CloudEvents` 1.0 JSON: for people, HTTP and other programs.
//!
//! ```
//! use swarmbus_core::{Event, Priority, codec::json};
//!
//! let event = Event::of("task.created", "resize").with_source("agent-1").with_id("42");
//! let text = json::to_json(&event)?;
//! assert_eq!(
//!     String::from_utf8(text.clone())?,
//!     r#"{"specversion":"1.0","id":"42","source":"agent-1","type":"task.created","datacontenttype":"text/plain","data":"resize"}"#
//! );
//! assert_eq!(json::from_json(&text)?, event);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An event that was written is read back equal, payload bytes included.
//!
//! | event | JSON |
//! | --- | --- |
//! | id | `id`; [`UNSTAMPED`] when there is none |
//! | source | `source`; [`ANONYMOUS`] when it is empty |
//! | timestamp, deadline | `time`, `deadline`: RFC 3339 in UTC, whole microseconds |
//! | nonce | `nonce`: 16 lower-case hexadecimal digits, so that the id is again the one made from the stamp |
//! | priority | `priority`: an integer, left out when it is the default, 5 |
//! | target | `target`: `agent:NAME` or `swarm:NAME` |
//! | session, traceparent | `session`, `traceparent` |
//! | correlation and causation id | `correlationid`, `causationid` |
//! | hops | `hops`: joined by commas; within a hop `%` is `%25` and a comma is `%2C` |
//! | attributes | members of the same names, always strings |
//! | JSON payload | `data`, verbatim (spaces, number forms, key order) |
//! | text payload | `data`, a string |
//! | MessagePack or bytes, and what is not what its content says | `data_base64` |
//! | empty payload of bytes | neither `data` nor `datacontenttype` |
//!
//! Of events written elsewhere, `subject` and `dataschema` become attributes,
//! `null` is the same as absent, a `charset=utf-8` of the media type is
//! dropped because it says nothing new, and times lose what is finer than a
//! microsecond and their zone. Everything else that an event has no
//! place for ends in a [`FromJsonError`] that names it: other media types,
//! booleans and numbers as extension values, names outside `a-z0-9`.

mod error;
mod hops;
mod read;
mod write;

pub use error::{FromJsonError, ToJsonError};
pub use read::{from_json, from_json_with};
pub use write::to_json;

/// Stands for the empty source: `CloudEvents` wants one.
pub const ANONYMOUS: &str = "swarmbus:anonymous";

/// Stands for the id of an event that has none yet: `CloudEvents` wants one.
pub const UNSTAMPED: &str = "swarmbus:unstamped";

#[cfg(test)]
mod tests;
