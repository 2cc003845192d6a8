//! Where frames end that a leader's state holds and that are not committed: it can go back to none but the newest
//! one that is. It must not know how the state goes back.

use std::collections::VecDeque;

use super::inner::Tip;
use crate::replication::Lsn;

/// Ends of frames, in order.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    ends: VecDeque<Tip>,
}

impl Uncommitted {
    /// A reign begins, with the state at this end of a committed frame.
    pub(super) fn begin(&mut self, at: Tip) {
        self.ends.clear();
        self.ends.push_back(at);
    }

    /// The state holds one more frame.
    pub(super) fn push(&mut self, end: Tip) {
        self.ends.push_back(end);
    }

    /// Frames up to `lsn` are committed: the newest of them is kept.
    pub(super) fn committed(&mut self, lsn: Lsn) {
        while self.ends.get(1).is_some_and(|next| next.end <= lsn) {
            self.ends.pop_front();
        }
    }

    /// The end of the frame at `lsn`, if that is the newest committed one.
    pub(super) fn back_to(&self, lsn: Lsn) -> Option<Tip> {
        self.ends.front().copied().filter(|tip| tip.end == lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_committed_end_is_kept() {
        let tip = |end: u64| Tip {
            end: Lsn(end),
            chain: end as u32,
        };
        let mut uncommitted = Uncommitted::default();
        assert_eq!(uncommitted.back_to(Lsn(0)), None);
        uncommitted.begin(tip(10));
        assert_eq!(uncommitted.back_to(Lsn(10)), Some(tip(10)));
        for end in [20, 30, 40] {
            uncommitted.push(tip(end));
        }
        assert_eq!(uncommitted.back_to(Lsn(10)), Some(tip(10)));
        uncommitted.committed(Lsn(30));
        assert_eq!(uncommitted.back_to(Lsn(30)), Some(tip(30)));
        assert_eq!(uncommitted.back_to(Lsn(20)), None);
        uncommitted.committed(Lsn(40));
        assert_eq!(uncommitted.back_to(Lsn(40)), Some(tip(40)));
        uncommitted.begin(tip(7));
        assert_eq!(uncommitted.back_to(Lsn(40)), None);
    }
}
