//! Which key is in which slot, which node has a slot, and into which partitions
//! channels are divided. Pure.

use redis::Value;

use crate::error::ConnectionError;

/// Slots of every cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// Where a node is.
pub(crate) type Node = (String, u16);

/// The slot of a key: of what is between its first pair of braces, if that is
/// something, or else of all of it.
pub(crate) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16(hashed.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, which clusters have chosen.
fn crc16(bytes: &[u8]) -> u16 {
    let shift = |crc: u16| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| shift(crc)))
}

/// Hash tags of the partitions. They were searched for so that the slots have
/// equal distances, within 20: each is in the middle of its 256. So whoever
/// shares the slots out in equal parts, also shares the partitions out, with one
/// more or less. Never to be changed: they are in the names of keys.
pub(crate) const TAGS: [&str; 64] = [
    "53t", "j3j", "if5", "kec", "574", "74b", "akm", "6bk", "96a", "frw", "0ip", "oin", "d1i",
    "38o", "0m0", "xw", "he6", "box", "40w", "c9q", "hav", "7ah", "447", "67a", "1js", "fcu",
    "0xr", "m5", "1n3", "3me", "e2j", "iu", "712", "52d", "cmk", "4dm", "75r", "h5l", "7av", "ice",
    "3y7", "1za", "2k6", "8ax", "wu7", "931", "yg", "8e8", "7d8", "5gn", "621", "41g", "jc0",
    "qkn", "66q", "i6o", "3h5", "1kc", "2z4", "0yb", "3lu", "des", "he", "802",
];

/// The partition of a channel: that of the 256 slots in which its name would be.
pub(crate) fn partition_of(channel: &str) -> usize {
    usize::from(slot_of(channel)) / (usize::from(SLOTS) / TAGS.len())
}

/// Which nodes have which slots, as one of them sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    ranges: Vec<Range>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    /// The master, then its replicas.
    nodes: Vec<Node>,
}

impl Topology {
    /// Reads the answer to CLUSTER SLOTS. A node that does not know its own
    /// address is where it was `asked`.
    pub(crate) fn read(answer: &Value, asked: &str) -> Result<Self, ConnectionError> {
        let odd = || ConnectionError::Protocol("CLUSTER SLOTS has another form".to_owned());
        let Value::Array(ranges) = answer else { return Err(odd()) };
        let ranges = ranges.iter().map(|range| Range::read(range, asked).ok_or_else(odd));
        Ok(Self { ranges: ranges.collect::<Result<_, _>>()? })
    }

    /// Who has a slot.
    pub(crate) fn master(&self, slot: u16) -> Option<&Node> {
        let range = self.ranges.iter().find(|range| (range.first..=range.last).contains(&slot))?;
        range.nodes.first()
    }

    /// Masters with slots, each with one of these and the number of its replicas.
    pub(crate) fn masters(&self) -> Vec<(&Node, u16, usize)> {
        let mut masters: Vec<(&Node, u16, usize)> = Vec::new();
        for range in &self.ranges {
            let Some((master, replicas)) = range.nodes.split_first() else { continue };
            if !masters.iter().any(|(known, ..)| *known == master) {
                masters.push((master, range.first, replicas.len()));
            }
        }
        masters
    }

    /// All nodes, masters and replicas.
    pub(crate) fn nodes(&self) -> Vec<&Node> {
        let mut nodes: Vec<_> = self.ranges.iter().flat_map(|range| &range.nodes).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// How many slots somebody has.
    pub(crate) fn covered(&self) -> usize {
        let length = |range: &Range| usize::from(range.last.saturating_sub(range.first)) + 1;
        self.ranges.iter().map(length).sum()
    }
}

impl Range {
    fn read(range: &Value, asked: &str) -> Option<Self> {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), nodes @ ..] = parts.as_slice() else {
            return None;
        };
        let nodes = nodes.iter().map(|node| read_node(node, asked)).collect::<Option<_>>()?;
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        (first <= last && last < SLOTS).then_some(Self { first, last, nodes })
    }
}

fn read_node(node: &Value, asked: &str) -> Option<Node> {
    let Value::Array(parts) = node else { return None };
    let [host, Value::Int(port), ..] = parts.as_slice() else { return None };
    let host = match host {
        Value::Nil => "",
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => return None,
    };
    let host = if host.is_empty() { asked } else { host };
    Some((host.to_owned(), u16::try_from(*port).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::local::Server;

    #[test]
    fn partitions_are_spread_evenly_over_any_number_of_masters() {
        for (partition, tag) in TAGS.iter().enumerate() {
            assert_eq!(partition_of(tag), partition);
        }
        for masters in 1..=TAGS.len() {
            let mut held = vec![0_usize; masters];
            for tag in TAGS {
                held[usize::from(slot_of(tag)) * masters / usize::from(SLOTS)] += 1;
            }
            let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
            assert!(most - least <= 1, "{masters} masters: {held:?}");
        }
    }

    #[test]
    fn the_server_finds_the_same_slots() {
        let server = Server::builder().cluster().start().unwrap();
        let mut keys: Vec<_> =
            TAGS.iter().map(|tag| format!("swarmbus:{{{tag}}}:{{a}}:log")).collect();
        let odd = ["", "a", "{}", "{}a", "a{", "}{a}", "{{a}}b", "{a}{b}", "ärger", "123456789"];
        keys.extend(odd.map(str::to_owned));
        keys.extend((0..100).map(|_| format!("{:x}", fastrand::u64(..))));
        for key in keys {
            let slot = server.run(["CLUSTER", "KEYSLOT", &key]).unwrap();
            assert_eq!(slot, slot_of(&key).to_string(), "{key}");
        }
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::Nil])
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
    }

    #[test]
    fn answers_are_read() {
        let answer = Value::Array(vec![
            range(0, 99, vec![node(text("a"), 1), node(text("b"), 2)]),
            range(100, 199, vec![node(Value::Nil, 3)]),
            range(300, 300, vec![node(text("a"), 1), node(text("b"), 2)]),
        ]);
        let topology = Topology::read(&answer, "here").unwrap();
        let at = |slot| topology.master(slot).map(|(host, port)| (host.as_str(), *port));
        assert_eq!((at(0), at(99), at(300)), (Some(("a", 1)), Some(("a", 1)), Some(("a", 1))));
        assert_eq!((at(100), at(200), at(16_383)), (Some(("here", 3)), None, None));
        assert_eq!((topology.covered(), topology.nodes().len()), (201, 3));
        let masters = topology.masters();
        assert_eq!(masters, [(&("a".to_owned(), 1), 0, 1), (&("here".to_owned(), 3), 100, 0)]);
    }

    proptest! {
        #[test]
        fn nonsense_is_refused(first in -9_i64..20_000, last in -9_i64..20_000, port in any::<i64>()) {
            let answer = Value::Array(vec![range(first, last, vec![node(text("a"), port)])]);
            let fits = (0..=last).contains(&first) && last < 16_384 && (0..65_536).contains(&port);
            prop_assert_eq!(Topology::read(&answer, "").is_ok(), fits);
        }
    }
}
