//! Which events have come in: each agent numbers what it publishes to a
//! channel. Pure.

use std::collections::VecDeque;

/// How many words of 64 events are remembered for each agent.
const WORDS: usize = 1 << 16;

/// All agents.
#[derive(Debug, Default)]
pub(super) struct Seen {
    senders: Vec<Numbers>,
}

/// The numbers of one agent: those before the window have come.
#[derive(Debug, Default)]
struct Numbers {
    /// The number of the window's first bit.
    base: u64,
    window: VecDeque<u64>,
}

impl Seen {
    pub(super) fn of(agents: usize) -> Self {
        Self { senders: (0..agents).map(|_| Numbers::default()).collect() }
    }

    /// Notes an event; `None` if there is no such agent, `false` if the event
    /// was there before.
    pub(super) fn note(&mut self, sender: u32, number: u64) -> Option<bool> {
        Some(self.senders.get_mut(sender as usize)?.note(number))
    }
}

impl Numbers {
    fn note(&mut self, number: u64) -> bool {
        let Some(at) = number.checked_sub(self.base) else { return false };
        let (mut word, bit) = ((at / 64) as usize, 1_u64 << (at % 64));
        // What is that old and has not come will not come.
        while word >= WORDS {
            if self.window.pop_front().is_none() {
                // A jump over all of the window.
                let jump = word + 1 - WORDS;
                self.base += jump as u64 * 64;
                word -= jump;
                break;
            }
            self.base += 64;
            word -= 1;
        }
        if self.window.len() <= word {
            self.window.resize(word + 1, 0);
        }
        let new = self.window[word] & bit == 0;
        self.window[word] |= bit;
        while self.window.front() == Some(&u64::MAX) {
            self.window.pop_front();
            self.base += 64;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_number_is_new_once() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut seen, mut model) = (Seen::of(2), HashSet::new());
        for _ in 0..50_000 {
            let (sender, number) = (random.u32(..2), random.u64(..2_000));
            assert_eq!(seen.note(sender, number), Some(model.insert((sender, number))));
        }
        assert_eq!(seen.note(2, 0), None);
    }

    #[test]
    fn holes_do_not_hold_up_memory() {
        let mut numbers = Numbers::default();
        let far = WORDS as u64 * 64 * 3;
        for number in [1, far, far + 1, u64::MAX - 1] {
            assert!(numbers.note(number));
            assert!(!numbers.note(number));
            assert!(numbers.window.len() <= WORDS);
        }
        assert!(!numbers.note(0), "too old to be told from a duplicate");
    }
}
