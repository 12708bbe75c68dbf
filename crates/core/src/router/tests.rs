//! The table against the naive model (every pattern asked in turn), the cache
//! against the table.

use std::{collections::BTreeMap, num::NonZeroUsize};

use proptest::prelude::*;

use super::{Pattern, PatternError, RouteCache, RouteId, Router};
use crate::EventType;

fn pattern(text: &str) -> Pattern {
    match text.strip_prefix('/') {
        Some(regex) => Pattern::regex(regex.trim_end_matches('/')).unwrap(),
        None => Pattern::parse(text).unwrap(),
    }
}

fn matches(router: &Router<u32>, ty: &str) -> Vec<u32> {
    let mut found = Vec::new();
    router.for_each_match(ty, |value| found.push(*value));
    found
}

#[test]
fn each_form_wants_what_the_docs_say() {
    for (wanted, yes, no) in [
        ("task", &["task"][..], &["task.created", "tas", "tasks", ""][..]),
        ("task.*", &["task.created"], &["task", "task.a.b", "a.task", "tasks.a"]),
        ("*.created", &["task.created"], &["created", "a.b.created", "task.created.late"]),
        ("*", &["task"], &["a.b"]),
        (">", &["task", "a.b.c"], &[]),
        ("agent.7.>", &["agent.7.inbox", "agent.7.a.b"], &["agent.7", "agent.8.a", "agent"]),
        ("a.*.c.>", &["a.b.c.d", "a.b.c.d.e"], &["a.b.c", "a.b.d.c"]),
        ("*.*.>", &["a.b.c", "a.b.c.d"], &["a.b", "a"]),
        ("tâche.*", &["tâche.créée", "tâche.日本"], &["tache.créée"]),
        ("日本.>", &["日本.a"], &["日.a", "日本"]),
        (r"/a\.(b|c)/", &["a.b", "a.c"], &["a.bb", "xa.b", "a.b\n"]),
        ("/a|ab/", &["a", "ab"], &["abc", "b"]),
    ] {
        let pattern = pattern(wanted);
        let mut router = Router::new();
        router.insert(&pattern, 1);
        for ty in yes {
            assert!(pattern.matches(ty), "{wanted} wants {ty}");
            assert_eq!(matches(&router, ty), [1], "{wanted} wants {ty}");
        }
        for ty in no {
            assert!(!pattern.matches(ty), "{wanted} does not want {ty}");
            assert!(matches(&router, ty).is_empty(), "{wanted} does not want {ty}");
        }
    }
}

#[test]
fn bad_patterns_say_what_is_wrong() {
    use PatternError::*;
    for (text, error) in [
        ("", EmptyToken),
        (".", EmptyToken),
        ("a.", EmptyToken),
        (".>", EmptyToken),
        ("*..a", EmptyToken),
        ("a.>.", RestNotLast),
        (">.a", RestNotLast),
        ("a.>.*", RestNotLast),
        ("a*", PartOfToken("a*".into())),
        ("a.**", PartOfToken("**".into())),
        ("*.b>", PartOfToken("b>".into())),
        ("*.a b", Character(' ')),
        ("a\tb", Character('\t')),
        ("*.\u{7f}", Character('\u{7f}')),
    ] {
        assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
    }
    let long = "a".repeat(254) + ".>";
    assert_eq!(Pattern::parse(&long), Err(TooLong { len: 256, limit: 255 }));
    assert!(Pattern::parse(&long[1..]).is_ok());
}

#[test]
fn bad_regexes_are_refused() {
    // Fine inside the anchoring group, but not by itself.
    for text in ["a)|(b", "(", "(?x)a #", r"\w{500}", "(a{1000}){1000}"] {
        assert!(matches!(Pattern::regex(text), Err(PatternError::Regex(_))), "{text:?}");
    }
    let long = "a".repeat(Pattern::MAX_REGEX_LEN + 1);
    assert_eq!(Pattern::regex(&long), Err(PatternError::TooLong { len: 1025, limit: 1024 }));
    assert!(Pattern::regex(&long[1..]).is_ok());
}

#[test]
fn patterns_show_what_they_were_made_from() {
    for text in ["task.created", "task.*.>", "/a|b/"] {
        assert_eq!(pattern(text).to_string(), text);
    }
    assert_eq!(pattern("/a|b/").as_str(), "a|b");
    assert_ne!(pattern("/a/"), pattern("a"));
    assert_eq!(pattern("a.b").as_exact(), Some(&EventType::from_static("a.b")));
    assert_eq!(pattern("a.*").as_exact(), None);
}

