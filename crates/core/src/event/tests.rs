//! Tests of the event and its parts.

use super::*;

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

#[test]
fn an_event_stays_within_two_cache_lines() {
    // With 8 bytes for the time at which a queue got it.
    assert!(size_of::<Event>() <= 120, "{}", size_of::<Event>());
}

#[test]
fn types_follow_their_rules() {
    assert!(EventType::new("task.created").is_ok());
    assert!(EventType::new("tâche.créée").is_ok());
    for bad in ["", ".", "a.", ".a", "a..b", "é.", "é..a", "a..é", "a.é."] {
        assert_eq!(EventType::new(bad), Err(EventTypeError::EmptyToken), "{bad:?}");
    }
    let wrong = [("a b", ' '), ("a.*", '*'), ("a.>", '>'), ("a\n", '\n'), ("a\u{7f}", '\u{7f}')];
    let later = [("é*", '*'), ("a.é\n", '\n'), ("é\u{2003}", '\u{2003}'), ("\u{85}", '\u{85}')];
    for (bad, c) in wrong.into_iter().chain(later) {
        assert_eq!(EventType::new(bad), Err(EventTypeError::Character(c)), "{bad:?}");
    }
    assert!(EventType::new("x".repeat(255)).is_ok());
    assert_eq!(EventType::new("x".repeat(256)), Err(EventTypeError::TooLong(256)));
}

#[test]
fn the_stable_hash_is_xxh64_of_the_bytes() {
    // The published XXH64 value of "abc" with seed 0.
    assert_eq!(EventType::from_static("abc").stable_hash(), 0x44bc_2cf5_ad77_0999);
}

#[test]
fn an_id_is_made_from_the_stamp_and_clones_agree() {
    let mut event = Event::of("a", ());
    assert_eq!(event.id(), None);
    event.stamp(at(1_700_000_000_123_456), 42);
    let copy = event.clone();
    assert_eq!(event.id(), copy.id());
    let id = event.id().unwrap();
    let uuid = uuid::Uuid::from_bytes(*id.as_uuid_bytes().unwrap());
    assert_eq!(uuid.get_version_num(), 7);
    assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
    let (secs, nanos) = uuid.get_timestamp().unwrap().to_unix();
    assert_eq!((secs, nanos / 1_000_000), (1_700_000_000, 123));
}

#[test]
fn a_second_stamp_changes_nothing() {
    let mut event = Event::of("a", ());
    event.stamp(at(1), 2);
    let first = event.clone();
    event.stamp(at(3), 4);
    assert_eq!(event, first);
}

#[test]
fn ids_sort_by_time() {
    let early = EventId::v7(at(1_000_001), u64::MAX);
    let late = EventId::v7(at(1_000_002), 1);
    assert!(early.as_uuid_bytes() < late.as_uuid_bytes());
}

#[test]
fn foreign_ids_come_back_as_they_were() {
    for text in [
        "A234-1234",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "01890A5D-AC96-774B-BCCE-B302099A8057",
        "{01890a5d-ac96-774b-bcce-b302099a8057}",
        "01890a5dac96774bbcceb302099a8057",
        "",
    ] {
        assert_eq!(EventId::from(text).to_string(), text);
    }
    let canonical = EventId::from("01890a5d-ac96-774b-bcce-b302099a8057");
    assert!(canonical.as_uuid_bytes().is_some());
}

#[test]
fn timestamps_round_trip_as_rfc_3339() {
    for micros in [1, 1_000_000, 1_700_000_000_123_456, Timestamp::MAX.as_micros()] {
        let text = at(micros).to_string();
        assert_eq!(text.parse(), Ok(at(micros)), "{text}");
    }
    assert_eq!("2026-01-31T12:00:00+01:00".parse(), "2026-01-31T11:00:00Z".parse::<Timestamp>());
    assert_eq!("yesterday".parse::<Timestamp>(), Err(TimestampError::Syntax));
    assert_eq!("1969-12-31T23:59:59Z".parse::<Timestamp>(), Err(TimestampError::Range));
    assert_eq!(Timestamp::from_micros(Timestamp::MAX.as_micros() + 1), None);
    assert_eq!(Timestamp::from_unix(std::time::Duration::MAX), Timestamp::MAX);
    assert_eq!(at(5).saturating_add(std::time::Duration::MAX), Timestamp::MAX);
}

