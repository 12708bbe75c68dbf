//! The commands, one file each.

pub(crate) mod load_test;

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Says something on standard error. Nobody there to read it is no error,
/// where `eprintln!` would panic.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
