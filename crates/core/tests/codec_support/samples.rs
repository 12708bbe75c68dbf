//! Named events for the shared vectors: each field by itself, then together.
//!
//! JSON payloads are written as `JSON.stringify` writes them, with keys in
//! alphabetical order, so that a reader in any language rebuilds the bytes
//! from the parsed vector.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed assertion")]

use std::collections::BTreeMap;

use swarmbus_core::{
    Content, Event, EventId, EventType, Payload, Priority, Target, Timestamp, codec::limits,
};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// Frames by name.
pub(crate) fn frames() -> Vec<(&'static str, Vec<Event>)> {
    let mut frames: Vec<_> = events().into_iter().map(|(name, e)| (name, vec![e])).collect();
    frames.push(("worked example of ADR 0002", vec![worked_example()]));
    frames.push(("batch of two", vec![event().with_source("x"), Event::of("b", "second")]));
    frames.push(("batch of all", events().into_iter().take(40).map(|(_, e)| e).collect()));
    frames
}

/// The event whose bytes ADR 0002 explains.
pub(crate) fn worked_example() -> Event {
    let mut event = Event::of("vote.cast", "yes")
        .with_source("v-3")
        .with_target(Target::swarm("blue"))
        .with_hop("edge");
    event.stamp(at(1_700_000_000_123_456), 42);
    event
}

