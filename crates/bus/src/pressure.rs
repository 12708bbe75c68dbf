//! Backpressure of the whole bus: how many shards are above their high-water
//! mark, and telling the program when the first rises and the last falls.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicIsize, Ordering::SeqCst},
};

type Callback = Box<dyn Fn() + Send + Sync>;

/// Shards under pressure, with whom to tell.
#[derive(Default)]
pub(crate) struct Pressure {
    pub(crate) on_high: Option<Callback>,
    pub(crate) on_low: Option<Callback>,
    /// A fall may be counted before its rise: both come after the lock.
    shards: AtomicIsize,
    /// What the program was told last.
    told: AtomicBool,
    /// Somebody is telling it now.
    telling: AtomicBool,
}

impl Pressure {
    pub(crate) fn is_high(&self) -> bool {
        self.shards.load(SeqCst) > 0
    }

    /// A shard rose to its high-water mark.
    #[cold]
    pub(crate) fn rose(&self) {
        self.shards.fetch_add(1, SeqCst);
        self.tell();
    }

    /// A shard fell to its low-water mark.
    #[cold]
    pub(crate) fn fell(&self) {
        self.shards.fetch_sub(1, SeqCst);
        self.tell();
    }

    /// Tells the program of changes, one caller at a time and so in order.
    /// Whoever finds another at it leaves: that one looks again at the end.
    fn tell(&self) {
        while self.told.load(SeqCst) != self.is_high() {
            if self.telling.swap(true, SeqCst) {
                return;
            }
            let high = self.is_high();
            if self.told.swap(high, SeqCst) != high {
                tracing::debug!(high, "backpressure");
                call_safely(if high { &self.on_high } else { &self.on_low });
            }
            self.telling.store(false, SeqCst);
        }
    }
}

/// Runs a callback of the program; its panic must not end a worker.
fn call_safely(callback: &Option<Callback>) {
    if let Some(callback) = callback
        && catch_unwind(AssertUnwindSafe(callback)).is_err()
    {
        tracing::error!("a water mark callback panicked");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn high_and_low_take_turns_whoever_tells() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = |word: &'static str| -> Option<Callback> {
            let told = Arc::clone(&told);
            Some(Box::new(move || told.lock().unwrap().push(word)))
        };
        let pressure =
            Pressure { on_high: note("high"), on_low: note("low"), ..Pressure::default() };
        std::thread::scope(|scope| {
            for first_rises in [true, false, true, false] {
                let pressure = &pressure;
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        if first_rises {
                            pressure.rose();
                            pressure.fell();
                        } else {
                            pressure.fell();
                            pressure.rose();
                        }
                    }
                });
            }
        });
        assert!(!pressure.is_high());
        let told = told.lock().unwrap();
        let expected = ["high", "low"].iter().cycle();
        assert!(told.iter().zip(expected).all(|(told, expected)| told == expected));
        assert_eq!(told.len() % 2, 0, "the last word was low");
    }
}
