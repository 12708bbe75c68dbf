//! Answers of servers, whole, in pieces and broken.

use proptest::prelude::*;
use redis::Value;

use super::*;

/// Any answer, as bytes.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof!["[+\\-:,#(][a-z0-9]{0,9}", Just("_".to_owned())];
    let line = line.prop_map(|line| format!("{line}\r\n").into_bytes());
    let text = ("[$=!]", prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, bytes)| {
        [format!("{kind}{}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()
    });
    let nothing = prop_oneof![Just("$-1\r\n"), Just("*-1\r\n")];
    let leaf = prop_oneof![line, text, nothing.prop_map(|text| text.as_bytes().to_vec())];
    leaf.prop_recursive(4, 64, 6, |inner| {
        ("[*~>%|]", prop::collection::vec(inner.clone(), 0..3), inner).prop_map(
            |(kind, mut items, last)| {
                let count = items.len();
                if "%|".contains(&kind) {
                    items.extend_from_within(..);
                }
                if kind == "|" {
                    items.push(last);
                }
                let mut bytes = format!("{kind}{count}\r\n").into_bytes();
                items.iter().for_each(|item| bytes.extend_from_slice(item));
                bytes
            },
        )
    })
}

proptest! {
    /// However it comes in, an answer ends where it ends, and what follows is left.
    #[test]
    fn answers_end_where_they_end(
        bytes in answer(), after in prop::collection::vec(any::<u8>(), 0..9), step in 1_usize..50,
    ) {
        let all = [&bytes[..], &after].concat();
        let mut scanner = Scanner::default();
        let mut came = 0;
        let end = loop {
            came = (came + step).min(all.len());
            match scanner.end(&all[..came]) {
                Ok(Some(end)) => break end,
                Ok(None) => prop_assert!(came < bytes.len(), "{came} of {}", bytes.len()),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        };
        prop_assert_eq!(end, bytes.len());
        prop_assert!(came >= bytes.len());
    }

    /// Nothing makes it panic or run away.
    #[test]
    fn bytes_may_be_anything(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"$*>%|:+-_\r\n0123456789".to_vec())], 0..200),
        step in 1_usize..20,
    ) {
        let mut scanner = Scanner::default();
        for came in (0..=bytes.len()).step_by(step) {
            match scanner.end(&bytes[..came]) {
                Ok(Some(end)) => {
                    prop_assert!(end <= came);
                    break;
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
        let _ = message(&bytes, 0);
        let _ = redis::parse_redis_value(&bytes);
    }

    /// What redis-rs can read is an answer, and as long.
    #[test]
    fn it_agrees_with_redis_rs(bytes in answer()) {
        if redis::parse_redis_value(&bytes).is_ok() {
            prop_assert_eq!(Scanner::default().end(&bytes), Ok(Some(bytes.len())));
        }
    }

    #[test]
    fn messages_are_taken_apart(
        sharded in any::<bool>(), name in "[a-z:{}]{0,30}",
        payload in prop::collection::vec(any::<u8>(), 0..300), before in 0_usize..5,
    ) {
        let kind = if sharded { "smessage" } else { "message" };
        let mut bytes = vec![0; before];
        let head = format!(">3\r\n${}\r\n{kind}\r\n${}\r\n{name}\r\n", kind.len(), name.len());
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(format!("${}\r\n", payload.len()).as_bytes());
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(b"\r\n");
        for cut in before..bytes.len() {
            prop_assert_eq!(message(&bytes[..cut], before), Ok(None));
        }
        let (place, end) = message(&bytes, before).unwrap().unwrap();
        prop_assert_eq!(end, bytes.len());
        prop_assert_eq!(&bytes[place.name], name.as_bytes());
        prop_assert_eq!(&bytes[place.payload], &payload[..]);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let end = |bytes: &[u8]| Scanner::default().end(bytes);
    assert_eq!(end(b"x\r\n"), Err(ScanError::Kind(b'x')));
    assert_eq!(end(b"$x\r\n"), Err(ScanError::Length));
    assert_eq!(end(b"$\r\n"), Err(ScanError::Length));
    assert_eq!(end(b"$-2\r\n"), Err(ScanError::Length));
    assert_eq!(end(b"$1\r\nabc"), Err(ScanError::End));
    assert_eq!(end(b"+a\rb"), Err(ScanError::End));
    assert_eq!(end(b"$999999999999999999999999\r\n"), Err(ScanError::Length));
    assert_eq!(end(b"$536870913\r\n"), Err(ScanError::TooLong));
    assert_eq!(end(b"*536870912\r\n"), Err(ScanError::TooLong));
    assert_eq!(end(&[b"+".to_vec(), vec![b'a'; MAX_LINE]].concat()), Err(ScanError::TooLong));
    assert_eq!(message(b">3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n", 0), Err(ScanError::Kind(b':')));
    assert_eq!(message(b">3\r\n$7\r\nmessage\r\n$-1\r\n", 0), Err(ScanError::Length));
    assert_eq!(message(b">2\r\n$7\r\nmessage\r\n", 0), Ok(None));
}

#[test]
fn deep_answers_cost_no_stack() {
    let deep = b"*1\r\n".repeat(1_000_000);
    assert_eq!(Scanner::default().end(&deep), Ok(None));
    let whole = [&deep[..], b":1\r\n"].concat();
    assert_eq!(Scanner::default().end(&whole), Ok(Some(whole.len())));
    // Whoever takes it apart says no.
    assert!(redis::parse_redis_value(&whole).is_err());
    assert_eq!(redis::parse_redis_value(b":1\r\n").unwrap(), Value::Int(1));
}