/// JSON written by others, good and bad, by name.
pub(crate) fn documents() -> Vec<(&'static str, String)> {
    let head = r#""specversion":"1.0","id":"A234-1234","source":"/mycontext","type":"t""#;
    let with = |more: &str| format!("{{{head}{more}}}");
    vec![
        ("spaces and order", " { \"type\" : \"t\" ,\n\t\"id\":\"\\u0031\", \"source\":\"s\", \"specversion\":\"1.0\" }\n".into()),
        ("null is absent", with(r#","time":null,"tenant":null"#)),
        ("subject and dataschema", with(r#","subject":"a.png","dataschema":"http://x/y""#)),
        ("data without media type", with(r#","data":{"a":[1,2]}"#)),
        ("data is null", with(r#","data":null"#)),
        ("numbers keep their form", with(r#","data": [1.0, 1e2,  18446744073709551617]"#)),
        ("charset", with(r#","datacontenttype":"application/json; charset=UTF-8","data":1"#)),
        ("string for bytes", with(r#","datacontenttype":"application/octet-stream","data":"é""#)),
        ("base64 without media type", with(r#","data_base64":"AP8=""#)),
        ("media type without data", with(r#","datacontenttype":"text/plain""#)),
        ("time zone and nanoseconds", with(r#","time":"2026-01-31T13:00:00.123456789+01:00""#)),
        ("default priority", with(r#","priority":5"#)),
        ("not an object", "[]".into()),
        ("cut off", "{\"specversion\":".into()),
        ("no specversion", r#"{"id":"1","source":"s","type":"t"}"#.into()),
        ("other specversion", r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#.into()),
        ("empty id", r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#.into()),
        ("no source", r#"{"specversion":"1.0","id":"1","type":"t"}"#.into()),
        ("bad type", r#"{"specversion":"1.0","id":"1","source":"s","type":"a..b"}"#.into()),
        ("twice", with(r#","id":"2""#)),
        ("boolean extension", with(r#","sampled":true"#)),
        ("integer extension", with(r#","rate":5"#)),
        ("upper case extension", with(r#","Tenant":"x""#)),
        ("other media type", with(r#","datacontenttype":"text/html","data":"<p>""#)),
        ("event in an event", with(r#","datacontenttype":"application/cloudevents+json""#)),
        ("priority too high", with(r#","priority":10"#)),
        ("bad time", with(r#","time":"noon""#)),
        ("bad target", with(r#","target":"blue""#)),
        ("bad hops", with(r#","hops":"100%""#)),
        ("nonce without time", with(r#","nonce":"000000000000002a""#)),
        ("two payloads", with(r#","data":1,"data_base64":"AA==""#)),
        ("text that is none", with(r#","datacontenttype":"text/plain","data":1"#)),
        ("base64 without padding", with(r#","data_base64":"AA""#)),
        ("too many members", with(&(0..100).map(|n| format!(r#","x{n}":"""#)).collect::<String>())),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let mut all = fields();
    all.extend(payloads());
    all.extend(extremes());
    all
}

fn fields() -> Vec<(&'static str, Event)> {
    let mut stamped = event();
    stamped.stamp(at(1_700_000_000_123_456), 0x1234_5678_9abc_def0);
    let own_id_and_stamp = stamped.clone().with_id("A234-1234");
    let with = |name: &str, value: &str| event().with_attribute(name, value).unwrap();
    vec![
        ("least", event()),
        ("source", event().with_source("agent-17")),
        ("priority 0", event().with_priority(Priority::MIN)),
        ("priority 9", event().with_priority(Priority::MAX)),
        ("timestamp", event().with_timestamp(at(1_700_000_000_123_456))),
        ("stamped", stamped),
        ("id is a uuid", event().with_id(UUID)),
        ("id is text", event().with_id("A234-1234")),
        ("id is an upper case uuid", event().with_id(UUID.to_uppercase())),
        ("id beside a stamp", own_id_and_stamp),
        ("target agent", event().with_target(Target::agent("coordinator-1"))),
        ("target swarm", event().with_target(Target::swarm("blue"))),
        ("target without name", event().with_target(Target::agent(""))),
        ("session", event().with_session("s-1")),
        ("empty session", event().with_session("")),
        ("correlation uuid", event().with_correlation_id(UUID)),
        ("correlation text", event().with_correlation_id("request 7")),
        ("causation uuid", event().with_causation_id(UUID)),
        ("causation text", event().with_causation_id("")),
        ("traceparent", event().with_traceparent(TRACE)),
        ("deadline", event().with_deadline(at(1_700_000_001_000_000))),
        ("one hop", event().with_hop("edge-1")),
        ("empty hop", event().with_hop("")),
        ("hops", event().with_hop("a,b").with_hop("").with_hop("100%").with_hop("%2C")),
        ("attribute", with("tenant", "x")),
        ("empty attribute", with("tenant", "")),
        ("attributes are sorted", {
            with("zone", "1").with_attribute("area", "2").unwrap().with_attribute("m", "3").unwrap()
        }),
        ("all fields", full("vote.cast", "s-1")),
        ("unicode everywhere", full("tâche.créée.🐝", "séance-漢字-🐝")),
    ]
}

fn payloads() -> Vec<(&'static str, Event)> {
    let map: BTreeMap<&str, u32> = BTreeMap::from([("a", 1), ("b", 70_000)]);
    let json = r#"{"a":[1,2.5,null,true],"b":{"c":"é \"quoted\""}}"#;
    let of = |payload: Payload| event().with_payload(payload);
    vec![
        ("bytes", of(vec![0, 1, 254, 255].into())),
        ("text", of("hello".into())),
        ("empty text", of("".into())),
        ("text of many kinds", of("é \u{0} \u{1f} \u{7f} \u{2028} 漢字 🐝 \"\\\n".into())),
        ("text that is not utf-8", of(Payload::raw(Content::Text, vec![0xff, 0xfe]))),
        ("message pack", of(Payload::msgpack(&map).unwrap())),
        ("empty message pack", of(Payload::raw(Content::MessagePack, vec![]))),
        ("json", of(Payload::raw(Content::Json, json))),
        ("json null", of(Payload::raw(Content::Json, "null"))),
        ("json with spaces around", of(Payload::raw(Content::Json, " 1\n"))),
        ("json that is none", of(Payload::raw(Content::Json, "{"))),
        ("empty json", of(Payload::raw(Content::Json, ""))),
    ]
}

fn extremes() -> Vec<(&'static str, Event)> {
    let string = "s".repeat(limits::MAX_STRING_LEN);
    let mut hops = event();
    for _ in 1..limits::MAX_HOPS {
        hops = hops.with_hop("h");
    }
    let mut attributes = event();
    for n in 0..limits::MAX_ATTRIBUTES {
        attributes = attributes.with_attribute(format!("x{n}"), "").unwrap();
    }
    let name = "n234567890123456789z";
    let mut stamp = event();
    stamp.stamp(Timestamp::MAX, u64::MAX);
    vec![
        ("longest type", Event::new(EventType::new("x".repeat(limits::MAX_TYPE_LEN)).unwrap(), ())),
        ("longest source", event().with_source(&*string)),
        ("longest id", event().with_id(&*string)),
        ("longest target", event().with_target(Target::swarm(&*string))),
        ("most hops, one the longest", hops.with_hop("h".repeat(limits::MAX_HOP_LEN))),
        ("most attributes", attributes),
        ("longest attribute", {
            event().with_attribute(name, "v".repeat(limits::MAX_ATTRIBUTE_LEN)).unwrap()
        }),
        ("last time, largest nonce", stamp.with_deadline(Timestamp::MAX)),
        ("first time", event().with_timestamp(at(1)).with_deadline(at(1))),
    ]
}

fn full(ty: &'static str, text: &str) -> Event {
    let mut event = Event::of(ty, Payload::msgpack(&(1, text)).unwrap())
        .with_source(text)
        .with_priority(Priority::HIGH)
        .with_id(text)
        .with_target(Target::swarm(text))
        .with_session(text)
        .with_correlation_id(EventId::v7(at(1_700_000_000_000_000), 7))
        .with_causation_id(text)
        .with_traceparent(TRACE)
        .with_deadline(at(1_700_000_060_000_000))
        .with_hop(text)
        .with_hop("gateway-2")
        .with_attribute("tenant", text)
        .and_then(|event| event.with_attribute("region", "eu"))
        .unwrap();
    event.stamp(at(1_700_000_000_123_456), 42);
    event
}

fn event() -> Event {
    Event::of("a", ())
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}
