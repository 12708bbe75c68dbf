//! The limits that every reader and writer of frames obeys.

/// Deepest nesting of a payload that is decoded.
pub const MAX_DEPTH: usize = 128;
