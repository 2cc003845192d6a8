//! A bound on bytes a second, shared by everybody who sends seeds.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A token bucket of one second's worth at most.
#[derive(Debug)]
pub(super) struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When everything that was allowed so far will have been sent.
    free_at: Instant,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                free_at: Instant::now(),
            }),
        }
    }

    /// Waits until `bytes` may be sent at `rate` bytes a second; 0 is without bound.
    pub(super) async fn pass(&self, bytes: u64, rate: u64) {
        if rate == 0 {
            return;
        }
        let wait = {
            let mut state = self.state.lock();
            let now = Instant::now();
            let from = state.free_at.max(now);
            state.free_at = from + Duration::from_secs_f64(bytes as f64 / rate as f64);
            from.saturating_duration_since(now)
        };
        tokio::time::sleep(wait).await;
    }
}
