//! The JSON form: each member, each payload, each mistake.

use super::*;
use crate::event::{Content, Event, EventId, Payload, Priority, Target, Timestamp};

fn text(event: &Event) -> String {
    String::from_utf8(to_json(event).unwrap()).unwrap()
}

fn read(members: &str) -> Result<Event, FromJsonError> {
    let json = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t"{members}}}"#);
    from_json(json.as_bytes())
}

fn code(members: &str) -> &'static str {
    read(members).unwrap_err().code()
}

#[test]
fn every_field_has_its_member() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let mut event = Event::of("vote.cast", Payload::raw(Content::Json, r#"{"b":1, "a":1.50}"#))
        .with_source("validator-3")
        .with_priority(Priority::MAX)
        .with_target(Target::swarm("blue"))
        .with_session("s-1")
        .with_correlation_id("c,1")
        .with_causation_id("01890a5d-ac96-774b-bcce-b302099a8057")
        .with_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .with_deadline(at("2026-01-31T12:00:01Z"))
        .with_hop("a,b")
        .with_hop("100%")
        .with_attribute("tenant", "x")
        .unwrap();
    event.stamp(at("2026-01-31T12:00:00.000001Z"), 42);
    assert_eq!(
        text(&event),
        concat!(
            r#"{"specversion":"1.0","id":"019c13ec-9e00-7004-8000-00000000002a","#,
            r#""source":"validator-3","type":"vote.cast","time":"2026-01-31T12:00:00.000001Z","#,
            r#""nonce":"000000000000002a","priority":9,"correlationid":"c,1","#,
            r#""causationid":"01890a5d-ac96-774b-bcce-b302099a8057","target":"swarm:blue","#,
            r#""session":"s-1","#,
            r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","#,
            r#""deadline":"2026-01-31T12:00:01Z","hops":"a%2Cb,100%25","tenant":"x","#,
            r#""datacontenttype":"application/json","data":{"b":1, "a":1.50}}"#,
        )
    );
    assert_eq!(from_json(text(&event).as_bytes()).unwrap(), event);
}

#[test]
fn source_and_id_are_never_empty_in_json() {
    let event = Event::of("a", ());
    assert_eq!(
        text(&event),
        r#"{"specversion":"1.0","id":"swarmbus:unstamped","source":"swarmbus:anonymous","type":"a"}"#
    );
    assert_eq!(from_json(text(&event).as_bytes()).unwrap(), event);
    for taken in [event.clone().with_source(ANONYMOUS), event.clone().with_id(UNSTAMPED)] {
        assert!(matches!(to_json(&taken), Err(ToJsonError::Reserved { .. })));
    }
    assert!(matches!(to_json(&event.with_id("")), Err(ToJsonError::Reserved { name: "id", .. })));
}

#[test]
fn payloads_keep_their_bytes() {
    let cases = [
        (Payload::from("é\n"), r#""datacontenttype":"text/plain","data":"é\n""#),
        (Payload::from(vec![0, 255]), r#""application/octet-stream","data_base64":"AP8=""#),
        (Payload::msgpack(&1).unwrap(), r#""application/msgpack","data_base64":"AQ==""#),
        (Payload::raw(Content::Json, "[1.0e3,\n null]"), "\"data\":[1.0e3,\n null]"),
        (Payload::raw(Content::Json, "null"), r#""data":null"#),
        // What cannot stand as `data` and come back the same.
        (Payload::raw(Content::Json, " 1"), r#""application/json","data_base64":"IDE=""#),
        (Payload::raw(Content::Json, ""), r#""application/json","data_base64":"""#),
        (Payload::raw(Content::Json, "{"), r#""application/json","data_base64":"ew==""#),
        (Payload::raw(Content::Text, vec![255]), r#""text/plain","data_base64":"/w==""#),
    ];
    for (payload, shown) in cases {
        let event = Event::of("a", payload);
        assert!(text(&event).contains(shown), "{} in {}", shown, text(&event));
        assert_eq!(from_json(text(&event).as_bytes()).unwrap(), event);
    }
}

#[test]
fn an_id_that_only_repeats_the_stamp_is_not_kept_twice() {
    let (at, nonce) = (Timestamp::from_micros(5).unwrap(), 7);
    let mut event = Event::of("a", ()).with_id(EventId::v7(at, nonce));
    event.stamp(at, nonce);
    let back = from_json(text(&event).as_bytes()).unwrap();
    assert_eq!(back.id(), event.id());
    assert_eq!(to_json(&back).unwrap(), to_json(&event).unwrap());
}

#[test]
fn foreign_events_are_kept_or_refused_but_never_cut() {
    let event = read(r#","subject":"pic.png","dataschema":"http://x/y","time":null"#).unwrap();
    assert_eq!(event.attribute("subject"), Some("pic.png"));
    assert_eq!(event.attribute("dataschema"), Some("http://x/y"));
    assert_eq!(from_json(text(&event).as_bytes()).unwrap(), event);

    let json = read(r#","data":{"a":1}"#).unwrap();
    assert_eq!((json.content(), &json.payload()[..]), (Content::Json, &br#"{"a":1}"#[..]));
    let json = read(r#","datacontenttype":"Application/JSON; charset=UTF-8","data":1"#).unwrap();
    assert_eq!(json.content(), Content::Json);
    let bytes = read(r#","datacontenttype":"application/octet-stream","data":"hi""#).unwrap();
    assert_eq!((bytes.content(), &bytes.payload()[..]), (Content::Binary, &b"hi"[..]));
    let bytes = read(r#","data_base64":"AP8=""#).unwrap();
    assert_eq!((bytes.content(), &bytes.payload()[..]), (Content::Binary, &[0, 255][..]));

    for media_type in [
        "application/cloudevents+json",
        "text/html",
        "image/png",
        "application/json; profile=x",
        "text/plain; charset=latin-1",
        "",
    ] {
        assert_eq!(code(&format!(r#","datacontenttype":"{media_type}""#)), "media_type");
    }
    assert_eq!(code(r#","sampled":true"#), "not_a_string");
    assert_eq!(code(r#","rate":5"#), "not_a_string");
    assert_eq!(code(r#","Tenant":"x""#), "attribute");
    assert_eq!(code(r#","a_b":"x""#), "attribute");
}

#[test]
fn each_mistake_has_its_error() {
    assert_eq!(from_json(b"[]").unwrap_err().code(), "syntax");
    assert_eq!(from_json(b"{} x").unwrap_err().code(), "syntax");
    assert_eq!(from_json(b"{}").unwrap_err().code(), "missing");
    assert_eq!(from_json(b"{\"specversion\":\"0.3\"}").unwrap_err().code(), "specversion");
    assert_eq!(code(r#","id":"2""#), "duplicate");
    assert_eq!(code(r#","time":"noon""#), "time");
    assert_eq!(code(r#","deadline":"1960-01-01T00:00:00Z""#), "time");
    for priority in ["10", "-1", "1.5", "\"1\""] {
        assert_eq!(code(&format!(r#","priority":{priority}"#)), "priority");
    }
    assert_eq!(code(r#","target":"blue""#), "target");
    assert_eq!(code(r#","hops":"100%""#), "hops");
    assert_eq!(code(r#","nonce":"000000000000002a""#), "nonce");
    for nonce in ["0000000000000000", "2a", "000000000000002A", "+00000000000002a"] {
        let members = format!(r#","time":"2026-01-31T12:00:00Z","nonce":"{nonce}""#);
        assert_eq!(code(&members), "nonce", "{nonce}");
    }
    assert_eq!(code(r#","data":1,"data_base64":"AA==""#), "two_payloads");
    assert_eq!(code(r#","datacontenttype":"text/plain","data":1"#), "data");
    assert_eq!(code(r#","datacontenttype":"application/msgpack","data":"x""#), "data");
    assert_eq!(code(r#","data_base64":"AA""#), "base64");
    let many: String = (0..100).map(|n| format!(r#","x{n}":"""#)).collect();
    assert_eq!(code(&many), "too_many_members");
    let small = crate::codec::Limits { frame_len: 1, ..Default::default() };
    assert_eq!(from_json_with(b"{}", &small).unwrap_err().code(), "too_long");
    let bad = br#"{"specversion":"1.0","id":"1","source":"s","type":"a b"}"#;
    assert_eq!(from_json(bad).unwrap_err().code(), "type");
}

#[test]
fn deep_json_is_carried_without_recursion() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let event = Event::of("a", Payload::raw(Content::Json, deep));
    assert_eq!(from_json(&to_json(&event).unwrap()).unwrap(), event);
}
