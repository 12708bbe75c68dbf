//! The router against the naive model.
