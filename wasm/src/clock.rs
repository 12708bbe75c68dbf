//! The clock of whoever calls: JavaScript's, and read only if the answer is needed.

use swarmbus_core::Moment;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(raw_module = "./clock.js")]
extern "C" {
    /// Milliseconds on some monotonic clock (`clock.ts`).
    fn now() -> f64;
}

/// `now`, for a [`Clock`](swarmbus_core::Clock).
pub(crate) fn read() -> Moment {
    moment(now())
}

/// From milliseconds; saturates at both ends.
pub(crate) fn moment(millis: f64) -> Moment {
    Moment::from_nanos((millis * 1e6) as u64)
}

/// In milliseconds.
pub(crate) fn millis(moment: Moment) -> f64 {
    moment.as_nanos() as f64 / 1e6
}
