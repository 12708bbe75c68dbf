//! [`Living`]: a list of what lives, for reports.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Things that others own, in the order in which they were made. As long as
/// the living, and a few more.
#[derive(Debug)]
pub(crate) struct Living<T>(Mutex<Vec<Weak<T>>>);

impl<T> Default for Living<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Living<T> {
    pub(crate) fn add(&self, thing: T) -> Arc<T> {
        let thing = Arc::new(thing);
        let mut made = self.0.lock();
        if made.len() == made.capacity() {
            // Before it grows, let go of the dead, and make room for as many
            // again.
            made.retain(|thing| thing.strong_count() > 0);
            let living = made.len();
            made.reserve(living.max(8));
        }
        made.push(Arc::downgrade(&thing));
        thing
    }

    /// Those that live. They may be dropped by the caller, outside of the lock.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}
