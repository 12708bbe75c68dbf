//! The commands, one file each.

pub(crate) mod dlq;
pub(crate) mod doctor;
pub(crate) mod load_test;
pub(crate) mod publish;
pub(crate) mod replay;
mod server;
mod store;
pub(crate) mod subscribe;
mod when;

use std::{
    fmt::Display,
    io::{self, Write},
    ops::ControlFlow,
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
    print_on(text).map(drop)
}

/// The same. Breaks off when the reader has left.
pub(crate) fn print_on(text: impl Display) -> Result<ControlFlow<()>> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// An empty table, as wide as the terminal if there is one, or as `COLUMNS`
/// says.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    if let Some(columns) = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()) {
        table.set_width(columns);
    }
    table
}
