//! What can be asked of a core: nothing here changes it.

use std::time::Duration;

use super::core::{Core, Following, Phase};
use super::types::{Configuration, Epoch, EpochHistory, Lsn, Position, ReplicaId};
use super::words::{HardState, Peer};

/// A summary for status and metrics.
#[derive(Clone, Debug)]
pub struct CoreView {
    /// Hard state as saved.
    pub hard: HardState,
    /// Whether this replica leads.
    pub leading: bool,
    /// Whether the leader's first barrier is committed: it may answer.
    pub serving: bool,
    /// Leader that it follows, or itself.
    pub leader: Option<ReplicaId>,
    /// Epoch of that leader.
    pub epoch: Epoch,
    /// Version of the configuration by which this replica acts.
    pub version: u64,
    /// Highest version under which a barrier was committed here.
    pub established: u64,
    /// The last durable record.
    pub last: Position,
    /// End of the log, not durable frames included.
    pub end: Lsn,
    /// Committed up to here.
    pub commit: Lsn,
    /// Replies may rest on records up to here.
    pub released: Lsn,
    /// The leader's end as last heard, for a follower.
    pub leader_end: Lsn,
    /// Whether frames flow from the leader.
    pub streaming: bool,
    /// Whether the backlog has been worked off.
    pub ready: bool,
    /// Whether there is a whole state.
    pub complete: bool,
    /// Followers, if this replica leads: each once, as an older connection goes with the next one.
    pub followers: Vec<FollowerView>,
    /// Whether the leader was heard within the last lease.
    pub leader_heard: bool,
    /// The disk has not answered for as long as a lease: why this replica does not lead any more.
    pub stalled: bool,
}

/// A connected follower as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerView {
    /// The connection.
    pub peer: Peer,
    /// Its identity.
    pub id: ReplicaId,
    /// Its log is durable up to here.
    pub durable: Lsn,
    /// Its state has been brought up to here.
    pub applied: Lsn,
    /// Whether it acknowledged something within the last lease.
    pub heard: bool,
}

impl Core {
    /// A summary for status and metrics.
    pub fn view(&self) -> CoreView {
        let following = self.following.as_ref();
        let serving = self.leader.as_ref().is_some_and(|leader| {
            leader
                .first_barrier
                .is_some_and(|barrier| self.commit >= barrier)
        });
        CoreView {
            hard: self.hard,
            leading: self.leader.is_some(),
            serving,
            leader: match &self.leader {
                Some(_) => Some(self.id),
                None => following.map(|following| following.leader),
            },
            epoch: self.leader.as_ref().map_or_else(
                || following.map_or(Epoch(0), |following| following.epoch),
                |leader| leader.epoch,
            ),
            version: self.configuration.version,
            established: self.established,
            last: self.last(),
            end: self.end,
            commit: self.commit,
            released: self.released,
            leader_end: following.map_or(self.end, |following| following.leader_end),
            streaming: following.is_some_and(|following| following.phase == Phase::Streaming),
            ready: serving || following.is_some_and(|following| following.ready),
            complete: self.complete,
            followers: self.leader.as_ref().map_or_else(Vec::new, |leader| {
                let all = leader.followers.iter();
                all.map(|(peer, follower)| FollowerView {
                    peer: *peer,
                    id: follower.id,
                    durable: follower.durable,
                    applied: follower.applied,
                    heard: follower
                        .heard_at
                        .is_some_and(|at| self.now.saturating_sub(at) < self.lease),
                })
                .collect()
            }),
            leader_heard: self.leader_heard(),
            stalled: self.stalled,
        }
    }

    /// Whether the state may be brought to disk at `cut`: replies may rest on it, as after a restart
    /// they will, and the log is not being cut, perhaps below it (what an asynchronous leader committed
    /// need not be what stays).
    pub fn may_flush(&self, cut: Lsn) -> bool {
        cut <= self.released && !self.truncating
    }

    /// Until when, on the clock of [`Self::step`], this leader may answer clients: while it holds
    /// leases of enough voters, itself included, and its barrier is committed. Zero if it may not.
    pub fn answers_until(&self) -> Duration {
        let Some(leader) = &self.leader else {
            return Duration::ZERO;
        };
        let begun = leader.first_barrier.is_some_and(|at| self.commit >= at);
        if !begun {
            return Duration::ZERO;
        }
        leader.leased_until(self.id, &self.configuration)
    }

    /// Whether this follower has heard of its leader within the last lease.
    pub fn leader_heard(&self) -> bool {
        self.following.as_ref().is_some_and(|following| {
            let at = following.heard_at;
            at.is_some_and(|at| self.now.saturating_sub(at) < following.patience)
        })
    }

    /// Whether this follower's leader has been silent for a lease's time on a connection that seems to be up.
    pub fn leader_silent(&self) -> bool {
        let streaming = |following: &Following| {
            following.phase == Phase::Streaming && following.heard_at.is_some()
        };
        self.following.as_ref().is_some_and(streaming) && !self.leader_heard()
    }

    /// The highest epoch promised durably.
    pub fn promised(&self) -> Epoch {
        self.hard.promised
    }

    /// The length of the leases that this replica asks for as leader.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// The last durable record.
    pub fn last(&self) -> Position {
        Position {
            epoch: self.history.epoch_at(self.durable),
            lsn: self.durable,
        }
    }

    /// Committed up to here.
    pub fn commit(&self) -> Lsn {
        self.commit
    }

    /// Replies may rest on records up to here: a leader's clients wait for it, its followers hear it.
    pub fn released(&self) -> Lsn {
        self.released
    }

    /// Epochs of the log.
    pub fn history(&self) -> &EpochHistory {
        &self.history
    }

    /// End of the log, frames on their way to disk included.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// The last configuration that is on disk.
    pub fn adopted_configuration(&self) -> &Configuration {
        &self.adopted
    }

    /// The configuration by which it acts.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Whether this replica has lost something of what it had promised or acknowledged, and has not been
    /// told anew: it must not vote as if it knew.
    pub fn forgotten(&self) -> bool {
        self.forgotten
    }

    /// Where the kept log begins.
    pub fn oldest(&self) -> Lsn {
        self.oldest
    }

    /// Whether the leader told this follower to fetch a snapshot, and it has not begun to.
    pub fn wants_seed(&self) -> bool {
        self.following
            .as_ref()
            .is_some_and(|following| matches!(following.phase, Phase::Resetting(_)))
    }

    /// Whether this replica leads, and in which epoch.
    pub fn leading(&self) -> Option<Epoch> {
        self.leader.as_ref().map(|leader| leader.epoch)
    }
}
