//! [`Block`]: bytes that both sides see.
//!
//! JavaScript writes and reads a block through a view of linear memory, at the
//! address that [`Block::address`] gives once. A block is never resized, so that
//! address is good until the block is freed. The view is not: memory that grows
//! gets another buffer, and whoever keeps a view compares its buffer first
//! (`memory.ts`).

use wasm_bindgen::prelude::wasm_bindgen;

/// A stretch of linear memory that does not move.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
}

#[wasm_bindgen]
impl Block {
    /// A block of `len` zeros; none when there is no memory for it.
    pub fn create(len: u32) -> Option<Block> {
        let len = usize::try_from(len).ok()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        bytes.resize(len, 0);
        Some(Self { bytes: bytes.into_boxed_slice() })
    }

    /// Where its first byte is in linear memory.
    pub fn address(&self) -> usize {
        self.bytes.as_ptr().addr()
    }
}

impl Block {
    /// The bytes, as JavaScript left them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be read by JavaScript.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_zeros_that_stay_where_they_are() {
        let mut block = Block::create(16).unwrap();
        let address = block.address();
        assert_eq!(block.bytes(), [0; 16]);
        block.bytes_mut()[15] = 7;
        assert_eq!((block.address(), block.bytes()[15]), (address, 7));
    }

    #[test]
    fn an_empty_block_is_fine() {
        assert!(Block::create(0).unwrap().bytes().is_empty());
    }
}
