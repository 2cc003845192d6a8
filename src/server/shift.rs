//! Work of the upkeep beside clients, with the pauses that they need. It must not know what the work is.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::inner::Inner;
use super::node::Node;
use crate::store::Store;

/// How much waits to be flushed is looked at so often.
const PRESSURE_FOR: Duration = Duration::from_millis(10);

/// Work beside clients, with pauses.
pub(super) struct Shift<'a> {
    node: &'a Node,
    stop: &'a CancellationToken,
    since: Instant,
    /// The share that this work must have, and until when that is so.
    least: f64,
    until: Instant,
}

impl<'a> Shift<'a> {
    pub(super) fn new(node: &'a Node, stop: &'a CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            node,
            stop,
            since: now,
            least: 0.0,
            until: now,
        }
    }

    /// Pauses as clients need it, if so much has been done since the last pause.
    pub(super) fn breathe(&mut self, after: Duration) {
        let now = Instant::now();
        let worked = now - self.since;
        if worked < after {
            return;
        }
        if now >= self.until {
            self.until = now + PRESSURE_FOR;
            let share = |inner: &mut Inner| inner.store.as_ref().map_or(1.0, Store::pressure);
            self.least = self.node.with(share);
        }
        let least = if self.stop.is_cancelled() {
            1.0
        } else {
            self.least
        };
        let pause = self.node.courtesy.pause(worked, least);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        self.since = Instant::now();
    }
}
