//! The nouns of the protocol: log positions, epochs, replica ids, configurations.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Log sequence number: a position in the log, counted in bytes of records from the beginning of
/// the store's life. A record's LSN is the position of its end, so `Lsn(0)` is before the first
/// record, and the difference of two LSNs is the number of record bytes between them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The position `bytes` further on.
    #[must_use]
    pub fn advance(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// Bytes of records from `earlier` up to here; 0 if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a leader's reign. Each change of leader takes the next one; 0 is before the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// How far a request may be ahead of all that a replica knows: so far that no store gets there, and
    /// so little that no number of them leads to the end of the numbers.
    const MOST_AHEAD: u64 = 1 << 32;

    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether no honest request can be of this epoch where `known` is the highest that was heard of.
    pub fn is_absurd(self, known: Self) -> bool {
        self.0 > known.0.saturating_add(Self::MOST_AHEAD)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A random number of 128 bits that is told as 32 hexadecimal digits.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                match u128::from_str_radix(text, 16) {
                    Ok(id) if hex => Ok(Self(id)),
                    _ => Err(InvalidId(text.to_owned())),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// An id that is not 32 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("an id is 32 hexadecimal digits, this is {0:?}")]
pub struct InvalidId(String);

random_id! {
    /// The identity of a replica: the random id of its data directory. A replica that lost its disk
    /// comes back under another id, so nobody counts it for what the old one acknowledged.
    ReplicaId
}

random_id! {
    /// The identity of a store: drawn once, when it is born empty, and kept by all of its disks. Two
    /// stores that ever had the same name have different ones, so their logs are never taken for each
    /// other's.
    StoreId
}

/// For whom a request is meant. What is not said is not checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Addressee {
    /// The replica.
    pub id: Option<ReplicaId>,
    /// The store that it is to belong to.
    pub store: Option<StoreId>,
}

/// The position of a record together with the epoch in which it was appended. The order is the one
/// in which logs are compared at a promotion: epoch first, then LSN.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Epoch of the record.
    pub epoch: Epoch,
    /// LSN of the record: its end.
    pub lsn: Lsn,
}

/// Where an epoch begins in a log: the LSN *before* its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// The end of the record before the epoch's first.
    pub start: Lsn,
}

/// How a state stands to one that was seen: see [`EpochHistory::standing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has everything that was seen.
    Has,
    /// It has not come so far.
    Behind,
    /// It never will: what was seen was given up at a change of leader.
    Parted,
}

/// The epochs of a log, ascending in epoch and in start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochHistory(Vec<EpochStart>);

impl EpochHistory {
    /// The entries, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.0
    }

    /// Notes that a record of `epoch` was appended after `start`. Does nothing if the epoch is
    /// the newest one already. Epochs never fall.
    pub fn append(&mut self, epoch: Epoch, start: Lsn) {
        if let Some(last) = self.0.last() {
            if last.epoch == epoch {
                return;
            }
            assert!(
                last.epoch < epoch,
                "epochs never fall: {} then {epoch}",
                last.epoch
            );
            assert!(
                last.start <= start,
                "an epoch begins where the one before it ended"
            );
        }
        self.0.push(EpochStart { epoch, start });
    }

    /// Forgets what begins at or after `lsn`: the log was cut there.
    pub fn truncate(&mut self, lsn: Lsn) {
        self.0.retain(|entry| entry.start < lsn);
    }

    /// The epoch of the record that ends at or contains `lsn` (of the record before the cut).
    pub fn epoch_at(&self, lsn: Lsn) -> Epoch {
        let found = self.0.iter().rev().find(|entry| entry.start < lsn);
        found.map_or(Epoch(0), |entry| entry.epoch)
    }

    /// The position of a state at `lsn` of this history.
    pub fn position(&self, lsn: Lsn) -> Position {
        let epoch = self.epoch_at(lsn);
        Position { epoch, lsn }
    }

    /// How the state at `applied` of this history stands to one that somebody has `seen`: nobody may be shown
    /// an older one. What lies behind `applied` may yet be cut off, so it says nothing.
    pub fn standing(&self, applied: Lsn, seen: Position) -> Standing {
        if seen.lsn <= applied {
            return if self.epoch_at(seen.lsn) == seen.epoch {
                Standing::Has
            } else {
                Standing::Parted
            };
        }
        let later = |entry: &EpochStart| entry.epoch > seen.epoch && entry.start < applied;
        if self.0.iter().any(later) {
            Standing::Parted
        } else {
            Standing::Behind
        }
    }

    /// The newest epoch.
    pub fn last(&self) -> Epoch {
        self.0.last().map_or(Epoch(0), |entry| entry.epoch)
    }

    /// Where `epoch`, or the first one after it, begins; `end` if there is none.
    fn end_of(&self, epoch: Epoch, end: Lsn) -> Lsn {
        let next = self.0.iter().find(|entry| entry.epoch > epoch);
        next.map_or(end, |entry| entry.start)
    }

    /// The highest position up to which two logs are equal: the end, in the shorter of both, of
    /// the newest epoch that both hold (KIP-101 and KIP-279 of Kafka; `TermHistory` of Neon).
    /// Each log is its history and its end.
    pub fn common_point(&self, end: Lsn, other: &Self, other_end: Lsn) -> Lsn {
        let mut point = Lsn::ZERO;
        for entry in &self.0 {
            let shared = other.0.iter().find(|theirs| theirs.epoch == entry.epoch);
            let Some(theirs) = shared else { continue };
            if theirs.start != entry.start {
                continue;
            }
            point = self
                .end_of(entry.epoch, end)
                .min(other.end_of(entry.epoch, other_end));
        }
        point
    }
}

