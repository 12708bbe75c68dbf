//! The commands, one file each.

pub(crate) mod load_test;
