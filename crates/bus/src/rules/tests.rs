//! What rules mean, against a naive model; and what is said of bad ones.

use proptest::prelude::*;
use serde_json::{Value, json};
use swarmbus_core::{Event, EventType, Payload, Priority, Target, router::Pattern};

use super::*;

fn rules(json: &Value) -> Rules {
    json.to_string().parse().unwrap()
}

fn faults(text: &str) -> Vec<String> {
    match text.parse::<Rules>() {
        Err(RulesError::Invalid { path: None, problems }) => {
            problems.iter().map(ToString::to_string).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn targets(rules: &Rules, event: &Event) -> Vec<String> {
    rules.routed(event).iter().map(|routed| routed.target.to_string()).collect()
}

#[test]
fn the_short_form_routes_a_type_to_its_targets() {
    let rules = rules(&json!({
        "routing": {
            "mcp.server.down": ["alert", "recovery", "log"],
            "command.executed": ["analytics", "learning", "log"],
            "pattern.learned": ["evaluation", "storage", "notification"],
            "error.critical": ["alert", "recovery", "kill-switch"],
            "backup.completed": ["verification", "log", "cleanup"]
        }
    }));
    assert_eq!(rules.len(), 5);
    let down = Event::of("mcp.server.down", ());
    assert_eq!(targets(&rules, &down), ["alert", "recovery", "log"]);
    assert!(targets(&rules, &Event::of("mcp.server.up", ())).is_empty());
}

#[test]
fn every_condition_must_hold() {
    let rules = rules(&json!({ "rules": [{
        "type": "task.>",
        "to": ["x"],
        "when": {
            "source": "agent-1",
            "session": "/s[0-9]+/",
            "priority_at_least": "HIGH",
            "attributes": { "region": "/eu-.*/" },
            "payload": { "/a/0": 1, "/b": "/y.s/", "/c": null, "/d": true },
        }
    }]}));
    let payload = json!({"a": [1.0], "b": "yes", "c": null, "d": true});
    let event = |payload: &Value| {
        Event::of("task.made.now", Payload::json(payload).unwrap())
            .with_source("agent-1")
            .with_session("s17")
            .with_priority(Priority::HIGH)
            .with_attribute("region", "eu-west")
            .unwrap()
    };
    let routed = |event: &Event| !rules.routed(event).is_empty();
    let good = event(&payload);
    assert!(routed(&good));
    assert!(routed(&good.clone().with_payload(Payload::msgpack(&payload).unwrap())));

    assert!(!routed(&good.clone().with_source("agent-11")));
    assert!(!routed(&good.clone().with_session("s17b")));
    assert!(!routed(&good.clone().with_priority(Priority::DEFAULT)));
    assert!(!routed(&good.clone().with_attribute("region", "us").unwrap()));
    for (field, value) in
        [("a", json!([2])), ("a", json!("1")), ("b", json!("yeas")), ("d", json!(1))]
    {
        let mut payload = payload.clone();
        payload[field] = value;
        assert!(!routed(&event(&payload)), "{payload}");
    }
    let mut without = payload.clone();
    without.as_object_mut().unwrap().remove("c");
    assert!(!routed(&event(&without)), "a missing field is not null");
    assert!(!routed(&good.clone().with_payload("text")));
    assert!(!routed(&good.with_payload(Payload::raw(crate::Content::Json, &b"{"[..]))));
}

#[test]
fn a_copy_is_addressed_and_says_where_it_comes_from() {
    let rules = rules(&json!({ "rules": [
        { "name": "page", "type": "*", "to": ["agent:ops", "audit"], "raise_to": 8 },
        { "name": "calm", "type": "*", "to": ["audit", "swarm:night"], "priority": "low",
          "order": -1 },
    ]}));
    let cause = Event::of("failed", "disk")
        .with_id("e1")
        .with_source("node-7")
        .with_target(Target::agent("planner"))
        .with_session("s1")
        .with_attribute("region", "eu")
        .unwrap()
        .with_budget(11);
    let copies = rules.copies(&cause);
    let [audit, night, ops] = &copies[..] else { panic!("{copies:?}") };

    assert_eq!(ops.ty().as_str(), "agent.ops");
    assert_eq!(ops.target(), Some(&Target::agent("ops")));
    assert_eq!(ops.priority(), Priority::CRITICAL);
    assert_eq!((ops.text(), ops.source(), ops.session()), (Some("disk"), "node-7", Some("s1")));
    assert_eq!(ops.attribute("region"), Some("eu"));
    assert_eq!(ops.attribute(ROUTED_TYPE), Some("failed"));
    // 4, 4 and 3 before the hop.
    assert_eq!([audit, night, ops].map(Event::budget), [Some(3), Some(3), Some(2)]);
    assert_eq!(ops.causation_id(), cause.id().as_ref());
    assert_eq!(ops.hops(), ["rule:page"]);
    assert_eq!(ops.id(), Some("e1/agent:ops".into()));

    assert_eq!((audit.hops(), audit.priority()), (&["rule:calm".into()][..], Priority::LOW));
    assert_eq!(audit.target(), Some(&Target::agent("planner")));
    assert_eq!(night.target(), Some(&Target::swarm("night")));
    assert!(copies.iter().all(|copy| rules.copies(copy).is_empty()), "copies are not copied");
    let made: Vec<u64> = rules.report().iter().map(|rule| rule.made).collect();
    assert_eq!(made, [2, 1]);
}

#[test]
fn what_a_copy_causes_is_routed_by_other_rules_only() {
    let rules = rules(&json!({ "rules": [
        { "name": "back", "type": "b", "to": ["a"] },
        { "name": "on", "type": "a", "to": ["b"] },
        { "name": "log", "type": "*", "to": ["log"] },
    ]}));
    let first = rules.copies(&Event::of("a", ())).remove(0);
    assert_eq!(first.hops(), ["rule:on"]);
    let caused = Event::of("b", ()).caused_by(&first, "handler").unwrap();
    let second = rules.copies(&caused).remove(0);
    let came_back = Event::of("a", ()).caused_by(&second, "another").unwrap();
    assert_eq!(targets(&rules, &came_back), ["log"]);
    rules.copies(&came_back);
    let cut: Vec<u64> = rules.report().iter().map(|rule| rule.cut).collect();
    assert_eq!(cut, [0, 1, 0]);

    let spent = Event::of("a", ()).with_budget(0);
    assert!(rules.copies(&spent).is_empty());
    assert!(rules.copies(&Event::of("a", ()).replayed()).is_empty());
}

#[test]
fn copies_share_what_the_event_may_still_cause() {
    let rules = rules(&json!({ "routing": { "a": ["x", "y", "z"] } }));
    for budget in 0..12 {
        let copies = rules.copies(&Event::of("a", ()).with_budget(budget));
        let spent: u64 = copies.iter().map(|copy| copy.budget().unwrap() + 1).sum();
        assert_eq!((copies.len() as u64, spent), (budget.min(3), budget));
    }
    let [report] = &rules.report()[..] else { panic!("{rules:?}") };
    assert_eq!((report.made, report.cut), (27 + 2 + 1, 3 + 2 + 1));
    assert!(rules.copies(&Event::of("a", ())).iter().all(|copy| copy.budget().is_none()));
}

#[test]
fn a_rule_that_is_off_does_nothing_and_is_checked() {
    let off = |to: &str| json!({ "rules": [{"type": "a", "to": [to], "enabled": false}] });
    assert!(rules(&off("b")).is_empty());
    assert_eq!(faults(&off("").to_string()).len(), 1);
    assert!(rules(&json!({})).is_empty());
}

#[test]
fn all_problems_are_named_with_their_place() {
    let text = r#"{
  "version": 2,
  "routing": {
    "a..b": ["x"],
    "twice": ["x"],
    "none": []
  },
  "rules": [
    { "type": "/(/", "to": ["agent:", "a b", 7], "when": { "source": "/[/" } },
    { "name": "twice", "type": "b", "to": ["x"], "priority": "urgent" },
    { "to": ["x"], "priority": 1, "raise_to": 2 },
    {
      "type": "d",
      "to": ["x"],
      "when": {
        "attributes": { "Region": "eu", "id": "7" },
        "payload": { "no": 1, "/a": [1] },
        "priority_at_least": 10
      },
      "order": "first",
      "surprise": true
    },
    { "type": "e", "to": "x" },
    { "name": "", "type": "f", "to": ["x"], "enabled": 1, "order": 1.5,
      "when": { "payload": { "no": 1, "/a": [1] }, "attributes": { "Region": "eu", "id": "7" },
                "priority_at_least": 10 } }
  ]
}"#;
    let faults = faults(text);
    let expected = [
        "2:14: version: version 2 is not known: this program reads version 1",
        "4:5: routing[\"a..b\"]: a pattern needs at least one character in each token between dots",
        "6:13: routing[\"none\"]: a rule needs at least one target",
        "9:15: rules[0].type: not a usable regex",
        "9:29: rules[0].to[0]: a target is a type, `agent:NAME` or `swarm:NAME`: an event type",
        "9:39: rules[0].to[1]: a target is a type",
        "9:46: rules[0].to[2]: invalid type: integer `7`, expected a string",
        "9:70: rules[0].when.source: not a usable regex",
        "10:15: rules[1].name: another rule has this name already",
        "10:62: rules[1].priority: a priority is `low`, `normal`, `high`, `critical` or 0 to 9",
        "11:5: rules[2]: a rule needs `type`",
        "11:47: rules[2].raise_to: a rule has `priority` or `raise_to`, not both",
        "21:16: rules[3].surprise: unknown field `surprise`, expected one of",
        "23:28: rules[4].to: invalid type: string \"x\", expected a sequence",
        "24:15: rules[5].name: a name is 1 to 100 bytes long",
        "24:56: rules[5].enabled: invalid type: integer `1`, expected a boolean",
        "24:70: rules[5].order: invalid type: floating point `1.5`, expected i64",
        "25:30: rules[5].when.payload[\"no\"]: a JSON pointer is empty or begins with `/`",
        "25:45: rules[5].when.payload[\"/a\"]: a payload's value is compared with",
        "25:68: rules[5].when.attributes[\"Region\"]: an attribute name is",
        "25:84: rules[5].when.attributes[\"id\"]: this attribute name is taken",
        "26:38: rules[5].when.priority_at_least: a priority is",
    ];
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault}\n{expected}");
    }
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
}

