//! Comparisons of swarmbus with its rivals.
//!
//! Ours and the rival take turns within one process run, several rounds each,
//! and the ratio is taken round by round: the speed of a machine drifts, a
//! ratio within a round hardly does. Every case checks what it computed.

pub mod compare;
pub mod harness;
