//! [`Trunks`]: connections to the nodes of a cluster, which partitions share.
//!
//! A partition is on one node at a time, and a node has many of them. Each has a
//! [`Link`](crate::connection::Link) of its own, which knows where the partition is
//! now; those that are on the same node for the same purpose share a connection.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};

use super::slots::Node;
use crate::{dialer::OnPush, error::ConnectionError};

/// A connection, as long as somebody uses it.
struct Trunk {
    connection: MultiplexedConnection,
    users: Arc<Users>,
}

/// Those who use a trunk.
#[derive(Default)]
struct Users(Mutex<State>);

#[derive(Default)]
struct State {
    /// It is of no use any more: nobody else gets it.
    broken: bool,
    next: u64,
    users: Vec<User>,
}

struct User {
    id: u64,
    /// What names that concern it begin with.
    prefix: String,
    on_push: OnPush,
}

/// One user's share of a connection; dropped, it is given up.
#[derive(Default)]
pub(crate) struct Line(Option<(Arc<Trunk>, u64)>);

type Place = Arc<tokio::sync::Mutex<Weak<Trunk>>>;

/// The trunks that there are, by node and purpose.
#[derive(Default)]
pub(super) struct Trunks {
    places: Mutex<HashMap<(Node, String), Place>>,
}

impl Trunks {
    /// A connection to a node for a purpose: the one that there is, or one that
    /// `dial` makes. Cancel safe.
    pub(super) async fn line<D>(
        &self,
        node: &Node,
        purpose: &str,
        prefix: &str,
        on_push: OnPush,
        dial: impl FnOnce(OnPush) -> D,
    ) -> Result<(MultiplexedConnection, Line), ConnectionError>
    where
        D: Future<Output = Result<MultiplexedConnection, ConnectionError>>,
    {
        let place = {
            let mut places = self.places.lock();
            // Those of nodes that are gone.
            places.retain(|_, place| {
                place.try_lock().map_or(true, |trunk| trunk.strong_count() > 0)
                    || Arc::strong_count(place) > 1
            });
            Arc::clone(places.entry((node.clone(), purpose.to_owned())).or_default())
        };
        let mut place = place.lock().await;
        if let Some(trunk) = place.upgrade()
            && let Some(id) = trunk.users.join(prefix, &on_push)
        {
            return Ok((trunk.connection.clone(), Line(Some((trunk, id)))));
        }
        let users = Arc::<Users>::default();
        let everybody = Arc::clone(&users);
        let connection = dial(Arc::new(move |push| everybody.push(push))).await?;
        let Some(id) = users.join(prefix, &on_push) else {
            return Err(ConnectionError::Lost("closed by the other side".to_owned()));
        };
        let trunk = Arc::new(Trunk { connection: connection.clone(), users });
        *place = Arc::downgrade(&trunk);
        Ok((connection, Line(Some((trunk, id)))))
    }
}

impl Users {
    /// `None` if it is broken.
    fn join(&self, prefix: &str, on_push: &OnPush) -> Option<u64> {
        let mut state = self.0.lock();
        if state.broken {
            return None;
        }
        let id = state.next;
        state.next += 1;
        let (prefix, on_push) = (format!("{prefix}:"), Arc::clone(on_push));
        state.users.push(User { id, prefix, on_push });
        Some(id)
    }

    /// Gives a message to whom it concerns.
    fn push(&self, push: PushInfo) {
        if push.kind == PushKind::Disconnection {
            return self.broken();
        }
        let Some(Value::BulkString(name)) = push.data.first() else { return };
        let concerned = {
            let state = self.0.lock();
            let user = state.users.iter().find(|user| name.starts_with(user.prefix.as_bytes()));
            user.map(|user| Arc::clone(&user.on_push))
        };
        if let Some(on_push) = concerned {
            on_push(push);
        }
    }

    /// Tells everybody once that it is of no use any more.
    fn broken(&self) {
        let users: Vec<_> = {
            let mut state = self.0.lock();
            state.broken = true;
            state.users.drain(..).map(|user| user.on_push).collect()
        };
        for on_push in users {
            on_push(PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
        }
    }
}

impl Line {
    /// The user gives it up because of this. If that is the connection's fault,
    /// the others get another one, too.
    pub(crate) fn failed(&self, error: &ConnectionError) {
        let alone = matches!(
            error,
            ConnectionError::Moved { .. }
                | ConnectionError::Unsettled(_)
                | ConnectionError::NoPermission { .. }
                | ConnectionError::OutOfMemory
                | ConnectionError::TooManyTasks { .. }
                | ConnectionError::Loading
                | ConnectionError::Closed
        );
        if let Some((trunk, _)) = self.0.as_ref().filter(|_| !alone) {
            trunk.users.broken();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some((trunk, id)) = &self.0 {
            let mut state = trunk.users.0.lock();
            let at = state.users.iter().position(|user| user.id == *id);
            let gone = at.map(|at| state.users.swap_remove(at));
            drop(state);
            drop(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// Counts what it is told: messages, and that it is over.
    fn user(users: &Users, prefix: &str) -> [Arc<AtomicUsize>; 2] {
        let counts: [Arc<AtomicUsize>; 2] = Default::default();
        let [messages, ends] = counts.clone();
        let on_push: OnPush = Arc::new(move |push: PushInfo| {
            let over = push.kind == PushKind::Disconnection;
            if over { &ends } else { &messages }.fetch_add(1, Relaxed);
        });
        users.join(prefix, &on_push).unwrap();
        counts
    }

    fn message(name: &str) -> PushInfo {
        PushInfo { kind: PushKind::SMessage, data: vec![Value::BulkString(name.into())] }
    }

    #[test]
    fn messages_go_to_whom_they_concern_and_the_end_to_everybody() {
        let users = Users::default();
        let (a, b) = (user(&users, "s:{a}"), user(&users, "s:{ab}"));
        let counted = || [&a, &b].map(|counts| counts.clone().map(|count| count.load(Relaxed)));
        for name in ["s:{a}:{c}:live", "s:{ab}:{c}:live", "s:{ab}:{d}:live", "s:{c}:{c}:live", ""] {
            users.push(message(name));
        }
        assert_eq!(counted(), [[1, 0], [2, 0]]);
        users.push(PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
        users.push(message("s:{a}:{c}:live"));
        users.broken();
        assert_eq!(counted(), [[1, 1], [2, 1]]);
        assert!(users.join("s:{c}", &(Arc::new(|_| {}) as OnPush)).is_none());
    }
}
