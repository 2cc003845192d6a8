//! What replies may rest on.
//!
//! A commit needs `min(k, N-1)` other voters, so that a leader whose voters have shrunk goes on by
//! itself. Where the user wants no reply with fewer copies than `syncReplicas` (`onShortfall: Block`),
//! that is not enough to answer by. So there is a second position, the *released* one:
//!
//! - A leader releases what it has committed and `reply_sync` other replicas, whoever votes, have told it
//!   to be durable in their logs, matched with its own, under a whole state. Learners count: what is asked
//!   for is disks, and a newcomer that counts is how a leader without any other voter goes on. With
//!   `reply_sync` 0 everything that is committed is released.
//! - A reply waits, of a write and of a read alike, until what it rests on is released.
//! - Followers are told what is released, and not what is committed. They apply no more, so their clients
//!   read no more; that is their commit LSN.
//! - What is released stays so: for a leader that loses followers later, and at its successor as far as
//!   that has heard of it. What a new leader has not heard of waits until others hold it again.
//! - A state is flushed up to what is released, and no further: so a snapshot shows nothing else, nor
//!   does a replica that starts on its disk.
//! - A barrier shows nothing to anybody: it is released with what stands before it. So a leader with
//!   nothing to hide answers everything, however short of voters it is.
//!
//! None of this bears on who leads, or on what a successor has: what is released is committed.

use super::core::Core;
use super::progress::Leader;
use super::types::{Lsn, ReplicaId};
use super::words::Effect;

impl Core {
    /// Moves what is released as far as it goes.
    pub(super) fn release(&mut self, out: &mut Vec<Effect>) {
        let to = match &mut self.leader {
            Some(leader) => leader.releasable(self.id, self.reply_sync, self.released, self.commit),
            None => self.commit,
        };
        if to > self.released {
            self.released = to;
            out.push(Effect::Release(to));
        }
    }
}

impl Leader {
    /// Up to where replies may rest on this leader's log, if it was up to `released` before.
    fn releasable(&mut self, me: ReplicaId, sync: u32, released: Lsn, commit: Lsn) -> Lsn {
        if commit == released {
            return commit;
        }
        let held = match (sync as usize).checked_sub(1) {
            None => commit,
            Some(last) => self.held(me).get(last).copied().unwrap_or_default(),
        };
        let mut to = released.max(held.min(commit));
        for (start, end) in &self.blank {
            if *start <= to {
                to = to.max(commit.min(*end));
            }
        }
        self.blank.retain(|(_, end)| *end > to);
        to
    }

    /// Up to where each other replica holds this leader's log, best first.
    fn held(&self, me: ReplicaId) -> Vec<Lsn> {
        self.of_each(me, |it| it.matched && it.whole, |it| it.durable)
    }

    /// The log shows nothing from `start` to `end`.
    pub(super) fn leave_blank(&mut self, start: Lsn, end: Lsn) {
        match self.blank.last_mut().filter(|(_, last)| *last == start) {
            Some((_, last)) => *last = end,
            None => self.blank.push((start, end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::tests::leader;
    use super::*;

    const ME: ReplicaId = ReplicaId(1);

    fn releasable(leader: &mut Leader, sync: u32, commit: u64) -> u64 {
        leader.releasable(ME, sync, Lsn(3), Lsn(commit)).0
    }

    #[test]
    fn so_many_replicas_must_hold_it_whoever_votes() {
        let followers = &[(2, true, 50), (3, true, 70), (9, true, 60)];
        let of = |sync| releasable(&mut leader(followers), sync, 100);
        assert_eq!([of(0), of(1), of(2), of(3)], [100, 70, 60, 50]);
        assert_eq!(of(4), 3, "what was released stays so");
        assert_eq!(
            releasable(&mut leader(followers), 1, 65),
            65,
            "and no more than is committed"
        );
    }

    #[test]
    fn each_replica_counts_once_and_its_leader_not_at_all() {
        let mut twice = leader(&[(2, true, 50), (2, true, 60), (1, true, 90)]);
        assert_eq!(releasable(&mut twice, 1, 100), 60);
        assert_eq!(releasable(&mut twice, 2, 100), 3);
        let mut half = leader(&[(2, true, 50), (3, false, 60)]);
        assert_eq!(releasable(&mut half, 1, 100), 50);
        half.followers.values_mut().for_each(|it| it.whole = false);
        assert_eq!(releasable(&mut half, 1, 100), 3);
    }

    #[test]
    fn barriers_are_released_with_what_is_before_them() {
        let mut alone = leader(&[]);
        alone.leave_blank(Lsn(3), Lsn(5));
        alone.leave_blank(Lsn(5), Lsn(7));
        alone.leave_blank(Lsn(20), Lsn(22));
        assert_eq!(releasable(&mut alone, 1, 5), 5, "once they are committed");
        assert_eq!(releasable(&mut alone, 1, 30), 7);
        assert_eq!(alone.blank, [(Lsn(20), Lsn(22))]);
        let mut other = leader(&[(2, true, 20)]);
        other.leave_blank(Lsn(20), Lsn(22));
        assert_eq!(releasable(&mut other, 1, 30), 22);
    }
}
