//! Routing rules: which events go to whom besides those who subscribed to
//! them, read from a JSON file.
//!
//! ```
//! use swarmbus::{Bus, Event, rules::Rules};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rules: Rules = r#"{
//!     "version": 1,
//!     "routing": {
//!         "mcp.server.down": ["alert", "recovery", "log"],
//!         "backup.*": ["log"]
//!     },
//!     "rules": [{
//!         "name": "page somebody",
//!         "type": "/error\\.(critical|fatal)/",
//!         "when": {
//!             "source": "/prod-.*/",
//!             "attributes": { "region": "eu" },
//!             "priority_at_least": "high",
//!             "payload": { "/service/tier": 1 }
//!         },
//!         "to": ["agent:ops", "swarm:recovery"],
//!         "raise_to": "critical"
//!     }]
//! }"#
//! .parse()?;
//!
//! let bus = Bus::builder().build()?;
//! let _alert = bus.subscribe("alert").handle(|event: &Event| {
//!     assert_eq!(event.attribute("routedtype"), Some("mcp.server.down"));
//!     assert_eq!(event.text(), Some("files"));
//! })?;
//! let _routing = bus.use_rules(rules)?;
//! bus.publish(Event::of("mcp.server.down", "files")).await?;
//! # assert_eq!(bus.drain(std::time::Duration::from_secs(5)).await, 0);
//! # assert_eq!(_alert.outcomes().delivered, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # The file
//!
//! UTF-8 JSON, an object. Unknown fields are errors.
//!
//! | field | holds |
//! | --- | --- |
//! | `version` | `1`, which is the default |
//! | `routing` | the short form: an object from a type pattern to its targets |
//! | `rules` | the long form: an array of rules |
//! | `$schema`, `description` | text that is not read |
//!
//! | field of a rule | holds | default |
//! | --- | --- | --- |
//! | `type` | a pattern as in [`Bus::subscribe`](crate::Bus::subscribe) | must be there |
//! | `to` | one or more targets | must be there |
//! | `name` | up to 100 bytes, another for each rule | the pattern |
//! | `when` | conditions; all of them must hold | none |
//! | `priority` | what the copies get: `low`, `normal`, `high`, `critical`, or 0 to 9 | the event's |
//! | `raise_to` | the same, unless the event's is higher | |
//! | `enabled` | `false` switches the rule off; it is still checked | `true` |
//! | `order` | a whole number, lower first; equals as in the file, `routing` before `rules` | 0 |
//! | `description` | text that is not read | |
//!
//! | condition | holds if |
//! | --- | --- |
//! | `source`, `session` | the event's is this text |
//! | `attributes` | all attributes named here have these texts |
//! | `priority_at_least` | the event's is this high |
//! | `payload` | the payload is JSON or MessagePack and has these values at these [JSON pointers](https://www.rfc-editor.org/rfc/rfc6901); a value is a text, number, `true`, `false` or `null` |
//!
//! A text between slashes is a regex that must match from end to end, in a
//! pattern and in a condition alike.
//!
//! # Targets
//!
//! | written | the copy's type | its [`Target`](crate::Target) |
//! | --- | --- | --- |
//! | `alert` | `alert` | as the event's |
//! | `agent:ops` | `agent.ops` | that agent |
//! | `swarm:recovery` | `swarm.recovery` | that swarm |
//!
//! Whoever wants to be a target subscribes to that type.
//!
//! # What becomes of an event
//!
//! The event itself goes to its subscribers unchanged. Each different target
//! gets one copy, whichever and however many rules name it: the first rule in
//! order decides its priority. A copy has the event's payload, source and
//! attributes; the attribute `routedtype` is the event's type, its causation
//! id is the event's id, and its last hop is `rule:` and the rule's name. Its
//! id is made of the event's id and the target, so that an event which is
//! handled twice does not look like two.
//!
//! # What ends
//!
//! - A copy is not routed again: one event makes as many copies as there are
//!   different targets in the file, [`MAX_TARGETS`] at most, and those make none.
//! - What a handler publishes because of a copy, with
//!   [`Event::caused_by`](crate::Event::caused_by), is routed, but by no rule
//!   that is on its path already.
//! - Copies share the event's budget, and each costs a hop: those that it does not
//!   pay for are not made.
//! - A replayed event is not routed: its copies are in the log beside it.