#[test]
fn text_that_is_not_json_says_where() {
    assert_eq!(
        faults("{\n  \"rules\": [\n    {\"type\": \"a\",}\n  ]\n}"),
        ["3:18: rules[0]: key must be a string"]
    );
    assert!(faults("")[0].starts_with("1:1: EOF"), "{:?}", faults(""));
    assert!(faults("[]")[0].contains("expected an object"), "{:?}", faults("[]"));
    assert!(faults(r#"{"rules": [["a", ["b"]]]}"#)[0].contains("rules[0]: invalid type"));
    assert!(faults("{} {}")[0].starts_with("1:4: trailing"), "{:?}", faults("{} {}"));
    assert!(faults(r#"{"version": 1, "version": 1}"#)[0].contains("duplicate field"));
    let deep = format!("{{\"rules\": {}", "[".repeat(100_000));
    assert_eq!(faults(&deep).len(), 1);
}

#[test]
fn nothing_is_unlimited() {
    let one = |fields: Value| json!({"rules": [fields]}).to_string();
    let many = |n: usize, text: &dyn Fn(usize) -> Value| (0..n).map(text).collect::<Vec<_>>();

    assert!(faults(&" ".repeat(MAX_FILE_LEN + 1))[0].contains("longer than 1048576"));
    let rule = |n: usize| json!({"type": format!("t{n}"), "to": ["x"]});
    assert_eq!(rules(&json!({"rules": many(MAX_RULES, &rule)})).len(), MAX_RULES);
    let text = json!({"rules": many(MAX_RULES + 1, &rule)}).to_string();
    assert!(faults(&text)[0].contains("more than 1000 rules"));

    let target = |n: usize| json!(format!("x{n}"));
    let text = one(json!({"type": "a", "to": many(MAX_TARGETS + 1, &target)}));
    assert!(faults(&text)[0].contains("more than 256 targets"));
    let text = json!({"rules": [
        {"type": "a", "to": many(MAX_TARGETS, &target)}, {"type": "b", "to": ["y"]},
    ]});
    assert!(faults(&text.to_string())[0].contains("more than 256 different targets"));

    let regex = |n: usize| json!({"type": format!("/a{n}/"), "to": ["x"]});
    let text = json!({"rules": many(MAX_REGEXES + 1, &regex)}).to_string();
    assert!(faults(&text)[0].contains("more than 256 regexes"));
    let text = one(json!({"type": format!("/{}/", "a".repeat(2_000)), "to": ["x"]}));
    assert!(faults(&text)[0].contains("at most 1024 bytes"));
    let text = one(json!({"type": "/[a-z]{1000}{1000}/", "to": ["x"]}));
    assert!(faults(&text)[0].contains("not a usable regex"));

    // As many faults as fit in a file are found in no time.
    let text = format!("{{\"rules\": [{}1]}}", "1,".repeat(MAX_RULES - 1));
    assert_eq!(faults(&text).len(), MAX_PROBLEMS);
    let payload = (0..60_000).map(|n| format!("\"/{n}\":1e999")).collect::<Vec<_>>().join(",");
    let rule =
        format!("{{\"type\": \"a\", \"to\": [\"x\"], \"when\": {{\"payload\": {{{payload}}}}}}}");
    let text = format!("{{\"rules\": [{rule}]}}");
    assert!(text.len() < MAX_FILE_LEN);
    assert_eq!(faults(&text).len(), MAX_PROBLEMS);
}

#[test]
fn a_file_is_named_in_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.json");
    let error = Rules::load(&path).unwrap_err();
    assert!(matches!(error, RulesError::Read { .. }), "{error}");
    std::fs::write(&path, r#"{"rules": [{"type": "a", "to": [""]}]}"#).unwrap();
    let error = Rules::load(&path).unwrap_err().to_string();
    assert!(error.ends_with("between dots"), "{error}");
    assert!(error.contains("rules.json:1:33: rules[0].to[0]: "), "{error}");
    // Reading stops in the middle of a letter.
    std::fs::write(&path, "é".repeat(MAX_FILE_LEN)).unwrap();
    let error = Rules::load(&path).unwrap_err().to_string();
    assert!(error.ends_with("rules.json:1:1: the file is longer than 1048576 bytes"), "{error}");
    std::fs::write(&path, b"\xff").unwrap();
    assert!(Rules::load(&path).is_err());
    assert!(Rules::load(dir.path()).unwrap_err().to_string().contains("not a regular file"));
}

/// A rule as the model sees it: in the words of the documentation.
#[derive(Clone, Debug)]
struct Wanted {
    pattern: &'static str,
    source: Option<&'static str>,
    least: Option<u8>,
    tier: Option<u8>,
    to: Vec<&'static str>,
    priority: Option<(bool, u8)>,
    enabled: bool,
    order: i64,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let some = prop::sample::select::<&'static str>;
    (
        some(vec!["a", "b", "a.b", "a.*", "*", ">", "a.>", "*.b", "/a.*/", "/a|b/"]),
        prop::option::of(some(vec!["s", "t", "/s|t/", "/.*t/"])),
        prop::option::of(0_u8..10),
        prop::option::of(0_u8..3),
        prop::collection::vec(some(vec!["x", "y", "z", "agent:x"]), 1..4),
        prop::option::of((any::<bool>(), 0_u8..10)),
        prop::bool::weighted(0.8),
        -2_i64..3,
    )
        .prop_map(|(pattern, source, least, tier, to, priority, enabled, order)| Wanted {
            pattern,
            source,
            least,
            tier,
            to,
            priority,
            enabled,
            order,
        })
}

impl Wanted {
    fn json(&self, index: usize) -> Value {
        let mut when = json!({});
        if let Some(source) = self.source {
            when["source"] = json!(source);
        }
        if let Some(least) = self.least {
            when["priority_at_least"] = json!(least);
        }
        if let Some(tier) = self.tier {
            when["payload"] = json!({ "/tier": tier });
        }
        let mut rule = json!({
            "name": index.to_string(), "type": self.pattern, "when": when, "to": self.to,
            "enabled": self.enabled, "order": self.order,
        });
        if let Some((set, priority)) = self.priority {
            rule[if set { "priority" } else { "raise_to" }] = json!(priority);
        }
        rule
    }

    fn wants(&self, event: &Event, tier: Option<u8>) -> bool {
        let whole = |regex: &str, text: &str| Pattern::regex(regex).unwrap().matches(text);
        let regex = |text: &'static str| text.strip_prefix('/')?.strip_suffix('/');
        let ty = event.ty().as_str();
        let type_fits = match regex(self.pattern) {
            Some(pattern) => whole(pattern, ty),
            None => Pattern::parse(self.pattern).unwrap().matches(ty),
        };
        let source_fits = self.source.is_none_or(|source| match regex(source) {
            Some(source) => whole(source, event.source()),
            None => source == event.source(),
        });
        self.enabled
            && type_fits
            && source_fits
            && self.least.is_none_or(|least| event.priority().get() >= least)
            && self.tier.is_none_or(|wanted| tier == Some(wanted))
    }
}

proptest! {
    /// Rules do what a reader of the file would do with pencil and paper.
    #[test]
    fn rules_agree_with_a_naive_reading(
        wanted in prop::collection::vec(wanted(), 0..12),
        ty in prop::sample::select(vec!["a", "b", "a.b", "a.b.c", "c"]),
        source in prop::sample::select(vec!["s", "t", "st", ""]),
        priority in 0_u8..10,
        tier in prop::option::of(0_u8..3),
    ) {
        let json: Vec<Value> = wanted.iter().enumerate().map(|(n, rule)| rule.json(n)).collect();
        let rules = rules(&json!({ "rules": json }));
        let payload = match tier {
            Some(tier) => Payload::msgpack(&json!({ "tier": tier })).unwrap(),
            None => "none".into(),
        };
        let event = Event::new(EventType::new(ty).unwrap(), payload)
            .with_source(source)
            .with_priority(Priority::new(priority).unwrap());

        let mut in_order: Vec<(usize, &Wanted)> = wanted.iter().enumerate().collect();
        in_order.sort_by_key(|(index, rule)| (rule.order, *index));
        let mut expected: Vec<(String, String, u8)> = Vec::new();
        for (index, rule) in in_order {
            for to in rule.to.iter().filter(|_| rule.wants(&event, tier)) {
                let priority = match rule.priority {
                    None => priority,
                    Some((true, set)) => set,
                    Some((false, least)) => priority.max(least),
                };
                if !expected.iter().any(|(_, other, _)| other == to) {
                    expected.push((index.to_string(), (*to).to_owned(), priority));
                }
            }
        }
        let routed: Vec<_> = rules
            .routed(&event)
            .iter()
            .map(|r| (r.rule.to_owned(), r.target.to_string(), r.priority.get()))
            .collect();
        prop_assert_eq!(&routed, &expected);
        prop_assert_eq!(rules.copies(&event).len(), expected.len());
    }

    /// Whatever stands in a file, reading it ends, and a problem has a place in it.
    #[test]
    fn any_text_is_rules_or_problems(cut in 0_usize..400, put in "[\\[\\]{}\",:a-z0-9/\\n ]{0,6}") {
        let whole = json!({
            "version": 1, "routing": { "a.*": ["x", "agent:y"] },
            "rules": [{ "type": "/a/", "to": ["z"], "when": { "payload": { "/a": [1], "/b": 2 } } }]
        });
        let mut text = serde_json::to_string_pretty(&whole).unwrap();
        let cut = cut.min(text.len());
        text.replace_range(cut..(cut + 3).min(text.len()), &put);
        if let Err(RulesError::Invalid { problems, .. }) = text.parse::<Rules>() {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let lines = text.split('\n').count();
                prop_assert!((1..=lines).contains(&problem.line), "{problem} in\n{text}");
                prop_assert!(problem.column >= 1);
            }
        }
    }
}