/// A set of voters with the durability rule that was in force for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoterSet {
    /// The replicas that count.
    pub voters: BTreeSet<ReplicaId>,
    /// `k`: followers that must have a record on disk before it is committed.
    pub sync: u32,
}

/// What the configuration register holds: who leads in which epoch, and who counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Rises at every change.
    pub version: u64,
    /// The epoch of `leader`.
    pub epoch: Epoch,
    /// Who leads; `None` only before the first promotion.
    pub leader: Option<ReplicaId>,
    /// The voters, the leader among them.
    pub voters: BTreeSet<ReplicaId>,
    /// `k`, see [`VoterSet::sync`].
    pub sync: u32,
    /// What this configuration replaced and has not been established since.
    pub previous: Vec<VoterSet>,
    /// Milliseconds that the leader waits before its barrier, for leases of earlier leaders.
    pub wait_ms: u64,
    /// The store; `None` in a register of a release that did not draw one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreId>,
}

impl Configuration {
    /// The voters, and those of the sets that are being replaced: writes may rest on what they have on disk.
    pub fn all_voters(&self) -> impl Iterator<Item = ReplicaId> {
        let previous = self.previous.iter().map(|set| &set.voters);
        previous.chain([&self.voters]).flatten().copied()
    }

    /// The set that is in force.
    pub fn current(&self) -> VoterSet {
        VoterSet {
            voters: self.voters.clone(),
            sync: self.sync,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_stands_behind_one_that_was_seen_or_has_it_or_never_will() {
        use Standing::{Behind, Has, Parted};
        let history = history(&[(1, 0), (3, 120), (4, 200)]);
        for (applied, epoch, lsn, expected) in [
            (0, 0, 0, Has),
            (50, 0, 0, Has),
            (50, 1, 50, Has),
            (50, 1, 51, Behind),
            (50, 1, 120, Behind),
            (119, 1, 130, Behind), // the record that parts them is not applied yet
            (121, 1, 130, Parted),
            (121, 1, 121, Parted),
            (121, 2, 121, Parted),
            (121, 2, 150, Parted),
            (121, 1, 120, Has),
            (121, 3, 150, Behind),
            (150, 3, 150, Has),
            (201, 3, 250, Parted),
            (201, 4, 250, Behind),
            (250, 5, 300, Behind), // an epoch that this log has not heard of
        ] {
            let seen = Position {
                epoch: Epoch(epoch),
                lsn: Lsn(lsn),
            };
            let standing = history.standing(Lsn(applied), seen);
            assert_eq!(standing, expected, "{seen:?} at {applied}");
        }
    }

    fn history(entries: &[(u64, u64)]) -> EpochHistory {
        let mut history = EpochHistory::default();
        for &(epoch, start) in entries {
            history.append(Epoch(epoch), Lsn(start));
        }
        history
    }

    #[test]
    fn a_replica_id_round_trips_as_text() {
        let id = ReplicaId(0x5f0c);
        assert_eq!(id.to_string().parse::<ReplicaId>().unwrap(), id);
        assert!("5f0c".parse::<ReplicaId>().is_err());
        assert!("+".repeat(32).parse::<ReplicaId>().is_err());
    }

    #[test]
    fn logs_part_at_the_end_of_their_newest_common_epoch() {
        let leader = history(&[(1, 0), (3, 100)]);
        let follower = history(&[(1, 0), (2, 120)]);
        assert_eq!(leader.common_point(Lsn(300), &follower, Lsn(150)), Lsn(100));
        assert_eq!(follower.common_point(Lsn(150), &leader, Lsn(300)), Lsn(100));
        let behind = history(&[(1, 0)]);
        assert_eq!(leader.common_point(Lsn(300), &behind, Lsn(80)), Lsn(80));
        let same = history(&[(1, 0), (3, 100)]);
        assert_eq!(leader.common_point(Lsn(300), &same, Lsn(250)), Lsn(250));
        assert_eq!(leader.common_point(Lsn(300), &history(&[]), Lsn(0)), Lsn(0));
    }

    #[test]
    fn the_epoch_of_a_position_is_that_of_the_record_that_ends_there() {
        let log = history(&[(1, 0), (3, 100)]);
        assert_eq!(log.epoch_at(Lsn(0)), Epoch(0));
        assert_eq!(log.epoch_at(Lsn(100)), Epoch(1));
        assert_eq!(log.epoch_at(Lsn(101)), Epoch(3));
    }
}
