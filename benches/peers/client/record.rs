//! What a load has measured so far.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::load::{Latency, Outcome, histogram};

pub(super) struct Record {
    since: Option<Instant>,
    time: Duration,
    operations: u64,
    reads: Histogram<u64>,
    writes: Histogram<u64>,
}

impl Record {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            since: None,
            time: Duration::ZERO,
            operations: 0,
            reads: histogram()?,
            writes: histogram()?,
        })
    }

    /// From now on it counts.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// A batch was answered.
    pub(super) fn done(&mut self, reads: bool, operations: u32, took: Duration) {
        if self.since.is_some() {
            self.operations += u64::from(operations);
            let kind = if reads {
                &mut self.reads
            } else {
                &mut self.writes
            };
            kind.saturating_record(took.as_micros() as u64);
        }
    }

    /// A batch was due and was never sent: which kind it would have been is open.
    pub(super) fn late(&mut self, waited: Duration) {
        for kind in [&mut self.reads, &mut self.writes] {
            kind.saturating_record(waited.as_micros() as u64);
        }
    }

    pub(super) fn end(&mut self, now: Instant) {
        self.time = self.since.map_or(Duration::ZERO, |since| now - since);
    }

    pub(super) fn outcome(&self, misses: u64) -> Result<Outcome> {
        ensure!(
            misses * 100 <= self.reads.len(),
            "{misses} reads found nothing: the keys are not there"
        );
        Ok(Outcome {
            rate: self.operations as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE),
            writes: Latency::of(&self.writes),
            reads: Latency::of(&self.reads),
        })
    }
}
