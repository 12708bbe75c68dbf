//! [`Tape`]: a MessagePack payload, checked and cut into tokens that JavaScript
//! builds objects from.
//!
//! JavaScript is quick at making objects and slow at reading bytes, so each side
//! does its part: here every length, every string's UTF-8 and the depth are
//! checked, all ASCII strings are copied one behind the other (JavaScript makes one
//! string of them and takes slices), and every map is given the number of its
//! shape, the keys in their order, for which JavaScript keeps a builder.
//!
//! # Memory
//!
//! Blocks that never move: the input, the text, and the tape itself, which is slots
//! of 8 bytes. A slot is a float 64, or, where that would be a NaN that no
//! float is written as, a value in the lower half and a tag in the upper one.
//!
//! | tag | lower half | followed by |
//! | --- | --- | --- |
//! | `INT` | the integer | |
//! | `STR` | end of the string in the piece of text | |
//! | `NEXT` | the same, in the next piece | |
//! | `BOOL` | 0 or 1 | |
//! | `NIL` | | |
//! | `WIDE` | where it is in the input: a string that is not ASCII | its length |
//! | `U64`, `I64` | | the integer |
//! | `BIN` | where it is in the input | its length |
//! | `EXT` | where its data is in the input | its length and type |
//! | `MAP` | number of the shape | the values |
//! | `PART` | number of the shape of the first keys | their values, how many keys are left, and each key with its value |
//! | `INTS`, `FLOATS`, `STRS`, `MAPS`, `LIST` | number of elements | the elements: all of one kind, or any |
//!
//! The text is cut into pieces of about 4 KiB, so that a string that the program
//! keeps does not keep all of a large payload.

mod header;
mod keys;
mod types;
mod walk;

use swarmbus_core::codec::layout::RECORD_HEADER;
use wasm_bindgen::prelude::wasm_bindgen;

use keys::{Keys, MAX_KEY, MAX_SHAPE, NODES, ROOT};
use types::Types;
use walk::{Fault, Walk};

/// What a slot holds; `tape.ts` has the same numbers.
pub(crate) mod tag {
    /// The upper half of every tag: a NaN, and none that is written for a float.
    const BASE: u32 = 0xffff_0000;
    pub(crate) const INT: u32 = BASE + 1;
    pub(crate) const STR: u32 = BASE + 2;
    pub(crate) const BOOL: u32 = BASE + 3;
    pub(crate) const NIL: u32 = BASE + 4;
    pub(crate) const WIDE: u32 = BASE + 5;
    pub(crate) const NEXT: u32 = BASE + 6;
    pub(crate) const U64: u32 = BASE + 7;
    pub(crate) const I64: u32 = BASE + 8;
    pub(crate) const BIN: u32 = BASE + 9;
    pub(crate) const EXT: u32 = BASE + 10;
    pub(crate) const MAP: u32 = BASE + 11;
    pub(crate) const PART: u32 = BASE + 12;
    pub(crate) const INTS: u32 = BASE + 13;
    pub(crate) const FLOATS: u32 = BASE + 14;
    pub(crate) const STRS: u32 = BASE + 15;
    pub(crate) const MAPS: u32 = BASE + 16;
    pub(crate) const LIST: u32 = BASE + 17;
}

/// Bytes behind the input that are read and not looked at: strings are taken 8
/// bytes at a time.
const PADDING: usize = 16;

/// Slots before the first token: the generation of the shapes and the number of the
/// type, 0 for none, then the ends of the header's strings.
const FIRST: usize = 1 + header::STRINGS.div_ceil(2);

/// Most pieces of text.
const PIECES: usize = 4096;

/// Reads payloads, one at a time.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Tape {
    input: Box<[u8]>,
    text: Box<[u8]>,
    slots: Box<[u64]>,
    pieces: Box<[u32]>,
    names: Box<[u8]>,
    keys: Keys,
    types: Types,
}

