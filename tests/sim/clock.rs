//! A machine's monotonic clock: it starts anywhere, and runs a little fast or slow.

use std::time::Duration;

/// Hundredths that a clock may be wrong by, in millionths.
pub(crate) const MOST_PPM: i64 = 10_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalClock {
    offset_us: u64,
    /// Millionths by which it runs fast.
    ppm: i64,
}

impl LocalClock {
    pub(crate) fn new(offset_us: u64, ppm: i64) -> Self {
        assert!(
            ppm.abs() <= MOST_PPM,
            "a clock is wrong by a hundredth at most"
        );
        Self { offset_us, ppm }
    }

    /// What it shows at a moment of the world.
    pub(crate) fn local(&self, now: Duration) -> Duration {
        let passed = now.as_micros() as i128 * i128::from(1_000_000 + self.ppm) / 1_000_000;
        Duration::from_micros(self.offset_us + passed as u64)
    }
}
