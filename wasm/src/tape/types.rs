//! [`Types`]: which event types came.
//!
//! A type is looked for by the hash that its header states, and compared by its bytes.
//! Whether the hash is that of the type is for JavaScript to find out, once for each
//! number.

use super::keys::same;

/// Most types. When there are more, new ones get no number.
pub(super) const TYPES: usize = 1024;
/// Places of the table; a power of two.
const TABLE: usize = 4096;
/// How far a type may be from its place, so that made-up hashes cannot make a search long.
const PROBES: usize = 4;

#[derive(Debug)]
struct Entry {
    hash: u64,
    text: Box<[u8]>,
}

#[derive(Debug)]
pub(super) struct Types {
    entries: Vec<Entry>,
    /// Numbers of types by their hash; 0 is a free place.
    table: Box<[u16]>,
}

impl Types {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), table: vec![0; TABLE].into_boxed_slice() }
    }

    /// The number of the type from 1 on, 0 if there is no room for it.
    #[inline]
    pub(super) fn number(&mut self, hash: u64, text: &[u8]) -> u32 {
        for probe in 0..PROBES {
            let place = (hash as usize).wrapping_add(probe) % TABLE;
            let number = self.table[place];
            if number == 0 {
                return self.learn(place, hash, text);
            }
            let entry = self.entries.get(usize::from(number) - 1);
            if entry.is_some_and(|entry| entry.hash == hash && same(&entry.text, text)) {
                return u32::from(number);
            }
        }
        0
    }

    #[inline(never)]
    fn learn(&mut self, place: usize, hash: u64, text: &[u8]) -> u32 {
        if self.entries.len() >= TYPES {
            return 0;
        }
        self.entries.push(Entry { hash, text: text.into() });
        let number = self.entries.len() as u16;
        self.table[place] = number;
        u32::from(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_keeps_its_number_and_a_hash_alone_proves_nothing() {
        let mut types = Types::new();
        assert_eq!(types.number(7, b"task.done"), 1);
        assert_eq!(types.number(7, b"task.lost"), 2);
        assert_eq!(types.number(8, b"task.done"), 3);
        assert_eq!(types.number(7, b"task.done"), 1);
        assert_eq!(types.number(7, b"task.lost"), 2);
    }

    #[test]
    fn there_are_not_more_than_so_many() {
        let mut types = Types::new();
        let numbers = (0..5000_u64).map(|n| types.number(n * 5, &n.to_le_bytes()));
        assert_eq!(numbers.filter(|number| *number > 0).count(), TYPES);
    }
}
