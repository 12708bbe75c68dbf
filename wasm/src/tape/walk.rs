//! [`Walk`]: over one MessagePack value, from the first byte to the last.

use swarmbus_core::codec::limits::MAX_DEPTH;

use super::{
    FIRST, PADDING, PIECES, Tape,
    keys::{Keys, MAX_KEY, MAX_SHAPE, ROOT},
    tag,
};

/// Why a value cannot be read; the numbers are those that JavaScript sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Truncated = 2,
    Trailing = 3,
    TooDeep = 4,
    Utf8 = 5,
    Reserved = 6,
    Full = 7,
}

/// What a value was, for the kind of the array that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Int = 1,
    Float = 2,
    Str = 4,
    Map = 8,
    Other = 16,
}

/// A piece of text is closed when it would be longer than this.
const PIECE: usize = 4096;
/// The largest integer that a JavaScript number holds with all its neighbours.
const MAX_SAFE: u64 = (1 << 53) - 1;

pub(super) struct Walk<'a> {
    input: &'a [u8],
    at: usize,
    end: usize,
    slots: &'a mut [u64],
    next: usize,
    text: &'a mut [u8],
    /// Where the next string goes, and where the piece it is in begins.
    text_at: usize,
    piece_at: usize,
    pieces: &'a mut [u32],
    closed: usize,
    keys: &'a mut Keys,
    depth: usize,
    fault: Fault,
}

impl<'a> Walk<'a> {
    /// `end` is within the input without its padding; `text` bytes of text are in
    /// use.
    pub(super) fn new(tape: &'a mut Tape, start: usize, end: usize, text: usize) -> Self {
        Self {
            input: &tape.input,
            at: start,
            end: end.min(tape.input.len() - PADDING),
            slots: &mut tape.slots,
            next: FIRST,
            text: &mut tape.text,
            text_at: text,
            piece_at: 0,
            pieces: &mut tape.pieces,
            closed: 0,
            keys: &mut tape.keys,
            depth: 0,
            fault: Fault::Truncated,
        }
    }

    /// Reads the value, which belongs to this place; says what is wrong with it.
    pub(super) fn run(&mut self, place: u32) -> Option<Fault> {
        if self.value(place).is_none() {
            return Some(self.fault);
        }
        self.close_piece();
        match (self.at == self.end, self.closed <= PIECES) {
            (true, true) => None,
            (false, _) => Some(Fault::Trailing),
            (_, false) => Some(Fault::Full),
        }
    }

    fn fail<T>(&mut self, fault: Fault) -> Option<T> {
        self.fault = fault;
        None
    }

    #[inline(always)]
    fn put(&mut self, value: u64) -> Option<()> {
        let Some(slot) = self.slots.get_mut(self.next) else { return self.fail(Fault::Full) };
        *slot = value;
        self.next += 1;
        Some(())
    }

    #[inline(always)]
    fn tagged(&mut self, tag: u32, value: u32) -> Option<()> {
        self.put(u64::from(tag) << 32 | u64::from(value))
    }

    #[inline(always)]
    fn int(&mut self, value: i32) -> Option<Class> {
        self.tagged(tag::INT, value as u32)?;
        Some(Class::Int)
    }