#[test]
fn values_come_in_the_order_of_insertion_whatever_their_pattern() {
    let mut router = Router::new();
    for (value, text) in
        [">", "/a.*/", "a.b", "*.b", "a.>", "a.b", "a.*", "/.*/"].iter().enumerate()
    {
        router.insert(&pattern(text), value as u32);
    }
    assert_eq!(matches(&router, "a.b"), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn an_id_removes_its_own_subscription_once() {
    let mut router = Router::new();
    let first = router.insert(&pattern("a.*"), 1);
    let second = router.insert(&pattern("a.*"), 2);
    assert_eq!(router.pattern(first), Some(&pattern("a.*")));
    assert_eq!(router.remove(first), Some(1));
    assert_eq!(router.remove(first), None);
    assert_eq!(router.pattern(first), None);
    assert_eq!(matches(&router, "a.b"), [2]);
    assert!(router.insert(&pattern("a.*"), 3) > second, "ids are not given out again");
}

#[test]
fn what_is_removed_leaves_nothing_behind() {
    let mut router = Router::new();
    let ids: Vec<RouteId> = (0..1000)
        .flat_map(|n| {
            [format!("agent.{n}.>"), format!("*.{n}.*"), format!("a.{n}"), format!("/{n}/")]
        })
        .map(|text| router.insert(&pattern(&text), 0))
        .collect();
    for id in ids {
        router.remove(id);
    }
    assert!(router.is_empty());
    assert!(router.exact.is_empty() && router.wildcards.is_empty() && router.regexes.is_empty());
}

#[test]
fn holes_never_outnumber_the_values_for_long() {
    let mut router = Router::new();
    let ids: Vec<RouteId> = (0..1000).map(|n| router.insert(&pattern("a"), n)).collect();
    for (gone, id) in ids.into_iter().enumerate().take(999) {
        router.remove(id);
        let kept = 999 - gone;
        assert!(router.exact["a"].slots() <= 2 * kept + 1, "{kept} kept");
        assert_eq!(matches(&router, "a").len(), kept);
    }
}

#[test]
fn stars_on_every_level_take_no_longer_than_the_table_is_large() {
    // 2^16 ways through the tokens, but one node for each.
    let mut router = Router::new();
    let ty = vec!["a"; 16].join(".");
    for bits in 0..1_u32 << 10 {
        let token = |n: usize| if bits >> n & 1 == 1 { "*" } else { "a" };
        let text: Vec<&str> = (0..16).map(|n| token(n % 10)).collect();
        router.insert(&pattern(&text.join(".")), bits);
    }
    assert_eq!(matches(&router, &ty).len(), 1 << 10);
    let deep = format!("{}*", "a.".repeat(126));
    router.insert(&pattern(&deep), 7);
    assert_eq!(matches(&router, &deep.replace('*', "b")), [7]);
}

/// Few tokens, so that patterns and types meet often; some need care.
fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "aa", "é", "日本", "7"])
}

fn any_type() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => prop::collection::vec(token(), 1..5).prop_map(|tokens| tokens.join(".")),
        // What is no type at all has to find the same answer too.
        1 => "[ab.*>]{0,6}",
    ]
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let token = prop_oneof![3 => token(), 1 => Just("*")];
    let wildcards =
        (prop::collection::vec(token, 1..5), any::<bool>()).prop_map(|(mut tokens, rest)| {
            if rest {
                tokens.push(">");
            }
            Pattern::parse(&tokens.join(".")).unwrap()
        });
    let regexes = prop::sample::select(vec!["/a.*/", r"/(a|b)\.[^.]+/", "/.*é.*/", "/a|aa/", "//"]);
    prop_oneof![8 => wildcards, 1 => regexes.prop_map(pattern), 1 => Just(pattern(">"))]
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Pattern),
    Remove(prop::sample::Index),
    Look(String),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => any_pattern().prop_map(Step::Insert),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
        3 => any_type().prop_map(Step::Look),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn the_table_and_the_cache_answer_as_the_model_does(steps in steps(), capacity in 1_usize..6) {
        let mut router = Router::new();
        let mut model: BTreeMap<RouteId, (Pattern, u32)> = BTreeMap::new();
        let mut cache = RouteCache::new(NonZeroUsize::new(capacity).unwrap());
        for (number, step) in steps.into_iter().enumerate() {
            let before = router.generation();
            match step {
                Step::Insert(pattern) => {
                    let id = router.insert(&pattern, number as u32);
                    prop_assert!(model.insert(id, (pattern, number as u32)).is_none());
                    prop_assert_ne!(router.generation(), before);
                }
                Step::Remove(at) => {
                    let ids: Vec<RouteId> = model.keys().copied().collect();
                    if ids.is_empty() { continue }
                    let id = *at.get(&ids);
                    prop_assert_eq!(router.remove(id), model.remove(&id).map(|(_, value)| value));
                    prop_assert_ne!(router.generation(), before);
                }
                Step::Look(ty) => {
                    let expected: Vec<u32> = model
                        .values()
                        .filter(|(pattern, _)| pattern.matches(&ty))
                        .map(|(_, value)| *value)
                        .collect();
                    prop_assert_eq!(&matches(&router, &ty), &expected);
                    let Ok(ty) = EventType::new(ty) else { continue };
                    if let Some(cached) = cache.get_by_bytes(before, ty.as_str().as_bytes()) {
                        prop_assert_eq!(cached, &expected);
                    }
                    let cached = cache.get_or_insert_with(before, &ty, || matches(&router, ty.as_str()));
                    prop_assert_eq!(cached, &expected);
                    prop_assert!(cache.len() <= capacity);
                }
            }
            prop_assert_eq!(router.len(), model.len());
        }
        for (id, (pattern, _)) in model {
            prop_assert_eq!(router.pattern(id), Some(&pattern));
            router.remove(id);
        }
        prop_assert!(router.wildcards.is_empty() && router.exact.is_empty() && router.regexes.is_empty());
    }

    #[test]
    fn text_that_parses_is_shown_unchanged_and_other_text_never_panics(text in "[a*>. é]{0,8}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert_eq!(pattern.to_string(), text.as_str());
        }
        let _ = Pattern::regex(&text);
    }
}