#[wasm_bindgen]
impl Tape {
    /// For records of up to `len` bytes; none when there is no memory for it.
    pub fn create(len: u32) -> Option<Tape> {
        let len = usize::try_from(len).ok()?;
        Some(Self {
            input: zeros(len.checked_add(PADDING)?)?,
            // A UUID of 16 bytes becomes 36 characters, a target gets its kind.
            text: zeros(len.checked_add(PADDING + 3 * 36 + 8)?)?,
            // Most tokens are longer than a byte; what does not fit is read elsewhere.
            slots: zeros(FIRST.checked_add(len / 2)?)?,
            pieces: zeros(PIECES)?,
            names: zeros(MAX_SHAPE * (2 + MAX_KEY))?,
            keys: Keys::new(),
            types: Types::new(),
        })
    }

    /// Where JavaScript writes the record.
    pub fn input(&self) -> usize {
        self.input.as_ptr().addr()
    }

    /// Where it finds the text.
    pub fn text(&self) -> usize {
        self.text.as_ptr().addr()
    }

    /// Where it finds the slots, at an address that 8 divides.
    pub fn slots(&self) -> usize {
        self.slots.as_ptr().addr()
    }

    /// Where it finds the ends of the pieces of text, of 4 bytes each.
    pub fn pieces(&self) -> usize {
        self.pieces.as_ptr().addr()
    }

    /// Reads the record of an event between two places of the input: its strings
    /// and, if it is MessagePack, its payload.
    ///
    /// Returns 0; or 1 if the strings are not all plain (ASCII, present where their
    /// flag says so, of few bytes), when nothing else was looked at; or what
    /// [`payload`](Self::payload) returns.
    pub fn event(&mut self, start: u32, end: u32) -> u32 {
        let (start, end) = (start as usize, end as usize);
        let Some((found, number)) = self.read_header(start, end) else { return 1 };
        if !found.is_msgpack {
            return 0;
        }
        // Payloads of one type mostly have one shape.
        let place = if number == 0 { ROOT } else { NODES as u32 + number };
        self.read(found.payload, end, found.text, place)
    }

    /// The same without its payload, which need not be there: `end` is where that
    /// begins.
    pub fn header(&mut self, start: u32, end: u32) -> u32 {
        u32::from(self.read_header(start as usize, end as usize).is_none())
    }

    /// Reads one MessagePack value that takes all bytes between two places of the
    /// input.
    ///
    /// Returns 0, or why it cannot be read: 2 cut off, 3 bytes follow it, 4 it nests
    /// too deep, 5 a string is not UTF-8, 6 the reserved byte, 7 the tape is full:
    /// then another reader may do it.
    pub fn payload(&mut self, start: u32, end: u32) -> u32 {
        let (start, end) = (start as usize, end as usize);
        if start > end || end > self.input.len() - PADDING {
            return Fault::Truncated as u32;
        }
        self.read(start, end, 0, ROOT)
    }

    /// Where it finds the keys of the shape that it asked for last.
    pub fn names(&self) -> usize {
        self.names.as_ptr().addr()
    }

    /// Writes the keys of a shape there, each after its length in two bytes, and
    /// returns how many bytes that took. Memory does not grow meanwhile.
    pub fn shape(&mut self, shape: u32) -> u32 {
        self.keys.describe(shape, &mut self.names) as u32
    }
}

impl Tape {
    fn read_header(&mut self, start: usize, end: usize) -> Option<(header::Found, u32)> {
        if end > self.input.len() - PADDING {
            return None;
        }
        let found = header::read(&self.input, start, end, &mut self.text, &mut self.slots)?;
        let ty = self.input.get(start + RECORD_HEADER..)?.get(..found.type_len)?;
        let number = self.types.number(found.type_hash, ty);
        self.slots[0] = u64::from(number) << 32;
        Some((found, number))
    }

    fn read(&mut self, start: usize, end: usize, text: usize, place: u32) -> u32 {
        self.keys.begin();
        let mut walk = Walk::new(self, start, end, text);
        let fault = walk.run(place);
        // The upper half stays: the number of the type.
        self.slots[0] = self.slots[0] >> 32 << 32 | u64::from(self.keys.generation());
        fault.map_or(0, |fault| fault as u32)
    }
}

/// A block of zeros, or none when there is no memory for it.
fn zeros<T: Clone + Default>(len: usize) -> Option<Box<[T]>> {
    let mut block = Vec::new();
    block.try_reserve_exact(len).ok()?;
    block.resize(len, T::default());
    Some(block.into_boxed_slice())
}

#[cfg(test)]
mod tests;
