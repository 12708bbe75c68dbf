//! One group of comparisons a file.

pub mod breaker;
pub mod bus;
pub mod codec;
pub mod pipeline;
pub mod redis;
pub mod router;
mod script;
pub mod state;
pub mod store;

/// Numbers below `below` in an order that no predictor learns, and the same
/// on every run and for every side.
fn random_order(len: usize, below: usize) -> Vec<u32> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as u32
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All checks of results, in a moment: nothing is measured.
    #[test]
    fn every_side_of_every_case_does_its_work() {
        let cases = [
            bus::cases(),
            breaker::cases(),
            router::cases(),
            codec::cases(),
            pipeline::cases(),
            redis::cases(),
            state::cases(),
            store::cases(),
        ];
        for mut case in cases.into_iter().flatten() {
            for side in &mut case.sides {
                assert!(!(side.run)(1_000).is_zero(), "{} of {}", side.name, case.name);
            }
        }
    }
}