    #[inline(always)]
    fn float(&mut self, value: f64) -> Option<Class> {
        // Any NaN is the one that no tag looks like.
        self.put(if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })?;
        Some(Class::Float)
    }

    fn unsigned(&mut self, value: u64) -> Option<Class> {
        match i32::try_from(value) {
            Ok(small) => self.int(small),
            Err(_) if value <= MAX_SAFE => self.float(value as f64),
            Err(_) => {
                self.tagged(tag::U64, 0)?;
                self.put(value)?;
                Some(Class::Other)
            }
        }
    }

    fn signed(&mut self, value: i64) -> Option<Class> {
        match i32::try_from(value) {
            Ok(small) => self.int(small),
            Err(_) if value.unsigned_abs() <= MAX_SAFE => self.float(value as f64),
            Err(_) => {
                self.tagged(tag::I64, 0)?;
                self.put(value as u64)?;
                Some(Class::Other)
            }
        }
    }

    /// The next bytes, and a step over them.
    #[inline(always)]
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        if N > self.end - self.at {
            return self.fail(Fault::Truncated);
        }
        let bytes = *self.input.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(bytes)
    }

    fn length8(&mut self) -> Option<usize> {
        self.take().map(|[len]| usize::from(len))
    }

    fn length16(&mut self) -> Option<usize> {
        self.take().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    fn length32(&mut self) -> Option<usize> {
        self.take().map(|bytes| u32::from_be_bytes(bytes) as usize)
    }

    fn value(&mut self, place: u32) -> Option<Class> {
        let [first] = self.take()?;
        match first {
            0x00..=0x7f => self.int(i32::from(first)),
            0xe0..=0xff => self.int(i32::from(first.cast_signed())),
            0xa0..=0xbf => self.string(usize::from(first & 31)),
            0x80..=0x8f => self.map(usize::from(first & 15), place),
            0x90..=0x9f => self.list(usize::from(first & 15), place),
            0xc0 => self.other(tag::NIL, 0),
            0xc2 | 0xc3 => self.other(tag::BOOL, u32::from(first & 1)),
            0xcb => self.take().and_then(|bytes| self.float(f64::from_be_bytes(bytes))),
            0xcc => self.take().and_then(|[byte]| self.int(i32::from(byte))),
            0xcd => self.take().and_then(|bytes| self.int(i32::from(u16::from_be_bytes(bytes)))),
            0xd9 => self.length8().and_then(|len| self.string(len)),
            0xda => self.length16().and_then(|len| self.string(len)),
            0xdc => self.length16().and_then(|len| self.list(len, place)),
            _ => self.rare(first, place),
        }
    }

    #[inline(never)]
    fn rare(&mut self, first: u8, place: u32) -> Option<Class> {
        match first {
            0xc4 => self.length8().and_then(|len| self.bin(len)),
            0xc5 => self.length16().and_then(|len| self.bin(len)),
            0xc6 => self.length32().and_then(|len| self.bin(len)),
            0xc7 => self.length8().and_then(|len| self.extension(len)),
            0xc8 => self.length16().and_then(|len| self.extension(len)),
            0xc9 => self.length32().and_then(|len| self.extension(len)),
            0xca => self.take().and_then(|bytes| self.float(f64::from(f32::from_be_bytes(bytes)))),
            0xce => {
                self.take().and_then(|bytes| self.unsigned(u64::from(u32::from_be_bytes(bytes))))
            }
            0xcf => self.take().and_then(|bytes| self.unsigned(u64::from_be_bytes(bytes))),
            0xd0 => self.take().and_then(|bytes| self.int(i32::from(i8::from_be_bytes(bytes)))),
            0xd1 => self.take().and_then(|bytes| self.int(i32::from(i16::from_be_bytes(bytes)))),
            0xd2 => self.take().and_then(|bytes| self.int(i32::from_be_bytes(bytes))),
            0xd3 => self.take().and_then(|bytes| self.signed(i64::from_be_bytes(bytes))),
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4)),
            0xdb => self.length32().and_then(|len| self.string(len)),
            0xdd => self.length32().and_then(|len| self.list(len, place)),
            0xde => self.length16().and_then(|len| self.map(len, place)),
            0xdf => self.length32().and_then(|len| self.map(len, place)),
            _ => self.fail(Fault::Reserved),
        }
    }

    fn other(&mut self, tag: u32, value: u32) -> Option<Class> {
        self.tagged(tag, value)?;
        Some(Class::Other)
    }

    fn bin(&mut self, len: usize) -> Option<Class> {
        self.outside(tag::BIN, len, 0)
    }

    fn extension(&mut self, len: usize) -> Option<Class> {
        let [kind] = self.take()?;
        self.outside(tag::EXT, len, kind)
    }

    /// What stays in the input: where it is, how long, and of which type.
    fn outside(&mut self, tag: u32, len: usize, kind: u8) -> Option<Class> {
        if len > self.end - self.at {
            return self.fail(Fault::Truncated);
        }
        self.tagged(tag, self.at as u32)?;
        self.tagged(u32::from(kind), len as u32)?;
        self.at += len;
        Some(Class::Other)
    }

    #[inline(always)]
    fn string(&mut self, len: usize) -> Option<Class> {
        if len > self.end - self.at {
            return self.fail(Fault::Truncated);
        }
        let (from, to) = (self.at, self.text_at);
        self.at += len;
        if !copy_ascii(self.input.get(from..)?, self.text.get_mut(to..)?, len)? {
            return self.wide(from, len);
        }
        self.text_at += len;
        if self.text_at - self.piece_at > PIECE {
            return self.next_piece(len);
        }
        self.tagged(tag::STR, (self.text_at - self.piece_at) as u32)?;
        Some(Class::Str)
    }

    /// A string that was copied, and finds the piece full.
    #[inline(never)]
    fn next_piece(&mut self, len: usize) -> Option<Class> {
        let start = self.text_at - len;
        if start == self.piece_at {
            // The first one, longer than a piece should be.
            self.tagged(tag::STR, len as u32)?;
            return Some(Class::Str);
        }
        let end = std::mem::replace(&mut self.text_at, start);
        self.close_piece();
        self.text_at = end;
        self.tagged(tag::NEXT, len as u32)?;
        Some(Class::Other)
    }

    fn close_piece(&mut self) {
        if let Some(piece) = self.pieces.get_mut(self.closed) {
            *piece = self.text_at as u32;
        }
        self.closed += 1;
        self.piece_at = self.text_at;
    }

    #[inline(never)]
    fn wide(&mut self, from: usize, len: usize) -> Option<Class> {
        if std::str::from_utf8(self.input.get(from..from + len)?).is_err() {
            return self.fail(Fault::Utf8);
        }
        self.tagged(tag::WIDE, from as u32)?;
        self.tagged(0, len as u32)?;
        Some(Class::Other)
    }

    /// One level deeper, for `values` values.
    fn open(&mut self, values: usize) -> Option<()> {
        if self.depth == MAX_DEPTH {
            return self.fail(Fault::TooDeep);
        }
        // Each takes a byte at least: a made-up count is seen before it is counted.
        if values > self.end - self.at {
            return self.fail(Fault::Truncated);
        }
        self.depth += 1;
        Some(())
    }

    #[inline(never)]
    fn list(&mut self, len: usize, place: u32) -> Option<Class> {
        self.open(len)?;
        let head = self.next;
        self.tagged(tag::LIST, len as u32)?;
        let mut seen = 0;
        for _ in 0..len {
            seen |= self.value(place)? as u32;
        }
        const INTS: u32 = Class::Int as u32;
        const FLOATS: u32 = Class::Float as u32;
        const STRS: u32 = Class::Str as u32;
        const MAPS: u32 = Class::Map as u32;
        let kind = match seen {
            INTS => tag::INTS,
            FLOATS => tag::FLOATS,
            STRS => tag::STRS,
            MAPS => tag::MAPS,
            _ => tag::LIST,
        };
        if let Some(slot) = self.slots.get_mut(head) {
            *slot = u64::from(kind) << 32 | len as u64;
        }
        self.depth -= 1;
        Some(Class::Other)
    }

    #[inline(never)]
    fn map(&mut self, len: usize, place: u32) -> Option<Class> {
        self.open(len.saturating_mul(2))?;
        let head = self.next;
        self.tagged(tag::MAP, ROOT)?;
        let mut shape = ROOT;
        let mut class = Class::Map;
        for done in 0..len {
            let key = if len <= MAX_SHAPE { self.key((place, done), shape) } else { None };
            match key {
                Some((node, after)) => {
                    shape = node;
                    self.at = after;
                    self.value(node)?;
                }
                None => {
                    self.pairs(len - done)?;
                    class = Class::Other;
                    break;
                }
            }
        }
        if let Some(slot) = self.slots.get_mut(head) {
            let tag = if class == Class::Map { tag::MAP } else { tag::PART };
            *slot = u64::from(tag) << 32 | u64::from(shape);
        }
        self.depth -= 1;
        Some(class)
    }

    /// The node of the key that comes next, and where the key ends; none if it is no
    /// short string, or cannot be learnt.
    #[inline(always)]
    fn key(&mut self, nth: (u32, usize), parent: u32) -> Option<(u32, usize)> {
        let rest = self.input.get(self.at..)?;
        let (start, len) = match *rest.first_chunk::<2>()? {
            [first @ 0xa0..=0xbf, _] => (1, usize::from(first & 31)),
            [0xd9, len] => (2, usize::from(len)),
            _ => return None,
        };
        let after = self.at + start + len;
        if len > MAX_KEY || after > self.end {
            return None;
        }
        let node = self.keys.next(nth, parent, rest.get(start..)?, len)?;
        Some((node, after))
    }

    /// The keys that are left of a map, as values.
    #[inline(never)]
    fn pairs(&mut self, left: usize) -> Option<()> {
        self.tagged(tag::INT, left as u32)?;
        for _ in 0..left {
            self.value(ROOT)?;
            self.value(ROOT)?;
        }
        Some(())
    }
}

