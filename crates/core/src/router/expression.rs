//! [`Expression`]: a regex that matches from end to end.
//!
//! Without the feature `regex` the type is there and nobody makes one, so that the
//! router is written once.

#[cfg(feature = "regex")]
use regex::{Regex, RegexBuilder};

#[cfg(feature = "regex")]
#[derive(Clone, Debug)]
pub(super) struct Expression(Regex);

#[cfg(not(feature = "regex"))]
#[derive(Clone, Debug)]
pub(super) struct Expression;

#[cfg(feature = "regex")]
impl Expression {
    pub(super) fn new(text: &str) -> Result<Self, regex::Error> {
        // It must be a regex by itself: `a)|(b` would close the group that
        // anchors it.
        compile(text)?;
        compile(&format!("{ANCHOR_START}{text}{ANCHOR_END}")).map(Self)
    }

    pub(super) fn is_match(&self, ty: &str) -> bool {
        self.0.is_match(ty)
    }

    /// The text it was made from.
    pub(super) fn as_str(&self) -> &str {
        let text = self.0.as_str();
        &text[ANCHOR_START.len()..text.len() - ANCHOR_END.len()]
    }
}

#[cfg(not(feature = "regex"))]
impl Expression {
    pub(super) fn is_match(&self, _: &str) -> bool {
        false
    }

    pub(super) fn as_str(&self) -> &str {
        ""
    }
}

#[cfg(feature = "regex")]
const ANCHOR_START: &str = r"\A(?:";
#[cfg(feature = "regex")]
const ANCHOR_END: &str = r")\z";

#[cfg(feature = "regex")]
fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .size_limit(super::Pattern::MAX_REGEX_SIZE)
        .dfa_size_limit(super::Pattern::MAX_REGEX_SIZE)
        .build()
}
