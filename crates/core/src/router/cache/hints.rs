//! Where to look first for a type: no lookup, only a guess that is checked.

/// A text of at most 24 bytes in registers, so that two are compared without a
/// call.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortText {
    /// Padded with zeros.
    pub(super) words: [u64; 3],
    /// Tells a zero from padding. [`LONG`] for a longer text.
    pub(super) len: u8,
}

/// The length of a text that is not short.
const LONG: u8 = u8::MAX;

impl ShortText {
    #[inline(always)]
    pub(super) fn new(text: &[u8]) -> Self {
        let len = text.len();
        let [mut a, mut b, mut c] = [0; 3];
        // Two loads that overlap in place of a loop; what both have is shifted
        // out of the second.
        if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
            a = u64::from_le_bytes(*first);
            let last = u64::from_le_bytes(*last);
            if len <= 16 {
                b = without_lowest(last, 16 - len);
            } else if let (true, Some(middle)) = (len <= 24, text[8..].first_chunk()) {
                b = u64::from_le_bytes(*middle);
                c = without_lowest(last, 24 - len);
            } else {
                return Self { words: [0; 3], len: LONG };
            }
        } else {
            for &byte in text.iter().rev() {
                a = a << 8 | u64::from(byte);
            }
        }
        Self { words: [a, b, c], len: len as u8 }
    }

    /// Whether it is short and the one with these parts.
    #[inline(always)]
    pub(super) fn is(&self, [x, y, z]: [u64; 3], len: u8) -> bool {
        let [a, b, c] = self.words;
        let differ = (a ^ x) | (b ^ y) | (c ^ z) | u64::from(self.len ^ len);
        differ == 0 && len != LONG
    }

    /// Spreads texts over hints. Anybody can make it collide, and gains nothing.
    #[inline(always)]
    fn spread(&self) -> u64 {
        let [a, b, c] = self.words;
        fold(fold(a ^ 0x9e37_79b9_7f4a_7c15, b ^ 0xc2b2_ae3d_27d4_eb4f) ^ c, 0xd6e8_feb8_6659_fd93)
    }
}

/// A word with its lowest `bytes` gone, of at most 8, and the others moved down.
#[inline(always)]
fn without_lowest(word: u64, bytes: usize) -> u64 {
    word.checked_shr(8 * bytes as u32).unwrap_or(0)
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Where each of the short texts may be. A text whose hint others have taken is
/// found in the real table.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Two hints each. A power of two, or none.
    pairs: Box<[[Hint; 2]]>,
}

/// A place, and some bits of the text's so that a hint for another is seldom
/// followed.
#[derive(Clone, Copy, Debug, Default)]
struct Hint(u32);

/// Bits of a place: those beyond have no hint.
const PLACE: u32 = 20;

/// For at most so many texts: 256 KiB.
const MOST: usize = 1 << 15;

impl Hint {
    #[inline(always)]
    fn new(spread: u64, at: u32) -> Self {
        Self((spread as u32) << PLACE | at)
    }

    #[inline(always)]
    fn is_of(self, spread: u64) -> bool {
        self.0 >> PLACE == spread as u32 & (u32::MAX >> PLACE)
    }

    #[inline(always)]
    fn place(self) -> usize {
        (self.0 & ((1 << PLACE) - 1)) as usize
    }
}

impl Hints {
    #[inline(always)]
    pub(super) fn get(&self, text: &ShortText) -> Option<usize> {
        let spread = text.spread();
        let [first, second] = *self.pairs.get(self.index(spread))?;
        // The second if not the first: who follows it looks for himself, and a
        // branch that nobody can predict costs more.
        Some(if first.is_of(spread) { first } else { second }.place())
    }

    pub(super) fn set(&mut self, text: &ShortText, at: u32) {
        if text.len == LONG || at >> PLACE != 0 {
            return;
        }
        let spread = text.spread();
        if let Some([first, second]) = self.pairs.get_mut(self.index(spread)) {
            let hint = Hint::new(spread, at);
            if !first.is_of(spread) {
                *second = *first;
            }
            *first = hint;
        }
    }

    /// Makes room for one more text, if that is due.
    pub(super) fn grow(&mut self, texts: impl ExactSizeIterator<Item = ShortText>) {
        let wanted = (texts.len() + texts.len() / 2).min(MOST);
        if wanted <= self.pairs.len() {
            return;
        }
        self.pairs = vec![[Hint::default(); 2]; wanted.next_power_of_two()].into();
        for (at, text) in texts.enumerate() {
            self.set(&text, at as u32);
        }
    }

    #[inline(always)]
    fn index(&self, spread: u64) -> usize {
        (spread >> 32) as usize & self.pairs.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Zeros at the end as much as anything else.
        #[test]
        fn short_texts_are_the_same_if_their_bytes_are(
            one in prop::collection::vec(0_u8..3, 0..30),
            other in prop::collection::vec(0_u8..3, 0..30),
            len in 0_usize..30,
        ) {
            let part = &one[..len.min(one.len())];
            for (a, b) in [(&one[..], &other[..]), (&one, part), (&one, &one)] {
                let same = a == b && a.len() <= 24;
                let ShortText { words, len } = ShortText::new(b);
                prop_assert_eq!(ShortText::new(a).is(words, len), same);
            }
        }
    }
}
