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

use super::slots::Node;
use crate::{
    error::ConnectionError,
    wire::{Connection, Messages, OnPush, Push},
};

/// A connection, as long as somebody uses it.
struct Trunk {
    connection: Connection,
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
    prefix: Arc<str>,
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
    ) -> Result<(Connection, Line), ConnectionError>
    where
        D: Future<Output = Result<Connection, ConnectionError>>,
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
        let (prefix, on_push) = (format!("{prefix}:").into(), Arc::clone(on_push));
        state.users.push(User { id, prefix, on_push });
        Some(id)
    }

    /// Gives what comes to whom it concerns.
    fn push(&self, push: Push<'_>) {
        match push {
            Push::Ended(error) => self.broken(error),
            Push::Messages(messages) => self.messages(messages),
            Push::Left(name) => {
                if let Some((_, on_push)) = self.concerned(name.as_bytes()) {
                    on_push(push);
                }
            }
        }
    }

    fn messages(&self, mut messages: Messages<'_>) {
        while let Some(name) = messages.first_name() {
            // Strangers' are nobody's.
            let Some((prefix, on_push)) = self.concerned(name) else {
                messages = messages.skip_one();
                continue;
            };
            let (row, rest) = messages.split_prefix(prefix.as_bytes());
            on_push(Push::Messages(row));
            messages = rest;
        }
    }

    fn concerned(&self, name: &[u8]) -> Option<(Arc<str>, OnPush)> {
        let state = self.0.lock();
        let user = state.users.iter().find(|user| name.starts_with(user.prefix.as_bytes()))?;
        Some((Arc::clone(&user.prefix), Arc::clone(&user.on_push)))
    }

    /// Tells everybody once that it is of no use any more.
    fn broken(&self, error: &ConnectionError) {
        let users: Vec<_> = {
            let mut state = self.0.lock();
            state.broken = true;
            state.users.drain(..).map(|user| user.on_push).collect()
        };
        for on_push in users {
            on_push(Push::Ended(error));
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
            trunk.users.broken(error);
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
        let on_push: OnPush = Arc::new(move |push: Push<'_>| match push {
            Push::Messages(row) => drop(messages.fetch_add(row.payloads().count(), Relaxed)),
            Push::Left(_) => drop(messages.fetch_add(1, Relaxed)),
            Push::Ended(_) => drop(ends.fetch_add(1, Relaxed)),
        });
        users.join(prefix, &on_push).unwrap();
        counts
    }

    #[test]
    fn messages_go_to_whom_they_concern_and_the_end_to_everybody() {
        let users = Users::default();
        let (a, b) = (user(&users, "s:{a}"), user(&users, "s:{ab}"));
        let counted = || [&a, &b].map(|counts| counts.clone().map(|count| count.load(Relaxed)));
        for name in ["s:{a}:{c}:live", "s:{ab}:{c}:live", "s:{ab}:{d}:live", "s:{c}:{c}:live", ""] {
            users.push(Push::Left(name));
        }
        assert_eq!(counted(), [[1, 0], [2, 0]]);
        users.push(Push::Ended(&ConnectionError::Closed));
        users.push(Push::Left("s:{a}:{c}:live"));
        users.broken(&ConnectionError::Closed);
        assert_eq!(counted(), [[1, 1], [2, 1]]);
        let on_push: OnPush = Arc::new(|_| {});
        assert!(users.join("s:{c}", &on_push).is_none());
    }
}
