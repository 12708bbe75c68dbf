//! Events and gaps as lines on standard output.

use std::ops::ControlFlow;

use anyhow::Result;
use serde::Serialize;
use serde_json::value::RawValue;
use swarmbus::{
    Event,
    core::event::Content,
    transport::{Gap, GapReason, Position, Received},
};

use super::More;
use crate::cmd::{
    print_on, say,
    store::{json_of, one_line},
};

/// How events are printed.
pub(super) struct Show {
    pub(super) json: bool,
    /// Tasks are acknowledged, and say how often they were delivered.
    pub(super) group: bool,
}

#[derive(Serialize)]
struct EventLine {
    event: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u32>,
}

#[derive(Serialize)]
struct GapLine {
    gap: GapObject,
}

#[derive(Serialize)]
struct GapObject {
    /// `null` if that cannot be known.
    missed: Option<u64>,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
}

impl Show {
    /// Prints an event. A task that was printed is acknowledged.
    pub(super) fn event(&self, received: Received) -> Result<More> {
        let printed = if self.json {
            match json_of(&received.event) {
                Some(event) => {
                    let deliveries = self.group.then(|| received.deliveries());
                    let line = EventLine { event, position: received.position(), deliveries };
                    print_on(serde_json::to_string(&line)?)?
                }
                None => {
                    say("note: an event cannot be written as JSON and was left out");
                    ControlFlow::Continue(())
                }
            }
        } else {
            print_on(text(&received))?
        };
        if printed.is_break() {
            return Ok(More::No);
        }
        received.ack();
        Ok(More::Yes)
    }
}

/// Returns when nobody reads standard output any more, as far as that can be seen without
/// writing to it.
pub(super) async fn unread() {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use tokio::{io::Interest, net::unix::pipe::Sender};
        let output = std::io::stdout().as_fd().try_clone_to_owned();
        // An error of a pipe is that its other end is closed. Files have none, and are refused.
        // Unchecked, so that it goes on to wait when it is written to.
        if let Ok(output) = output.and_then(Sender::from_owned_fd_unchecked)
            && output.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Prints a gap.
pub(super) fn gap(gap: &Gap, json: bool) -> Result<More> {
    Ok(if print_on(gap_line(gap, json))?.is_break() { More::No } else { More::Yes })
}

/// A gap as a line that cannot be overlooked.
pub(super) fn gap_line(gap: &Gap, json: bool) -> String {
    if json {
        let Gap { missed, reason, position } = gap;
        let (missed, position) = (*missed, *position);
        let gap = GapObject { missed, reason: reason.name(), position };
        // Of numbers and names, which JSON has.
        return serde_json::to_string(&GapLine { gap }).unwrap_or_default();
    }
    let missed = match gap.missed {
        Some(1) => "1 EVENT IS MISSING HERE".to_owned(),
        Some(missed) => format!("{missed} EVENTS ARE MISSING HERE"),
        None => "EVENTS ARE MISSING HERE".to_owned(),
    };
    format!("!!!!!!!! {missed}: {} !!!!!!!!", why(gap.reason))
}

fn why(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Slow => "they were not read fast enough",
        GapReason::Disconnected => "there was no connection",
        GapReason::Lost => "they were lost on the way",
        GapReason::Trimmed => "the channel no longer has them",
        GapReason::NewEpoch => "the server lost the channel, which has begun anew",
        GapReason::Unreadable => "they could not be read",
        other => other.name(),
    }
}

fn text(received: &Received) -> String {
    let event = &received.event;
    let mut line = String::new();
    if let Some(position) = received.position() {
        line.push_str(&format!("{position} "));
    }
    if let Some(at) = event.timestamp() {
        line.push_str(&format!("{at} "));
    }
    line.push_str(event.ty().as_str());
    if !event.source().is_empty() {
        line.push_str(&format!(" from {}", one_line(event.source())));
    }
    if received.redelivered() {
        line.push_str(&format!(" (delivery {})", received.deliveries()));
    }
    if !event.payload().is_empty() {
        line.push_str(&format!(": {}", carried(event)));
    }
    line
}

/// A payload on one line.
fn carried(event: &Event) -> String {
    let bytes = event.payload();
    match event.content() {
        Content::Json | Content::Text => one_line(&String::from_utf8_lossy(bytes)),
        Content::MessagePack => match event.decode::<serde_json::Value>() {
            Ok(value) => value.to_string(),
            Err(_) => format!("{} bytes of MessagePack", bytes.len()),
        },
        Content::Binary => format!("{} bytes", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_an_event_says_breaks_its_line() {
        let event = Event::of("note.taken", "two\nlines\u{1b}[31m").with_source("a\tb");
        let line = text(&Received::live(event));
        assert_eq!(line, "note.taken from a b: two lines [31m");
    }

    #[test]
    fn gaps_stand_out() {
        let gap = Gap::new(3, GapReason::Slow);
        assert!(gap_line(&gap, false).contains("3 EVENTS ARE MISSING HERE"));
        assert_eq!(gap_line(&gap, true), r#"{"gap":{"missed":3,"reason":"slow"}}"#);
        let gap =
            Gap::new(None, GapReason::NewEpoch).up_to(Position { epoch: 1, term: 0, offset: 2 });
        let json =
            r#"{"gap":{"missed":null,"reason":"new_epoch","position":"0000000000000001-2"}}"#;
        assert_eq!(gap_line(&gap, true), json);
    }
}
