//! What a leader knows of its followers, and the commit rule over it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::types::{Configuration, Epoch, Lsn, ReplicaId};

/// A connected follower.
#[derive(Clone, Debug, Hash)]
pub(super) struct Follower {
    pub(super) id: ReplicaId,
    /// `true` from `Ready` on: before that, what it has is not known to be the leader's log.
    pub(super) matched: bool,
    /// It has said that it has a whole state.
    pub(super) whole: bool,
    pub(super) durable: Lsn,
    pub(super) applied: Lsn,
    /// The leader believes in this follower's lease until then.
    pub(super) leased_until: Duration,
    /// When it last acknowledged something.
    pub(super) heard_at: Option<Duration>,
}

/// Whether a leader's disk answers. Counted in time that this process ran: one that was frozen
/// learns nothing about its disk.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(super) struct DiskWatch {
    /// Since its last answer, as long as something is asked of it.
    pub(super) silent_for: Duration,
    /// Since it was last asked, or has answered.
    pub(super) idle_for: Duration,
    /// A beat is on its way.
    pub(super) asked: bool,
}

/// The state of a leader.
#[derive(Clone, Debug, Hash)]
pub(super) struct Leader {
    pub(super) epoch: Epoch,
    /// Until then no barrier is appended: leases of earlier leaders may run.
    pub(super) wait_until: Duration,
    pub(super) disk: DiskWatch,
    /// When the disk was last looked after.
    pub(super) ticked_at: Duration,
    /// The barriers that are not committed yet: version and the LSN of the barrier's end. `None`
    /// until the shell has sealed it.
    pub(super) barriers: Vec<(u64, Option<Lsn>)>,
    /// End of the first barrier: nothing below it is committed by counting.
    pub(super) first_barrier: Option<Lsn>,
    /// Where barriers stand that are not released, as spans of the log: they show nothing to anybody.
    pub(super) blank: Vec<(Lsn, Lsn)>,
    pub(super) followers: BTreeMap<u64, Follower>,
}

impl Leader {
    /// Until when the leader holds leases from `N/2 + 1` voters, its own included, which has no end.
    pub(super) fn leased_until(&self, me: ReplicaId, configuration: &Configuration) -> Duration {
        let others = configuration.voters.len() / 2;
        let own = usize::from(!configuration.voters.contains(&me));
        let needed = others + own;
        if needed == 0 {
            return Duration::MAX;
        }
        let ends = self.of_voters(me, configuration, |follower| follower.leased_until);
        ends.get(needed - 1).copied().unwrap_or_default()
    }

    /// A property of each other voter that is connected, best first.
    fn of_voters<T: Ord + Copy>(
        &self,
        me: ReplicaId,
        configuration: &Configuration,
        property: impl Fn(&Follower) -> T,
    ) -> Vec<T> {
        let voter = |it: &Follower| it.matched && configuration.voters.contains(&it.id);
        self.of_each(me, voter, property)
    }

    /// A property of each other replica that has a connection which counts, best first; of two
    /// connections of one replica the better one counts.
    pub(super) fn of_each<T: Ord + Copy>(
        &self,
        me: ReplicaId,
        counts: impl Fn(&Follower) -> bool,
        property: impl Fn(&Follower) -> T,
    ) -> Vec<T> {
        let mut best: Vec<(ReplicaId, T)> = Vec::with_capacity(self.followers.len());
        for follower in self.followers.values() {
            if follower.id == me || !counts(follower) {
                continue;
            }
            let value = property(follower);
            match best.iter_mut().find(|(id, _)| *id == follower.id) {
                Some((_, known)) => *known = value.max(*known),
                None => best.push((follower.id, value)),
            }
        }
        best.sort_unstable_by_key(|(_, value)| std::cmp::Reverse(*value));
        best.into_iter().map(|(_, value)| value).collect()
    }

