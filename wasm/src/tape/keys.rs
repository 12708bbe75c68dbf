//! [`Keys`]: which sequences of keys were seen.
//!
//! A tree: each node is a key behind those of its parent, and stands for the shape
//! of all keys down to it. It is bounded: when it is full, unknown keys are written
//! out instead, and when that has happened often, all begins anew.
//!
//! Maps at one place of a payload, such as all that are the value of one key, mostly have
//! one shape. So each place keeps the nodes of the map that it had last, which are tried
//! first.

use super::walk::first;

/// The node of the empty shape.
pub(super) const ROOT: u32 = 0;

/// Most nodes.
pub(super) const NODES: usize = 8192;
/// Places of the table of nodes; a power of two, twice [`NODES`].
const TABLE: usize = 16_384;
/// How far a node may be from its place, so that made-up keys cannot make a search long.
const PROBES: usize = 16;
/// Most keys that follow one key, and most that begin a shape: where there are
/// more, keys are data and not shapes.
const FAN: u32 = 48;
const ROOT_FAN: u32 = 1024;
/// Longest key in bytes.
pub(super) const MAX_KEY: usize = 255;
/// Maps with more keys are data.
pub(super) const MAX_SHAPE: usize = 64;
/// Keys that found no room, before all begins anew.
const REFUSALS: u32 = 4096;

#[derive(Debug)]
struct Node {
    /// The first 16 bytes, zeros behind the end.
    head: [u64; 2],
    len: u32,
    parent: u32,
    /// The child that came last: mostly the one that comes next.
    recent: u32,
    children: u32,
    /// All bytes of a key.
    key: Box<[u8]>,
}

#[derive(Debug)]
pub(super) struct Keys {
    nodes: Vec<Node>,
    /// Nodes by the hash of parent and key; 0 is a free place.
    table: Box<[u32]>,
    /// For each place, the keys of the last map there. A node is the place of its key's
    /// value.
    places: Vec<Vec<u32>>,
    refused: u32,
    generation: u32,
}

impl Keys {
    pub(super) fn new() -> Self {
        let mut keys = Self {
            nodes: Vec::new(),
            table: vec![0; TABLE].into_boxed_slice(),
            places: Vec::new(),
            refused: 0,
            generation: 0,
        };
        keys.clear();
        keys
    }

