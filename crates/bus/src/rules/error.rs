//! What can be wrong with a file of rules.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use swarmbus_core::{
    event::{AttributeError, EventTypeError},
    router::PatternError,
};

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The file cannot be read, or is not UTF-8.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The text is not a set of rules.
    #[error("{}", Listing(path.as_deref(), problems))]
    Invalid {
        /// The file, if it is one.
        path: Option<PathBuf>,
        /// What is wrong with it, from top to bottom: at least one, and at
        /// most [`MAX_PROBLEMS`](super::MAX_PROBLEMS). JSON that cannot be
        /// read ends the list, as nobody knows what follows it.
        problems: Vec<RuleProblem>,
    },
}

impl RulesError {
    pub(super) fn of_file(self, file: &Path) -> Self {
        match self {
            Self::Invalid { problems, .. } => {
                Self::Invalid { path: Some(file.to_owned()), problems }
            }
            read @ Self::Read { .. } => read,
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleProblem {
    /// The line of the value, from 1; for [`RuleFault::Json`] that of the place
    /// where reading stopped.
    pub line: usize,
    /// The byte in the line, from 1.
    pub column: usize,
    /// The field it is in: `rules[3].when.source`; empty for the whole file.
    pub field: String,
    /// What is wrong.
    pub fault: RuleFault,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleFault {
    /// It is not JSON, of another kind than it must be, unknown, or there
    /// twice. The text is the JSON reader's.
    #[error("{0}")]
    Json(String),
    /// It is longer than [`MAX_FILE_LEN`](super::MAX_FILE_LEN).
    #[error("the file is longer than {limit} bytes", limit = super::MAX_FILE_LEN)]
    TooLong,
    /// A version that this program does not know.
    #[error("version {0} is not known: this program reads version 1")]
    Version(u64),
    /// A field that must be there is not.
    #[error("a rule needs `{0}`")]
    Missing(&'static str),
    /// Not a pattern, or not a regex.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Neither a name nor a number of a priority.
    #[error("a priority is `low`, `normal`, `high`, `critical` or 0 to 9")]
    Priority,
    /// `priority` and `raise_to` in one rule.
    #[error("a rule has `priority` or `raise_to`, not both")]
    TwoPriorities,
    /// Not a target: the type of its copies would not be one.
    #[error("a target is a type, `agent:NAME` or `swarm:NAME`: {0}")]
    Target(EventTypeError),
    /// A rule without a target.
    #[error("a rule needs at least one target")]
    NoTarget,
    /// The name of a rule is empty or too long.
    #[error("a name is 1 to 100 bytes long")]
    Name,
    /// Two rules have one name.
    #[error("another rule has this name already: give this one a `name` of its own")]
    NameTaken,
    /// Not the name of an attribute.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// Not a JSON pointer.
    #[error("a JSON pointer is empty or begins with `/`")]
    Pointer,
    /// A list or an object, where one value was expected.
    #[error("a payload's value is compared with a text, a number, true, false or null")]
    NotScalar,
    /// More of something than there may be.
    #[error("there are more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

impl RuleProblem {
    /// Of the whole file.
    pub(super) fn too_long() -> Self {
        Self { line: 1, column: 1, field: String::new(), fault: RuleFault::TooLong }
    }
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}", self.fault)
    }
}

/// A line for each problem.
struct Listing<'a>(Option<&'a Path>, &'a [RuleProblem]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.1.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match self.0 {
                Some(path) => write!(f, "{}:{problem}", path.display())?,
                None => write!(f, "{problem}")?,
            }
        }
        Ok(())
    }
}