/// Copies a string if it is ASCII. May write up to 16 bytes more than it has; both
/// sides have room for that.
///
/// Lengths come in no order that a processor could foresee, so there is no branch for each.
#[inline(always)]
pub(super) fn copy_ascii(from: &[u8], to: &mut [u8], len: usize) -> Option<bool> {
    if len <= 16 {
        let bytes = from.first_chunk::<16>()?;
        *to.first_chunk_mut::<16>()? = *bytes;
        return Some(high_bits(bytes, len) == 0);
    }
    let padded = len.next_multiple_of(16);
    let chunks = from.get(..padded)?.as_chunks::<16>().0;
    let copies = to.get_mut(..padded)?.as_chunks_mut::<16>().0;
    let (mut seen, mut last) = (0, &[0; 16]);
    for (chunk, copy) in chunks.iter().zip(copies) {
        *copy = *chunk;
        seen |= high_bits(last, 16);
        last = chunk;
    }
    // Behind the end of the string is something else.
    Some(seen | high_bits(last, len + 16 - padded) == 0)
}

/// Not 0 if one of the first bytes is no ASCII.
#[inline(always)]
fn high_bits(bytes: &[u8; 16], len: usize) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let [low, high] = first(bytes, len);
    (low | high) & HIGH
}

/// The first bytes, at most 16, as two numbers, zeros behind them.
#[inline(always)]
pub(super) fn first(bytes: &[u8; 16], len: usize) -> [u64; 2] {
    static MASKS: [[u64; 2]; 17] = masks();
    let [low, high] = MASKS[len.min(16)];
    let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]) & low, u64::from_le_bytes(rest) & high]
}

const fn masks() -> [[u64; 2]; 17] {
    let mut masks = [[u64::MAX; 2]; 17];
    let mut len = 0;
    while len < 16 {
        let bits = (1_u128 << (8 * len)) - 1;
        masks[len] = [bits as u64, (bits >> 64) as u64];
        len += 1;
    }
    masks
}
