//! One group of comparisons a file.

pub mod bus;
