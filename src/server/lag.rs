//! When log positions came to be: turns a follower's applied LSN into the age of the oldest record
//! that it has not applied.

use std::collections::VecDeque;
use std::time::Duration;

use crate::replication::Lsn;

/// More entries than this are thinned out: precision falls for what is old, memory stays bounded.
const MAX_ENTRIES: usize = 4096;
/// Frames sealed within this time share an entry.
const GRAIN: Duration = Duration::from_millis(20);

/// A clock over the log: pairs of a position and the time at which the log grew past it.
#[derive(Debug, Default)]
pub(super) struct LagClock {
    /// Position before the record, and the monotonic time of its append; both ascend.
    entries: VecDeque<(Lsn, Duration)>,
}

impl LagClock {
    /// Records after `start` were appended at `now`.
    pub(super) fn note(&mut self, start: Lsn, now: Duration) {
        if let Some((_, last)) = self.entries.back()
            && now.saturating_sub(*last) < GRAIN
        {
            return;
        }
        self.entries.push_back((start, now));
        if self.entries.len() > MAX_ENTRIES {
            let mut index = 0;
            self.entries.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    /// Nobody is behind `lsn` any more.
    pub(super) fn forget_below(&mut self, lsn: Lsn) {
        while self.entries.len() > 1 && self.entries.get(1).is_some_and(|(start, _)| *start <= lsn)
        {
            self.entries.pop_front();
        }
    }

    /// Forgets everything: the log was cut, or somebody else leads.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The age of the oldest record after `applied`, if the log ends at `end`.
    pub(super) fn age(&self, applied: Lsn, end: Lsn, now: Duration) -> Duration {
        if applied >= end {
            return Duration::ZERO;
        }
        let after = self.entries.partition_point(|(start, _)| *start <= applied);
        let entry = self.entries.get(after.saturating_sub(1));
        entry.map_or(Duration::ZERO, |(_, at)| now.saturating_sub(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_oldest_record_that_is_missing() {
        let seconds = Duration::from_secs;
        let mut clock = LagClock::default();
        clock.note(Lsn(0), seconds(10));
        clock.note(Lsn(100), seconds(20));
        clock.note(Lsn(200), seconds(30));
        assert_eq!(clock.age(Lsn(300), Lsn(300), seconds(99)), Duration::ZERO);
        assert_eq!(clock.age(Lsn(200), Lsn(300), seconds(31)), seconds(1));
        assert_eq!(clock.age(Lsn(150), Lsn(300), seconds(31)), seconds(11));
        assert_eq!(clock.age(Lsn(0), Lsn(300), seconds(31)), seconds(21));
        clock.forget_below(Lsn(150));
        assert_eq!(clock.age(Lsn(150), Lsn(300), seconds(31)), seconds(11));
    }

    #[test]
    fn memory_is_bounded() {
        let mut clock = LagClock::default();
        for i in 0..100_000 {
            clock.note(Lsn(i), Duration::from_secs(i));
        }
        assert!(clock.entries.len() <= MAX_ENTRIES);
        assert_eq!(
            clock
                .age(Lsn(0), Lsn(100_000), Duration::from_secs(100_000))
                .as_secs(),
            100_000
        );
    }
}
