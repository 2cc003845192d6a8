//! PURE: what of a replica's words is worth a reconcile, and the buckets of lag.

use crate::replication::admin::{FollowerStatus, ReplicaStatus, SeedProgress};

/// Seconds of lag are told apart at these bounds.
const SECONDS: [i64; 5] = [300, 60, 15, 5, 1];
/// Bytes of lag are told apart at powers of four of this.
const BYTES: u64 = 4096;

/// How much a change matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Significance {
    /// Not at all.
    None,
    /// It should be in the status now and then: how far logs are.
    Slow,
    /// It should be in the status some time soon: lag, progress.
    Soft,
    /// Something happened.
    Hard,
}

/// What changed between two words of one replica.
pub fn compare(before: &ReplicaStatus, after: &ReplicaStatus) -> Significance {
    if hard(before) != hard(after) || connected(before) != connected(after) {
        Significance::Hard
    } else if soft(before) != soft(after) {
        Significance::Soft
    } else if before.last != after.last {
        Significance::Slow
    } else {
        Significance::None
    }
}

/// What a decision may rest on.
fn hard(status: &ReplicaStatus) -> impl PartialEq + use<'_> {
    (
        (
            status.id,
            status.incarnation,
            status.role,
            status.state,
            status.ready,
            status.empty,
        ),
        (status.promised, status.begun, status.last.epoch),
        (status.configuration_version, status.established_version),
        (status.leader, status.epoch),
        (&status.version, status.seed.is_some()),
        (status.answers, status.leader_heard),
        (status.leaving, status.fenced, &status.divergent),
        status.stamp,
    )
}

fn connected(status: &ReplicaStatus) -> impl PartialEq + use<> {
    let followers = status.followers.iter();
    followers
        .map(|follower| (follower.id, follower.connected, follower.heard))
        .collect::<Vec<_>>()
}

/// What the status shows, as coarsely as it shows it.
fn soft(status: &ReplicaStatus) -> impl PartialEq + use<'_> {
    let lag = |follower: &FollowerStatus| {
        let durable = status.last.lsn.since(follower.durable_lsn);
        (
            bytes(follower.lag_bytes),
            seconds(follower.lag_seconds),
            bytes(durable),
        )
    };
    (
        status.followers.iter().map(lag).collect::<Vec<_>>(),
        status.seed.as_ref().map(percent),
        disk(status.disk_used_percent),
        status.withheld_bytes > 0,
        &status.message,
    )
}

/// Bytes of lag, rounded down to 0, 4Ki, 16Ki, 64Ki and so on.
pub fn bytes(lag: u64) -> i64 {
    let mut bound = BYTES;
    if lag < bound {
        return 0;
    }
    while let Some(next) = bound.checked_mul(4).filter(|next| *next <= lag) {
        bound = next;
    }
    i64::try_from(bound).unwrap_or(i64::MAX)
}

/// Seconds of lag, rounded down to 0, 1, 5, 15, 60 or 300.
pub fn seconds(lag: f64) -> i64 {
    let bound = SECONDS.into_iter().find(|bound| lag >= *bound as f64);
    bound.unwrap_or(0)
}

/// Progress of a seed in percent, rounded down to a multiple of 5.
pub fn percent(seed: &SeedProgress) -> i64 {
    let total = u128::from(seed.total_bytes.max(1));
    let percent = u128::from(seed.bytes) * 100 / total;
    i64::try_from(percent.min(100) / 5 * 5).unwrap_or(100)
}

/// Used share of a disk, rounded down to a multiple of 5.
pub fn disk(percent: u8) -> i64 {
    i64::from(percent / 5 * 5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::testing;
    use crate::replication::types::{Epoch, Lsn};

    #[test]
    fn lag_is_told_in_buckets() {
        for (lag, bucket) in [
            (0, 0),
            (4095, 0),
            (4096, 4096),
            (16_383, 4096),
            (16_384, 16_384),
            (1 << 20, 1 << 20),
        ] {
            assert_eq!(bytes(lag), bucket, "{lag}");
        }
        assert_eq!(bytes(u64::MAX), 1 << 62);
        for (lag, bucket) in [
            (0.0, 0),
            (0.99, 0),
            (1.0, 1),
            (4.9, 1),
            (5.0, 5),
            (59.0, 15),
            (60.0, 60),
            (1e9, 300),
        ] {
            assert_eq!(seconds(lag), bucket, "{lag}");
        }
    }

    #[test]
    fn a_replica_that_only_goes_on_wakes_nobody_but_now_and_then() {
        let mut before = testing::status(1);
        let mut after = before.clone();
        after.last.lsn = Lsn(1_000_000);
        after.applied_lsn = Lsn(1_000_000);
        after.commit_lsn = Lsn(1_000_000);
        assert_eq!(compare(&before, &after), Significance::Slow);
        before.commit_lsn = Lsn(2_000_000);
        before.last.lsn = after.last.lsn;
        assert_eq!(compare(&before, &after), Significance::None);
    }

    #[test]
    fn lag_wakes_softly_and_roles_at_once() {
        let mut before = testing::status(1);
        before.followers.push(testing::follower(2));
        let mut after = before.clone();
        after.followers[0].lag_bytes = 100;
        assert_eq!(compare(&before, &after), Significance::None);
        after.followers[0].lag_bytes = 10_000;
        assert_eq!(compare(&before, &after), Significance::Soft);
        after.followers[0].connected = false;
        assert_eq!(compare(&before, &after), Significance::Hard);
        let mut promised = before.clone();
        promised.promised = Epoch(9);
        assert_eq!(compare(&before, &promised), Significance::Hard);
        let changes: [fn(&mut ReplicaStatus); 5] = [
            |it| it.answers = true,
            |it| it.leader_heard = true,
            |it| it.leaving = true,
            |it| it.fenced = true,
            |it| it.followers[0].heard = false,
        ];
        for change in changes {
            let mut after = before.clone();
            change(&mut after);
            assert_eq!(compare(&before, &after), Significance::Hard);
        }
    }
}
