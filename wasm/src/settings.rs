//! Settings of a breaker as a list of numbers, and what is wrong with them as one.
//!
//! Every setting has its place in the list (`breaker/settings.ts` fills it); NaN stands
//! for core's default, and a negative number for "off".

use swarmbus_core::breaker::{Config, ConfigError, Window};

use crate::backoff::{duration, rule};

/// How many numbers there are.
const LEN: usize = 16;

/// Settings, checked by core. The error is a number of `PROBLEMS` in `settings.ts`.
pub(crate) fn breaker(numbers: &[f64]) -> Result<Config, u32> {
    let numbers: &[f64; LEN] = numbers.try_into().map_err(|_| OTHER)?;
    let &[
        consecutive,
        by,
        size,
        failure_rate,
        slow_after,
        slow_rate,
        minimum,
        growth,
        first,
        cap,
        jitter,
        rest @ ..,
    ] = numbers;
    let [probes, to_close, probe_timeout, count, seed] = rest;
    let mut builder = Config::builder();
    if let Some(failures) = given(consecutive) {
        builder = builder.consecutive_failures((failures >= 0.0).then_some(failures as u32));
    }
    if let Some(by) = given(by) {
        let mut window =
            if by < 1.0 { Window::calls(size as u32) } else { Window::time(duration(size)) };
        if let Some(rate) = given(failure_rate) {
            window = window.failure_rate(rate);
        }
        if let Some(after) = given(slow_after) {
            window = window.slow_calls(duration(after), slow_rate);
        }
        if let Some(calls) = given(minimum) {
            window = window.minimum_calls(calls as u32);
        }
        builder = builder.window(window);
    }
    if let Some(growth) = given(growth) {
        builder = builder.open_backoff(rule(growth as u32, first, cap, jitter as u32));
    }
    if let Some(probes) = given(probes) {
        builder = builder.probes(probes as u32);
    }
    if let Some(successes) = given(to_close) {
        builder = builder.successes_to_close(successes as u32);
    }
    if let Some(timeout) = given(probe_timeout) {
        builder = builder.probe_timeout((timeout >= 0.0).then(|| duration(timeout)));
    }
    if let Some(count) = given(count) {
        builder = builder.count_successes(count > 0.0);
    }
    if let Some(seed) = given(seed) {
        builder = builder.seed(seed as u64);
    }
    builder.build().map_err(|error| problem(&error))
}

fn given(number: f64) -> Option<f64> {
    (!number.is_nan()).then_some(number)
}

const OTHER: u32 = 11;

fn problem(error: &ConfigError) -> u32 {
    match error {
        ConfigError::Zero { setting: "consecutive_failures" } => 1,
        ConfigError::Zero { setting: "probes" } => 2,
        ConfigError::Zero { setting: "successes_to_close" } => 3,
        ConfigError::Zero { setting: "minimum_calls" } => 4,
        ConfigError::Rate { setting: "failure_rate", .. } => 5,
        ConfigError::Rate { setting: "slow_calls", .. } => 6,
        ConfigError::WindowCalls(_) => 7,
        ConfigError::WindowTime(_) => 8,
        ConfigError::MinimumCalls { .. } => 9,
        ConfigError::OpenTime => 10,
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[(usize, f64)]) -> Result<Config, u32> {
        let mut numbers = [f64::NAN; LEN];
        for (at, number) in changes {
            numbers[*at] = *number;
        }
        breaker(&numbers)
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(with(&[]).unwrap(), Config::default());
    }

    #[test]
    fn off_is_not_the_default() {
        let off = Config::builder().consecutive_failures(None).probe_timeout(None).build().unwrap();
        assert_eq!(with(&[(0, -1.0), (13, -1.0)]).unwrap(), off);
    }

    #[test]
    fn each_setting_has_its_place() {
        let window = Window::calls(20).failure_rate(0.25).minimum_calls(5);
        let window = window.slow_calls(duration(7.0), 0.75);
        let all = Config::builder()
            .consecutive_failures(9)
            .window(window)
            .open_backoff(rule(2, 3.0, 4.0, 50))
            .probes(6)
            .successes_to_close(8)
            .probe_timeout(duration(10.0))
            .count_successes(true)
            .seed(11)
            .build();
        let numbers =
            [9.0, 0.0, 20.0, 0.25, 7.0, 0.75, 5.0, 2.0, 3.0, 4.0, 50.0, 6.0, 8.0, 10.0, 1.0, 11.0];
        assert_eq!(breaker(&numbers).unwrap(), all.unwrap());
    }

    #[test]
    fn each_problem_has_its_number() {
        for (changes, number) in [
            (vec![(0, 0.0)], 1),
            (vec![(11, 0.0)], 2),
            (vec![(12, 0.0)], 3),
            (vec![(1, 0.0), (2, 5.0), (6, 0.0)], 4),
            (vec![(1, 0.0), (2, 5.0), (3, 2.0)], 5),
            (vec![(1, 0.0), (2, 5.0), (4, 5.0), (5, 2.0)], 6),
            (vec![(1, 0.0), (2, 1e6)], 7),
            (vec![(1, 1.0), (2, 1.0)], 8),
            (vec![(1, 0.0), (2, 5.0), (6, 6.0)], 9),
            (vec![(7, 0.0), (8, 0.0), (9, 0.0), (10, 0.0)], 10),
        ] {
            assert_eq!(with(&changes), Err(number), "{changes:?}");
        }
        assert_eq!(breaker(&[]), Err(OTHER));
    }
}
