//! The bus as its users meet it.

mod backpressure;
mod commands;
mod delivery;
mod failures;
mod observation;
mod shutdown;