mod cache {
    use super::*;

    fn ty(n: usize) -> EventType {
        EventType::new(format!("type.{n}")).unwrap()
    }

    fn cache(capacity: usize) -> RouteCache<usize> {
        RouteCache::new(NonZeroUsize::new(capacity).unwrap())
    }

    #[test]
    fn the_least_recently_used_type_is_forgotten_first() {
        let mut cache = cache(3);
        for n in [0, 1, 2] {
            cache.get_or_insert_with(1, &ty(n), || n);
        }
        assert_eq!(cache.get_by_bytes(1, b"type.0"), Some(&0));
        cache.get_or_insert_with(1, &ty(3), || 3);
        assert_eq!(cache.get_by_bytes(1, b"type.1"), None, "the oldest use");
        for n in [0, 2, 3] {
            assert_eq!(cache.get_or_insert_with(1, &ty(n), || unreachable!()), &n);
        }
        assert_eq!((cache.len(), cache.capacity().get()), (3, 3));
    }

    #[test]
    fn another_generation_empties_it() {
        let mut cache = cache(10);
        cache.get_or_insert_with(7, &ty(1), || 1);
        cache.get_or_insert_with(7, &ty(2), || 2);
        assert_eq!(cache.get_or_insert_with(8, &ty(1), || 10), &10);
        assert_eq!(cache.len(), 1);
        // Back to an older one: its results are gone, not revived.
        assert_eq!(cache.get_by_bytes(7, b"type.1"), None);
        assert!(cache.is_empty());
    }

    #[test]
    fn only_equal_bytes_are_a_hit() {
        let mut cache = cache(100);
        for n in 0..100 {
            cache.get_or_insert_with(1, &ty(n), || n);
        }
        for bytes in [&b"type.1 "[..], b"type.", b"type.100", b"", b"\xff\xfe", &[0; 300]] {
            assert_eq!(cache.get_by_bytes(1, bytes), None, "{bytes:?}");
        }
        assert_eq!(cache.get_by_bytes(1, b"type.42"), Some(&42));
    }

    #[test]
    fn types_of_every_length_are_told_apart() {
        for capacity in [7, 100] {
            let mut cache = cache(capacity);
            let ty = |len: usize| EventType::new("a".repeat(len)).unwrap();
            for len in (1..60).chain(1..60).chain((1..60).rev()) {
                assert_eq!(cache.get_or_insert_with(1, &ty(len), || len), &len);
                assert_eq!(cache.get_by_bytes(1, ty(len).as_str().as_bytes()), Some(&len));
                assert!(cache.len() <= capacity);
            }
        }
    }

    #[test]
    fn one_is_forgotten_even_if_all_are_in_use() {
        let mut cache = cache(40);
        for n in (0..40).chain(0..40) {
            cache.get_or_insert_with(1, &ty(n), || n);
        }
        cache.get_or_insert_with(1, &ty(40), || 40);
        let left = (0..=40).filter(|n| cache.get_by_bytes(1, ty(*n).as_str().as_bytes()).is_some());
        assert_eq!((left.count(), cache.len()), (40, 40));
    }

    #[test]
    fn a_computation_that_panics_leaves_the_cache_usable() {
        let mut cache = cache(2);
        cache.get_or_insert_with(1, &ty(1), || 1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cache.get_or_insert_with(1, &ty(2), || panic!("no result"));
        }));
        assert!(panicked.is_err());
        assert_eq!(cache.get_by_bytes(1, b"type.2"), None);
        assert_eq!(cache.get_or_insert_with(1, &ty(2), || 2), &2);
        assert_eq!(cache.get_by_bytes(1, b"type.1"), Some(&1));
    }
}
