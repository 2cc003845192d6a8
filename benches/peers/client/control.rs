//! When a load is measured and when it ends: by the clock, or as somebody else says.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// What a load is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Run, unmeasured.
    Warm,
    /// Run, measured.
    Measure,
    /// End.
    Stop,
}

/// Says so.
pub(crate) struct Control {
    phase: AtomicU8,
    /// How long it is measured, and how long it runs before that.
    times: Option<(Duration, Duration)>,
}

impl Control {
    /// Measured for so many seconds, after a warm-up of a tenth of them.
    pub(crate) fn timed(seconds: f64) -> Self {
        let warm = Duration::from_secs_f64(seconds / 10.0);
        Self {
            phase: AtomicU8::new(0),
            times: Some((Duration::from_secs_f64(seconds), warm)),
        }
    }

    /// Measured from [`Self::measure`] to [`Self::stop`].
    pub(crate) fn gated() -> Self {
        Self {
            phase: AtomicU8::new(0),
            times: None,
        }
    }

    pub(crate) fn measure(&self) {
        self.phase.store(1, Ordering::Release);
    }

    pub(crate) fn stop(&self) {
        self.phase.store(2, Ordering::Release);
    }

    /// What a load is to do that has run for so long, connecting apart.
    pub(super) fn phase(&self, running: Duration) -> Phase {
        let Some((seconds, warm)) = self.times else {
            return match self.phase.load(Ordering::Acquire) {
                0 => Phase::Warm,
                1 => Phase::Measure,
                _ => Phase::Stop,
            };
        };
        match running {
            early if early < warm => Phase::Warm,
            late if late < warm + seconds => Phase::Measure,
            _ => Phase::Stop,
        }
    }
}