mod condition;
mod error;
mod read;
mod routing;
mod target;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::HashSet,
    fs::File,
    io::Read,
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ahash::RandomState;
use swarmbus_core::{
    Event, Priority, Str,
    router::{Pattern, Router},
};

use self::condition::{Condition, Payload};
pub use self::{
    error::{RuleFault, RuleProblem, RulesError},
    routing::Routing,
    target::RuleTarget,
    watch::{RulesState, RulesWatch, WatchRulesError, WatcherState},
};

/// Longest file in bytes: 1 MiB.
pub const MAX_FILE_LEN: usize = 1 << 20;
/// Most rules in a file, both forms together, switched off or not.
pub const MAX_RULES: usize = 1_000;
/// Most different targets in a file, and so most copies of one event.
pub const MAX_TARGETS: usize = 256;
/// Most regexes in a file. Each may take
/// [`Pattern::MAX_REGEX_SIZE`](crate::core::router::Pattern::MAX_REGEX_SIZE) bytes.
pub const MAX_REGEXES: usize = 256;
/// Most problems that one [`RulesError`] lists.
pub const MAX_PROBLEMS: usize = 100;

/// The attribute of a copy that holds the type of the event it is a copy of.
pub const ROUTED_TYPE: &str = "routedtype";

/// What the last hop of a copy begins with.
const HOP: &str = "rule:";

/// A checked set of routing rules. Clones share it; it never changes.
///
/// See the [module](self) for the file and its meaning.
#[derive(Clone, Debug)]
pub struct Rules(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    /// By their order.
    rules: Vec<Rule>,
    /// Indices of `rules`, inserted by their order.
    by_type: Router<usize>,
}

/// One rule that is switched on.
#[derive(Debug)]
struct Rule {
    name: Str,
    hop: Str,
    pattern: Pattern,
    when: Condition,
    to: Vec<RuleTarget>,
    priority: SetPriority,
    made: AtomicU64,
    cut: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetPriority {
    Keep,
    To(Priority),
    AtLeast(Priority),
}

/// Where one copy of an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed<'a> {
    /// The name of the rule that says so.
    pub rule: &'a str,
    /// Whom the copy is for.
    pub target: &'a RuleTarget,
    /// Its priority.
    pub priority: Priority,
}

/// What one rule has done since it is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleReport {
    /// Its name.
    pub name: Str,
    /// Copies that it made.
    pub made: u64,
    /// Events that it would have copied, had they not come through it before,
    /// and copies that the event's budget did not pay for.
    pub cut: u64,
}