#[test]
fn attributes_are_checked_sorted_and_replaced() {
    let event = Event::of("a", ())
        .with_attribute("tenant", "x")
        .and_then(|e| e.with_attribute("region", "eu"))
        .and_then(|e| e.with_attribute("tenant", "y"))
        .unwrap();
    assert_eq!(event.attributes().collect::<Vec<_>>(), [("region", "eu"), ("tenant", "y")]);
    assert_eq!(event.attribute("tenant"), Some("y"));
    assert_eq!(event.attribute("nothing"), None);
    assert_eq!(Event::of("a", ()).with_attribute("time", "1"), Err(AttributeError::Reserved));
    for bad in ["", "Big", "with-dash", "morethantwentycharacters"] {
        assert_eq!(Event::of("a", ()).with_attribute(bad, "1"), Err(AttributeError::Name));
    }
}

#[test]
fn the_reserved_names_are_sorted_for_the_search() {
    for reserved in ["causationid", "deadline", "hops", "subject", "type"] {
        assert_eq!(
            Event::of("a", ()).with_attribute(reserved, ""),
            Err(AttributeError::Reserved),
            "{reserved}"
        );
    }
}

#[test]
fn payloads_are_read_by_their_content() {
    let value = vec![1, 2, 3];
    let packed = Event::of("a", Payload::msgpack(&value).unwrap());
    let json = Event::of("a", Payload::json(&value).unwrap());
    assert_eq!(packed.decode::<Vec<i32>>().unwrap(), value);
    assert_eq!(json.decode::<Vec<i32>>().unwrap(), value);
    assert!(matches!(
        Event::of("a", "text").decode::<Vec<i32>>(),
        Err(PayloadError::NotStructured(Content::Text))
    ));
    assert!(matches!(packed.decode::<String>(), Err(PayloadError::MessagePackRead(_))));
}

#[test]
fn a_payload_that_nests_too_deep_is_refused_not_followed() {
    // 0x91 opens an array of one.
    let deep = Payload::raw(Content::MessagePack, vec![0x91; 100_000]);
    let event = Event::of("a", deep);
    assert!(matches!(event.decode::<serde_json::Value>(), Err(PayloadError::TooDeep)));
    let deep = Payload::raw(Content::Json, "[".repeat(100_000));
    assert!(matches!(
        Event::of("a", deep).decode::<serde_json::Value>(),
        Err(PayloadError::Json(_))
    ));
}

#[test]
fn debug_does_not_print_the_payload() {
    let shown = format!("{:?}", Event::of("login", "hunter2"));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("payload_bytes: 7"), "{shown}");
}

#[test]
fn priority_bands_cover_the_scale() {
    let levels: Vec<_> = Priority::all().map(Priority::level).collect();
    use Level::{Critical, High, Low, Normal};
    assert_eq!(levels, [Low, Low, Low, Normal, Normal, Normal, High, High, Critical, Critical]);
    let bypassing: Vec<_> =
        Priority::all().filter(|p| p.bypasses_breaker()).map(Priority::get).collect();
    assert_eq!(bypassing, [8, 9]);
    assert_eq!(Priority::new(10), None);
}

#[test]
fn what_is_unstamped_can_be_stamped_again() {
    let at = Timestamp::from_micros(5).unwrap();
    let mut event = Event::of("a", "text").with_id("mine").with_session("s");
    event.stamp(at, 7);
    let mut again = event.clone().unstamped();
    assert_eq!((again.id(), again.timestamp(), again.session()), (None, None, Some("s")));
    again.stamp(at, 8);
    assert_eq!(again.id(), Some(EventId::v7(at, 8)));
    assert_eq!(event.id(), Some("mine".into()), "a clone is not touched");
}