    /// Which life of the shapes' numbers this is: with another one, all numbers
    /// mean other shapes.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Before a payload: numbers that were given stay good until the next call.
    pub(super) fn begin(&mut self) {
        if self.refused >= REFUSALS {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.nodes.clear();
        self.nodes.push(Node {
            head: [0; 2],
            len: 0,
            parent: 0,
            recent: 0,
            children: 0,
            key: Box::default(),
        });
        self.table.fill(0);
        self.places.clear();
        self.refused = 0;
        self.generation = self.generation.wrapping_add(1);
    }

    /// The node of a key behind `parent`, learnt if there is room for it: the key with
    /// this number in a map at this place. `bytes` begins with the key and goes on for 16
    /// bytes at least.
    #[inline]
    pub(super) fn next(
        &mut self,
        (place, nth): (u32, usize),
        parent: u32,
        bytes: &[u8],
        len: usize,
    ) -> Option<u32> {
        let head = head(bytes, len)?;
        if let Some(&last) = self.places.get(place as usize).and_then(|keys| keys.get(nth))
            && self.is(last, parent, head, bytes, len)
        {
            return Some(last);
        }
        let recent = self.nodes.get(parent as usize)?.recent;
        let node = if recent != ROOT && self.is(recent, parent, head, bytes, len) {
            recent
        } else {
            self.find(parent, head, bytes, len)?
        };
        self.remember(place as usize, nth, node);
        self.nodes.get_mut(parent as usize)?.recent = node;
        Some(node)
    }

    #[inline(never)]
    fn remember(&mut self, place: usize, nth: usize, node: u32) {
        if self.places.len() <= place {
            self.places.resize_with(place + 1, Vec::new);
        }
        let keys = &mut self.places[place];
        if let Some(key) = keys.get_mut(nth) {
            *key = node;
        } else if keys.len() == nth {
            // Else a map within the map has begun the list anew.
            keys.push(node);
        }
    }

    #[inline(always)]
    fn is(&self, node: u32, parent: u32, head: [u64; 2], bytes: &[u8], len: usize) -> bool {
        self.nodes.get(node as usize).is_some_and(|node| {
            node.head == head
                && node.len as usize == len
                && node.parent == parent
                && (len <= 16 || bytes.get(..len).is_some_and(|bytes| same(bytes, &node.key)))
        })
    }

    #[inline(never)]
    fn find(&mut self, parent: u32, head: [u64; 2], bytes: &[u8], len: usize) -> Option<u32> {
        let place = hash(parent, head, tail(bytes, len)?, len);
        for probe in 0..PROBES {
            let place = (place + probe) % TABLE;
            match self.table[place] {
                0 => return self.learn(place, parent, head, bytes.get(..len)?),
                node if self.is(node, parent, head, bytes, len) => return Some(node),
                _ => {}
            }
        }
        self.refused += 1;
        None
    }

    fn learn(&mut self, place: usize, parent: u32, head: [u64; 2], key: &[u8]) -> Option<u32> {
        let fan = if parent == ROOT { ROOT_FAN } else { FAN };
        let full = self.nodes.len() >= NODES;
        let siblings = self.nodes.get_mut(parent as usize)?;
        if full || siblings.children >= fan {
            self.refused += u32::from(full);
            return None;
        }
        std::str::from_utf8(key).ok()?;
        siblings.children += 1;
        let node = self.nodes.len() as u32;
        self.nodes.push(Node {
            head,
            len: key.len() as u32,
            parent,
            recent: ROOT,
            children: 0,
            key: key.into(),
        });
        self.table[place] = node;
        Some(node)
    }

    /// Writes the keys of a shape, each after two bytes of its length; returns the
    /// bytes written. Takes no memory: views of it are in use.
    pub(super) fn describe(&self, shape: u32, out: &mut [u8]) -> usize {
        let len: usize = self.path(shape).map(|key| 2 + key.len()).sum();
        let Some(mut room) = out.get_mut(..len) else { return 0 };
        // From the last key to the first.
        for key in self.path(shape) {
            let (before, end) = room.split_at_mut(room.len() - 2 - key.len());
            end[..2].copy_from_slice(&(key.len() as u16).to_le_bytes());
            end[2..].copy_from_slice(key);
            room = before;
        }
        len
    }

    /// The keys of a shape, the last one first.
    fn path(&self, shape: u32) -> impl Iterator<Item = &[u8]> {
        let at = |node: u32| self.nodes.get(node as usize).filter(|_| node != ROOT);
        std::iter::successors(at(shape), move |node| at(node.parent)).map(|node| &node.key[..])
    }
}

/// Whether two texts are the same. `==` looks at each byte by itself here.
#[inline]
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let (words, rest) = a.as_chunks::<8>();
    let (other_words, other_rest) = b.as_chunks::<8>();
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    a.len() == b.len()
        && words.iter().zip(other_words).all(|(a, b)| word(a) == word(b))
        && match (a.last_chunk(), b.last_chunk()) {
            (Some(a), Some(b)) => word(a) == word(b),
            _ => rest.iter().zip(other_rest).all(|(a, b)| a == b),
        }
}

/// The first 16 bytes of a key, zeros behind its end.
#[inline(always)]
fn head(bytes: &[u8], len: usize) -> Option<[u64; 2]> {
    Some(first(bytes.first_chunk()?, len))
}

/// The last 8 bytes of a key that is longer than its head: many begin alike.
fn tail(bytes: &[u8], len: usize) -> Option<u64> {
    if len <= 16 {
        return Some(0);
    }
    Some(u64::from_le_bytes(*bytes.get(len - 8..)?.first_chunk()?))
}

fn hash(parent: u32, [low, high]: [u64; 2], tail: u64, len: usize) -> usize {
    let mixed = low.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (high ^ tail.rotate_left(29)).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
        ^ u64::from(parent).wrapping_mul(0x1656_67b1_9e37_79f9)
        ^ (len as u64) << 57;
    (mixed.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 50) as usize % TABLE
}