impl Rules {
    /// Reads a file.
    ///
    /// Blocks: from async code, better call it before the bus runs, or in
    /// `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is longer than [`MAX_FILE_LEN`]; else
    /// every problem of its content, with line, column and field.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, RulesError> {
        let path = path.as_ref();
        read_file(path).and_then(|text| parse(&text)).map_err(|fault| fault.of_file(path))
    }

    /// Where copies of this event go: what a bus that uses these rules does,
    /// without doing it.
    ///
    /// Exact types and wildcards are found by hash; each regex costs a search.
    pub fn routed(&self, event: &Event) -> Vec<Routed<'_>> {
        self.decide(event, |_| {}).into_iter().map(|(_, routed)| routed).collect()
    }

    /// How many rules are switched on.
    pub fn len(&self) -> usize {
        self.0.rules.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.rules.is_empty()
    }

    /// What each rule has done, in their order.
    pub fn report(&self) -> Vec<RuleReport> {
        let report = |rule: &Rule| RuleReport {
            name: rule.name.clone(),
            made: rule.made.load(Relaxed),
            cut: rule.cut.load(Relaxed),
        };
        self.0.rules.iter().map(report).collect()
    }

    fn from_rules(mut rules: Vec<(i64, Rule)>) -> Self {
        rules.sort_by_key(|(order, _)| *order);
        let mut table = Table::default();
        for (index, (_, rule)) in rules.into_iter().enumerate() {
            table.by_type.insert(&rule.pattern, index);
            table.rules.push(rule);
        }
        Self(Arc::new(table))
    }

    fn patterns(&self) -> impl ExactSizeIterator<Item = &Pattern> {
        self.0.rules.iter().map(|rule| &rule.pattern)
    }

    fn decide<'a>(
        &'a self,
        event: &Event,
        mut cut: impl FnMut(&'a Rule),
    ) -> Vec<(&'a Rule, Routed<'a>)> {
        let mut found = Vec::new();
        if event.is_replayed() || event.hops().last().is_some_and(|hop| hop.starts_with(HOP)) {
            return found;
        }
        let mut matching = Vec::new();
        self.0.by_type.for_each_match(event.ty().as_str(), |index| matching.push(*index));
        let payload = Payload::of(event);
        let mut seen = HashSet::with_hasher(RandomState::new());
        for rule in matching.into_iter().map(|index| &self.0.rules[index]) {
            if !rule.when.holds(event, &payload) {
                continue;
            }
            if event.hops().contains(&rule.hop) {
                cut(rule);
                continue;
            }
            let priority = rule.priority.of(event.priority());
            let new = rule.to.iter().filter(|target| seen.insert(*target));
            found.extend(new.map(|target| (rule, Routed { rule: &rule.name, target, priority })));
        }
        found
    }

    /// The copies of an event, ready to be published.
    fn copies(&self, event: &Event) -> Vec<Event> {
        let count_cut = |rule: &Rule| {
            rule.cut.fetch_add(1, Relaxed);
        };
        let decided = self.decide(event, count_cut);
        let shares = event.split_budget(decided.len());
        let mut copies = Vec::new();
        for ((rule, routed), share) in decided.into_iter().zip(shares) {
            match routed.target.copy(&share, routed.priority, &rule.hop) {
                Some(copy) => {
                    rule.made.fetch_add(1, Relaxed);
                    copies.push(copy);
                }
                None => count_cut(rule),
            }
        }
        copies
    }
}

impl FromStr for Rules {
    type Err = RulesError;

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// As [`Rules::load`].
    fn from_str(text: &str) -> Result<Self, RulesError> {
        parse(text)
    }
}

impl Rule {
    fn new(name: Str, pattern: Pattern, to: Vec<RuleTarget>) -> Self {
        let hop = Str::from(format!("{HOP}{name}"));
        let (made, cut) = (AtomicU64::new(0), AtomicU64::new(0));
        let (when, priority) = (Condition::default(), SetPriority::Keep);
        Self { name, hop, pattern, when, to, priority, made, cut }
    }
}

impl SetPriority {
    fn of(self, event: Priority) -> Priority {
        match self {
            Self::Keep => event,
            Self::To(priority) => priority,
            Self::AtLeast(priority) => priority.max(event),
        }
    }
}

/// Reads the bytes of a file, and no more of them than may be there.
fn read_file(path: &Path) -> Result<String, RulesError> {
    let read = |source| RulesError::Read { path: path.to_owned(), source };
    // A pipe would make the reader wait for ever.
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(read(std::io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(read)?;
    file.take(MAX_FILE_LEN as u64 + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() > MAX_FILE_LEN {
        // What was read may end in the middle of a letter.
        let path = Some(path.to_owned());
        return Err(RulesError::Invalid { path, problems: vec![RuleProblem::too_long()] });
    }
    String::from_utf8(bytes).map_err(|error| {
        read(std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error()))
    })
}

fn parse(text: &str) -> Result<Rules, RulesError> {
    match read::rules(text) {
        Ok(rules) => Ok(Rules::from_rules(rules)),
        Err(problems) => Err(RulesError::Invalid { path: None, problems }),
    }
}
