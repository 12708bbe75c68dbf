//! Rust's side of a comparison: what the Node.js package writes and reads, and Rust
//! does, must be the same.
//!
//! ```text
//! codec_peer check        < frames > frames
//! codec_peer make COUNT   > frames
//! ```
//!
//! `check` answers each event with three frames: the event as Rust writes it, with its
//! MessagePack payload read into a value and written again, and one with its `CloudEvents`
//! JSON as text, which is empty when it has none. `make` writes COUNT arbitrary events,
//! each followed by one that carries the same value as JSON.

use std::error::Error;
use std::io::{Read as _, Write as _, stdin, stdout};

use serde_json::{Map, Value, json};
use swarmbus::{
    Content, Event, EventType, Payload, Priority, Target, Timestamp,
    core::codec::{FrameReader, encode, json::to_json},
};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["check"] => check(),
        ["make", count] => make(count.parse()?),
        _ => Err("usage: codec_peer check | make COUNT".into()),
    }
}

fn check() -> Result<(), Box<dyn Error>> {
    let mut bytes = Vec::new();
    stdin().read_to_end(&mut bytes)?;
    let mut reader = FrameReader::new();
    reader.extend(&bytes);
    let mut out = stdout().lock();
    while let Some(frame) = reader.next_frame()? {
        for view in &frame {
            let event = view?.to_event()?;
            out.write_all(&encode(&event)?)?;
            let json =
                to_json(&event).map(String::from_utf8).unwrap_or_else(|_| Ok(String::new()))?;
            let again = match event.content() {
                Content::MessagePack => {
                    let value: Value = event.decode()?;
                    event.with_payload(Payload::msgpack(&value)?)
                }
                _ => event,
            };
            out.write_all(&encode(&again)?)?;
            out.write_all(&encode(&Event::of("json", json))?)?;
        }
    }
    Ok(())
}

fn make(count: u32) -> Result<(), Box<dyn Error>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut out = stdout().lock();
    for _ in 0..count {
        let value = random.value(4);
        let event = random.event(Payload::msgpack(&value)?)?;
        out.write_all(&encode(&event)?)?;
        out.write_all(&encode(&event.with_payload(Payload::json(&value)?))?)?;
    }
    Ok(())
}

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn text(&mut self) -> String {
        let chars = ['a', 'b', 'z', '0', ' ', '"', '\\', '\n', '\0', 'é', '漢', '\u{2028}', '🐝'];
        let len = [0, 1, 5, 20, 31, 32, 40, 60][self.below(8) as usize];
        // Mostly ASCII, as text is.
        let kinds = if self.below(3) == 0 { chars.len() as u64 } else { 5 };
        (0..len).map(|_| chars[self.below(kinds) as usize]).collect()
    }

    /// Numbers that JSON keeps in JavaScript.
    fn number(&mut self) -> Value {
        let bits = self.below(54);
        let whole = self.below(1 << bits.min(53)) as i64;
        match self.below(4) {
            0 => json!(whole),
            1 => json!(-whole),
            2 => json!(self.below(200)),
            _ => json!(whole as f64 / 64.0 + 0.5),
        }
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.text()),
            3 | 4 => self.number(),
            5 => (0..self.below(20)).map(|_| self.number()).collect(),
            6 => (0..self.below(6)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let names = ["id", "name", "__proto__", "constructor", "", "état", "7"];
                let mut map = Map::new();
                for _ in 0..self.below(20) {
                    let name = match self.below(3) {
                        0 => self.text(),
                        _ => names[self.below(names.len() as u64) as usize].to_owned(),
                    };
                    map.insert(name, self.value(depth - 1));
                }
                Value::Object(map)
            }
        }
    }

    fn event(&mut self, payload: Payload) -> Result<Event, Box<dyn Error>> {
        let types = ["a", "task.created", "agent.7.inbox", "état.changé"];
        let ty = EventType::new(types[self.below(types.len() as u64) as usize])?;
        let mut event = Event::new(ty, payload)
            .with_source(self.text())
            .with_priority(Priority::new(self.below(10) as u8).unwrap_or_default());
        if self.below(2) == 0
            && let Some(now) = Timestamp::from_micros(self.below(1 << 55) + 1)
        {
            event.stamp(now, self.below(u64::MAX));
            event = event.with_deadline(now);
        }
        match self.below(3) {
            0 => event = event.with_target(Target::agent(self.text())),
            1 => event = event.with_target(Target::swarm(self.text())),
            _ => {}
        }
        if self.below(2) == 0 {
            let id = format!("{:08x}-0000-7000-8000-00000000000f", self.below(1 << 32));
            event = event.with_correlation_id(id).with_session(self.text());
        }
        if self.below(4) == 0 {
            event = event.with_id(self.text()).with_causation_id(self.text());
        }
        for _ in 0..self.below(3) {
            event = event.with_hop(self.text()).with_budget(self.below(1000));
            event = event.with_attribute("tenant", self.text())?;
        }
        Ok(event)
    }
}
