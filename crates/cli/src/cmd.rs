//! The commands, one file each.

pub(crate) mod dlq;
pub(crate) mod load_test;
pub(crate) mod replay;
mod store;
mod when;

use std::{
    fmt::Display,
    io::{self, Write},
};

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

/// Says something on standard error. Nobody there to read it is no error,
/// where `eprintln!` would panic.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes to standard output. A reader that leaves early is no error.
pub(crate) fn print(text: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// An empty table, as wide as the terminal if there is one.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}
