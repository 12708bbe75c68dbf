//! The event log of swarmbus: what a bus accepted, kept in SQLite, found again
//! after a crash, and replayed.
