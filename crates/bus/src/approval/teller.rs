//! The one task of a bus's approvals: it notices deadlines, and tells of every
//! change, in order.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

use swarmbus_core::{Event, Payload};

use super::book::{Book, Untold};
use crate::{handler::contained, inner::Inner};

/// Who the events of approvals are from.
const SOURCE: &str = "approvals";

/// Runs the approvals of a bus until it closes.
pub(crate) async fn drive(book: Arc<Book>, inner: Weak<Inner>) {
    let all = async { tokio::join!(notice_deadlines(&book), call(&book), publish(&book, &inner)) };
    book.closed.run_until_cancelled(all).await;
}

async fn notice_deadlines(book: &Book) {
    loop {
        match book.expire() {
            Some(wait) => {
                // Ended early by a request, whose deadline may be nearer.
                let _ = tokio::time::timeout(wait, book.asked.notified()).await;
            }
            None => book.asked.notified().await,
        }
    }
}

/// The callback first: it waits for no room in the queue.
async fn call(book: &Book) {
    loop {
        let Some(untold) = book.next_untold() else {
            book.changed.notified().await;
            continue;
        };
        if let Some(call) = &book.on_change
            && catch_unwind(AssertUnwindSafe(|| call(&untold.notice))).is_err()
        {
            tracing::error!("a callback of approvals panicked");
        }
        book.publish_later(untold);
        tokio::task::coop::consume_budget().await;
    }
}

async fn publish(book: &Book, inner: &Weak<Inner>) {
    loop {
        let Some(untold) = book.next_unpublished() else {
            book.called.notified().await;
            continue;
        };
        let Some(inner) = inner.upgrade() else { return };
        let Some(event) = event(&untold) else { continue };
        let published = contained(inner.publish_until_taken(&event)).await;
        let refused = match published {
            Ok(Ok(())) => continue,
            Ok(Err(cause)) => cause.to_string(),
            Err(panic) => panic,
        };
        tracing::warn!(ty = %event.ty(), refused, "an event of approvals was not published");
    }
}

fn event(untold: &Untold) -> Option<Event> {
    let Untold { notice, command } = untold;
    let payload = Payload::json(notice).ok()?;
    let mut event = Event::of(notice.change.event_type(), payload)
        .with_source(SOURCE)
        .with_priority(command.priority());
    if let Some(id) = command.id() {
        event = event.with_correlation_id(command.correlation_id().unwrap_or(&id).clone());
        event = event.with_causation_id(id);
    }
    if let Some(traceparent) = command.traceparent() {
        event = event.with_traceparent(traceparent);
    }
    match command.session() {
        Some(session) => Some(event.with_session(session)),
        None => Some(event),
    }
}
