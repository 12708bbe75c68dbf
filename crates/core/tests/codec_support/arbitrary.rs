//! Arbitrary events for property tests.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed assertion")]

use proptest::{collection::vec, option, prelude::*, string::string_regex};
use swarmbus_core::{Content, Event, EventId, EventType, Payload, Priority, Target, Timestamp};

/// Any event that the default limits allow, small enough to make thousands.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    let base = (event_type(), text(), payload(), 0..=9_u8, stamp());
    let extra = (
        option::of(id()),
        option::of(target()),
        option::of(text()),
        option::of(id()),
        option::of(id()),
        option::of(text()),
        option::of(timestamp()),
        vec(text(), 0..4),
        vec((string_regex("x[a-z0-9]{0,19}").unwrap(), text()), 0..4),
    );
    (base, extra).prop_map(|((ty, source, payload, priority, stamp), extra)| {
        let (id, target, session, correlation, causation, trace, deadline, hops, attributes) =
            extra;
        let mut event = Event::new(ty, payload)
            .with_source(source)
            .with_priority(Priority::new(priority).unwrap());
        match stamp {
            (Some(at), Some(nonce)) => event.stamp(at, nonce),
            (Some(at), None) => event = event.with_timestamp(at),
            (None, _) => {}
        }
        if let Some(id) = id {
            event = event.with_id(id);
        }
        if let Some(target) = target {
            event = event.with_target(target);
        }
        if let Some(session) = session {
            event = event.with_session(session);
        }
        if let Some(id) = correlation {
            event = event.with_correlation_id(id);
        }
        if let Some(id) = causation {
            event = event.with_causation_id(id);
        }
        if let Some(trace) = trace {
            event = event.with_traceparent(trace);
        }
        if let Some(deadline) = deadline {
            event = event.with_deadline(deadline);
        }
        for hop in hops {
            event = event.with_hop(hop);
        }
        for (name, value) in attributes {
            event = event.with_attribute(name, value).unwrap();
        }
        event
    })
}

fn event_type() -> impl Strategy<Value = EventType> {
    string_regex("[a-zA-Z0-9_é漢-]{1,8}(\\.[a-z0-9🐝]{1,8}){0,3}")
        .unwrap()
        .prop_map(|text| EventType::new(text).unwrap())
}

/// Any characters, also none, quotes, commas, control characters.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        string_regex("[a-z0-9:/-]{1,30}").unwrap(),
        any::<String>().prop_map(|text| text.chars().take(40).collect()),
        string_regex("[%,:]{1,6}").unwrap(),
    ]
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (1..=Timestamp::MAX.as_micros()).prop_map(|micros| Timestamp::from_micros(micros).unwrap())
}

/// A nonce comes only with a timestamp.
fn stamp() -> impl Strategy<Value = (Option<Timestamp>, Option<u64>)> {
    (option::of(timestamp()), option::of(1..=u64::MAX))
}

fn id() -> impl Strategy<Value = EventId> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(EventId::from_uuid_bytes),
        text().prop_map(EventId::from),
        (timestamp(), any::<u64>()).prop_map(|(at, nonce)| EventId::v7(at, nonce)),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![text().prop_map(Target::agent), text().prop_map(Target::swarm)]
}

fn payload() -> impl Strategy<Value = Payload> {
    let json = prop_oneof![
        Just(String::new()),
        Just("null".to_owned()),
        Just(" {\"a\" : [1.50, \"x\"]} ".to_owned()),
        Just("{\"a\" : [1.50,\n -0.0, 1e999]}".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    prop_oneof![
        Just(().into()),
        vec(any::<u8>(), 0..200).prop_map(Payload::from),
        any::<String>().prop_map(Payload::from),
        any::<Vec<(String, Option<i32>)>>().prop_map(|v| Payload::msgpack(&v).unwrap()),
        json.prop_map(|text| Payload::raw(Content::Json, text)),
        // Bytes that are not what they are said to be.
        (0..4_u8, vec(any::<u8>(), 0..50))
            .prop_map(|(code, bytes)| Payload::raw(Content::from_u8(code).unwrap(), bytes)),
    ]
}
