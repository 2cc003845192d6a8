//! PURE: when leaders were heard to answer clients, epoch by epoch, and how long nobody was between two
//! of them. It does not matter who changed the register meanwhile, or whether the API server was there.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::replication::admin::{ReplicaStatus, Role};
use crate::replication::types::Epoch;

/// Epochs that are remembered: a report comes soon after a change of leader.
const REMEMBERED: usize = 8;

/// When leaders were heard.
#[derive(Clone, Debug, Default)]
pub struct Reigns(BTreeMap<Epoch, Heard>);

/// When the leader of an epoch said that it answers clients.
#[derive(Clone, Copy, Debug)]
struct Heard {
    first: Instant,
    last: Instant,
}

/// Whether a replica says that it answers clients as the leader.
pub fn answers(status: &ReplicaStatus) -> bool {
    status.role == Role::Leader && status.answers
}

impl Reigns {
    /// The leader of `epoch` answers clients at `now`.
    pub fn note(&mut self, epoch: Epoch, now: Instant) {
        let heard = self.0.entry(epoch).or_insert(Heard {
            first: now,
            last: now,
        });
        heard.last = heard.last.max(now);
        while self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
    }

    /// From the last word of an earlier leader to the first one of the leader of `epoch`; `None` if either
    /// was not heard.
    pub fn outage(&self, epoch: Epoch) -> Option<Duration> {
        let begin = self.0.get(&epoch)?.first;
        let before = self.0.range(..epoch).map(|(_, heard)| heard.last);
        Some(begin.saturating_duration_since(before.max()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_goes_from_the_last_word_of_one_leader_to_the_first_of_the_next() {
        let start = Instant::now();
        for (said, epoch, expected) in [
            (&[][..], 1, None),
            (&[(1, 0)], 1, None),
            (&[(1, 0), (2, 700)], 2, Some(700)),
            (&[(1, 0), (1, 400), (2, 700), (2, 900)], 2, Some(300)),
            // Nobody heard the leader of epoch 2, who may have answered for a while or not.
            (&[(1, 0), (1, 400), (3, 700)], 3, Some(300)),
            (&[(1, 0), (3, 700)], 2, None),
            // An operator that was not there before.
            (&[(2, 700)], 2, None),
            // An old leader that was heard late.
            (&[(1, 0), (2, 700), (1, 800)], 2, Some(0)),
            (&[(1, 0), (2, 700), (3, 750)], 3, Some(50)),
        ] {
            let mut reigns = Reigns::default();
            for (epoch, ms) in said {
                reigns.note(Epoch(*epoch), start + Duration::from_millis(*ms));
            }
            let found = reigns.outage(Epoch(epoch));
            assert_eq!(found, expected.map(Duration::from_millis), "{said:?}");
        }
    }

    #[test]
    fn few_are_remembered() {
        let mut reigns = Reigns::default();
        for epoch in 0..100 {
            reigns.note(Epoch(epoch), Instant::now());
        }
        assert_eq!(reigns.0.len(), REMEMBERED);
        assert!(reigns.outage(Epoch(99)).is_some() && reigns.outage(Epoch(5)).is_none());
    }
}
