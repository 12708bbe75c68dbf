//! How much memory the process has.

/// Resident memory, now and at its peak, in bytes. Zero where the operating
/// system does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub(super) start: u64,
    pub(super) peak: u64,
}

impl Memory {
    pub(super) fn start() -> Self {
        let now = resident();
        Self { start: now, peak: now }
    }

    /// Looks again.
    pub(super) fn sample(&mut self) {
        self.peak = self.peak.max(resident()).max(kernel_peak().unwrap_or(0));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_not_below_the_start() {
        let mut memory = Memory::start();
        memory.sample();
        assert!(memory.peak >= memory.start);
        assert!(memory.start > 0 || !cfg!(target_os = "linux"));
    }
}
