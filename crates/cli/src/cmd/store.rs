//! What commands that read an event log share.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use serde_json::value::RawValue;
use swarmbus::{
    Event,
    core::{codec::json, router::Pattern},
};

/// The event log to work on.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArg {
    /// The event log: the SQLite file that a program gives its bus as journal.
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
}

impl StoreArg {
    /// The file, which is there.
    pub(crate) fn path(&self) -> Result<&Path> {
        // SQLite's own words are "unable to open database file" and "disk I/O
        // error", and a pipe it waits for.
        let name = self.store.display();
        match self.store.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "there is no file {name}: --store names the event log of a program that uses \
                 swarmbus"
            ),
            Ok(what) if what.is_dir() => {
                bail!("{name} is a folder: --store names the file in it that is the event log")
            }
            Ok(what) if !what.is_file() => {
                bail!("{name} is no file: --store names the event log of a program")
            }
            Ok(_) | Err(_) => Ok(&self.store),
        }
    }
}

/// Reads a type, a type with wildcards, or a regex between slashes.
pub(crate) fn pattern(text: &str) -> Result<Pattern, String> {
    let regex = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    regex.map_or_else(|| Pattern::parse(text), Pattern::regex).map_err(|error| error.to_string())
}

/// An event as `CloudEvents` JSON; `None` if it cannot be written so.
pub(crate) fn json_of(event: &Event) -> Option<Box<RawValue>> {
    let text = String::from_utf8(json::to_json(event).ok()?).ok()?;
    RawValue::from_string(text).ok()
}

/// Text of others, fit for a terminal and a line of a table.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
