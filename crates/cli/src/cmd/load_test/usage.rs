//! What the process uses: memory and time of the processor.

use std::time::Duration;

/// Resident memory, now and at its peak, in bytes, and what the processor has
/// worked. Zero where the operating system does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) rss_start: u64,
    pub(super) rss_peak: u64,
    /// Of all threads and cores together, since the start.
    pub(super) processor: Duration,
    before: Duration,
}

impl Usage {
    pub(super) fn start() -> Self {
        let (now, before) = (resident(), processor());
        Self { rss_start: now, rss_peak: now, processor: Duration::ZERO, before }
    }

    /// Looks again.
    pub(super) fn sample(&mut self) {
        self.rss_peak = self.rss_peak.max(resident()).max(kernel_peak().unwrap_or(0));
        self.processor = processor().saturating_sub(self.before);
    }
}

fn resident() -> u64 {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64)
}

/// Linux remembers the peak, so that none is missed between two samples.
fn kernel_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

#[cfg(unix)]
fn processor() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.try_into().unwrap_or_default()
}

#[cfg(not(unix))]
fn processor() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_not_below_the_start() {
        let mut usage = Usage::start();
        usage.sample();
        assert!(usage.rss_peak >= usage.rss_start);
        assert!(usage.rss_start > 0 || !cfg!(target_os = "linux"));
    }

    #[test]
    fn work_takes_time_of_the_processor() {
        let mut usage = Usage::start();
        let mut n = 0_u64;
        while usage.processor < Duration::from_millis(1) && (cfg!(unix) || n < 1_000) {
            n = std::hint::black_box(n + 1);
            usage.sample();
        }
        assert!(usage.processor > Duration::ZERO || !cfg!(unix));
    }
}
