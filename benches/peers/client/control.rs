//! When a load is measured and when it ends: by the clock, or as somebody else says.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

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
    times: Option<(Instant, Instant)>,
}

impl Control {
    /// Measured for so many seconds, after a warm-up of a tenth of them.
    pub(crate) fn timed(seconds: f64) -> Self {
        let from = Instant::now() + Duration::from_secs_f64(seconds / 10.0);
        Self {
            phase: AtomicU8::new(1),
            times: Some((from, from + Duration::from_secs_f64(seconds))),
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

    pub(super) fn phase(&self, now: Instant) -> Phase {
        match (self.times, self.phase.load(Ordering::Acquire)) {
            (Some((from, _)), _) if now < from => Phase::Warm,
            (Some((_, to)), _) if now < to => Phase::Measure,
            (Some(_), _) => Phase::Stop,
            (None, 0) => Phase::Warm,
            (None, 1) => Phase::Measure,
            (None, _) => Phase::Stop,
        }
    }
}