    /// The highest LSN that is durable on the leader and on `min(k, N-1)` other voters.
    pub(super) fn committable(
        &self,
        me: ReplicaId,
        configuration: &Configuration,
        own_durable: Lsn,
    ) -> Lsn {
        let others = configuration.voters.iter().filter(|id| **id != me).count();
        let needed = (configuration.sync as usize).min(others);
        if needed == 0 {
            return own_durable;
        }
        let ends = self.of_voters(me, configuration, |follower| follower.durable);
        let of_voters = ends.get(needed - 1).copied().unwrap_or(Lsn::ZERO);
        own_durable.min(of_voters)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::replication) fn leader(followers: &[(u128, bool, u64)]) -> Leader {
        let followers =
            followers
                .iter()
                .enumerate()
                .map(|(connection, &(id, matched, durable))| {
                    let follower = Follower {
                        id: ReplicaId(id),
                        matched,
                        whole: matched,
                        durable: Lsn(durable),
                        applied: Lsn(durable),
                        leased_until: Duration::from_secs(durable),
                        heard_at: None,
                    };
                    (connection as u64, follower)
                });
        Leader {
            epoch: Epoch(1),
            wait_until: Duration::ZERO,
            disk: DiskWatch::default(),
            ticked_at: Duration::ZERO,
            barriers: Vec::new(),
            first_barrier: Some(Lsn(1)),
            blank: Vec::new(),
            followers: followers.collect(),
        }
    }

    fn configuration(voters: &[u128], sync: u32) -> Configuration {
        let voters = voters.iter().map(|id| ReplicaId(*id)).collect();
        Configuration {
            voters,
            sync,
            ..Configuration::default()
        }
    }

    #[test]
    fn asynchronous_commits_what_the_leader_has() {
        let committable = |sync, followers: &[(u128, bool, u64)]| {
            leader(followers).committable(ReplicaId(1), &configuration(&[1, 2, 3], sync), Lsn(100))
        };
        assert_eq!(committable(0, &[]), Lsn(100));
        assert_eq!(committable(1, &[]), Lsn(0));
        assert_eq!(committable(1, &[(2, true, 70), (3, true, 90)]), Lsn(90));
        assert_eq!(committable(2, &[(2, true, 70), (3, true, 90)]), Lsn(70));
        assert_eq!(committable(1, &[(2, true, 170)]), Lsn(100));
    }

    #[test]
    fn only_matched_voters_count_and_each_once() {
        let configuration = configuration(&[1, 2, 3], 2);
        let learner = leader(&[(2, true, 90), (9, true, 90)]);
        assert_eq!(
            learner.committable(ReplicaId(1), &configuration, Lsn(100)),
            Lsn(0)
        );
        let twice = leader(&[(2, true, 90), (2, true, 80)]);
        assert_eq!(
            twice.committable(ReplicaId(1), &configuration, Lsn(100)),
            Lsn(0)
        );
        let unmatched = leader(&[(2, true, 90), (3, false, 95)]);
        assert_eq!(
            unmatched.committable(ReplicaId(1), &configuration, Lsn(100)),
            Lsn(0)
        );
    }

    #[test]
    fn leases_of_more_than_half_are_needed_its_own_included() {
        let until = |voters: &[u128], followers: &[(u128, bool, u64)]| {
            leader(followers).leased_until(ReplicaId(1), &configuration(voters, 1))
        };
        assert_eq!(until(&[1], &[]), Duration::MAX);
        assert_eq!(until(&[1, 2], &[]), Duration::ZERO);
        assert_eq!(until(&[1, 2], &[(2, true, 7), (9, true, 9)]).as_secs(), 7);
        assert_eq!(
            until(&[1, 2, 3], &[(2, true, 7), (3, true, 9)]).as_secs(),
            9
        );
        let five = &[(2, true, 7), (3, true, 9), (4, true, 5)];
        assert_eq!(until(&[1, 2, 3, 4, 5], five).as_secs(), 7);
        let twice = &[(2, true, 7), (2, true, 9)];
        assert_eq!(until(&[1, 2, 3, 4, 5], twice), Duration::ZERO);
    }

    #[test]
    fn a_small_voter_set_needs_no_more_than_it_has() {
        let alone = leader(&[]);
        assert_eq!(
            alone.committable(ReplicaId(1), &configuration(&[1], 2), Lsn(5)),
            Lsn(5)
        );
    }
}
