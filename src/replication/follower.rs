//! The follower's side: the handshake, taking frames, learning what is committed.

use super::core::{Core, Phase};
use super::message::{Message, PROTOCOL_VERSION};
use super::types::{Epoch, EpochHistory, Lsn, ReplicaId, StoreId};
use super::words::{Effect, HardState, Peer};
use std::time::Duration;

/// A follower that has worked off its backlog and is at most this many bytes behind is ready.
const READY_LAG: u64 = 1 << 20;

impl Core {
    pub(super) fn is_leader_peer(&self, peer: Peer) -> bool {
        self.following
            .as_ref()
            .is_some_and(|following| following.peer == Some(peer))
    }

    /// The connection to the leader is up: say hello.
    pub(super) fn connected(&mut self, peer: Peer, out: &mut Vec<Effect>) {
        let Some(following) = &mut self.following else {
            out.push(Effect::Close(
                peer,
                "this replica follows nobody".to_owned(),
            ));
            return;
        };
        following.peer = Some(peer);
        following.echo = 0;
        following.granted_ms = 0;
        following.phase = Phase::Greeted;
        let hello = Message::Hello {
            version: PROTOCOL_VERSION,
            id: self.id,
            name: String::new(), // the shell knows it
            promised: self.hard.promised,
            store: self.adopted.store,
        };
        out.push(Effect::Send(peer, hello));
    }

    /// The leader says in which epoch it leads: promise it durably before anything else.
    pub(super) fn welcome(
        &mut self,
        peer: Peer,
        id: ReplicaId,
        epoch: Epoch,
        store: Option<StoreId>,
        out: &mut Vec<Effect>,
    ) {
        let (hard, foreign) = (self.hard, self.foreign(store));
        let Some(following) = &mut self.following else {
            return;
        };
        if following.peer != Some(peer) || following.phase != Phase::Greeted {
            return;
        }
        if id != following.leader || epoch < hard.promised || epoch < following.epoch {
            let reason = format!(
                "welcomed by {id} of epoch {epoch}, promised {}",
                hard.promised
            );
            out.push(Effect::Close(peer, reason));
            return;
        }
        if let Some(reason) = foreign {
            out.push(Effect::Close(peer, format!("the leader: {reason}")));
            return;
        }
        following.epoch = epoch;
        following.phase = Phase::Promising;
        self.promise_durable(out);
    }

    /// Saves the promise of the leader's epoch, or goes on if it is on disk already.
    pub(super) fn promise_durable(&mut self, out: &mut Vec<Effect>) {
        let Some(following) = &mut self.following else {
            return;
        };
        if following.phase != Phase::Promising {
            return;
        }
        let (Some(peer), epoch) = (following.peer, following.epoch) else {
            return;
        };
        if self.hard.promised > epoch {
            out.push(Effect::Close(
                peer,
                format!("promised {} meanwhile", self.hard.promised),
            ));
            return;
        }
        if self.hard.promised < epoch {
            if self.saving.is_none() {
                let hard = HardState {
                    promised: epoch,
                    ..self.hard
                };
                self.saving = Some(hard);
                out.push(Effect::Save(hard));
            }
            return;
        }
        if self.durable < self.end || self.truncating {
            return; // what an earlier connection began comes to its end first
        }
        following.phase = Phase::Told;
        let history = Message::History {
            history: self.history.clone(),
            end: self.durable,
            flushed: self.flushed,
            complete: self.complete,
        };
        out.push(Effect::Send(peer, history));
    }

    /// The leader says where the histories part. Epochs alone do not tell whether the logs are equal up to
    /// there: a disk may have been put back, or be another store's.
    pub(super) fn resume(
        &mut self,
        peer: Peer,
        point: Lsn,
        chain: Option<u32>,
        out: &mut Vec<Effect>,
    ) {
        let (end, flushed) = (self.end, self.flushed);
        let Some(following) = &mut self.following else {
            return;
        };
        if following.peer != Some(peer) || following.phase != Phase::Told {
            return;
        }
        if point > end || point < flushed {
            out.push(Effect::Close(peer, format!("cannot go on from {point}")));
        } else {
            following.phase = Phase::Comparing;
            out.push(Effect::Compare { peer, point, chain });
        }
    }

    /// The shell has compared the logs.
    pub(super) fn compared(&mut self, peer: Peer, point: Lsn, equal: bool, out: &mut Vec<Effect>) {
        let Some(following) = &mut self.following else {
            return;
        };
        if following.peer != Some(peer) || following.phase != Phase::Comparing {
            return;
        }
        if equal {
            following.phase = Phase::Resuming(point);
            self.go_on(out);
        } else {
            following.phase = Phase::Told;
            out.push(Effect::Send(peer, Message::Parted));
        }
    }

    /// Cuts the log where it parts from the leader's, or gives it up for a seed: not before it is on disk
    /// by whose word.
    pub(super) fn go_on(&mut self, out: &mut Vec<Effect>) {
        let Some(following) = &mut self.following else {
            return;
        };
        let (epoch, end) = (following.epoch, self.end);
        let cuts = match following.phase {
            Phase::Resuming(point) => point < end,
            Phase::Parting(..) => true,
            _ => return,
        };
        if cuts && self.hard.cut < epoch {
            if self.saving.is_none() {
                let hard = HardState {
                    cut: epoch,
                    ..self.hard
                };
                self.saving = Some(hard);
                out.push(Effect::Save(hard));
            }
            return;
        }
        match (following.phase, following.peer) {
            (Phase::Resuming(point), Some(peer)) if point < self.flushed => {
                out.push(Effect::Close(
                    peer,
                    format!("cannot go on from {point} any more"),
                ));
            }
            (Phase::Resuming(point), _) if point < end => {
                following.phase = Phase::Truncating;
                self.truncating = true;
                out.push(Effect::Truncate(point));
            }
            (Phase::Resuming(point), _) => self.begin_streaming(point, out),
            (Phase::Parting(point, chain), Some(peer)) => {
                following.phase = Phase::Resetting(point);
                following.ready = false;
                self.complete = false;
                out.push(Effect::FetchSeed { peer, point, chain });
            }
            _ => {}
        }
    }

    pub(super) fn truncated(&mut self, to: Lsn, out: &mut Vec<Effect>) {
        assert!(to >= self.flushed, "flushed state is never truncated");
        self.truncating = false;
        self.history.truncate(to);
        self.end = to;
        self.durable = to;
        self.commit = self.commit.min(to);
        self.released = self.released.min(to);
        self.applied = self.applied.min(to);
        self.settle_promises(out);
        let asked = self
            .following
            .as_ref()
            .is_some_and(|f| f.phase == Phase::Truncating);
        if asked {
            self.begin_streaming(to, out);
        } else if self.saving.is_none() {
            self.settle_role(out);
            self.promise_durable(out);
        }
    }

    fn begin_streaming(&mut self, from: Lsn, out: &mut Vec<Effect>) {
        let Some(following) = &mut self.following else {
            return;
        };
        let Some(peer) = following.peer else { return };
        following.phase = Phase::Streaming;
        following.leader_commit = Lsn::ZERO;
        following.backlog = None;
        out.push(Effect::Send(peer, Message::Ready { from }));
    }

    /// The leader's log does not reach back far enough.
    pub(super) fn seed(
        &mut self,
        peer: Peer,
        point: Lsn,
        chain: Option<u32>,
        out: &mut Vec<Effect>,
    ) {
        let Some(following) = &mut self.following else {
            return;
        };
        if following.peer == Some(peer) && following.phase == Phase::Told {
            following.phase = Phase::Parting(point, chain);
            self.go_on(out);
        }
    }

    /// The log begins anew at the snapshot's LSN. A seed that goes on where it was has a log that
    /// reaches further: then `at` is the end of it, and the history includes it.
    pub(super) fn log_reset(
        &mut self,
        at: Lsn,
        oldest: Lsn,
        history: EpochHistory,
        out: &mut Vec<Effect>,
    ) {
        assert!(oldest <= at, "a log begins before it ends");
        self.history = history;
        self.end = at;
        self.durable = at;
        self.oldest = oldest;
        self.flushed = Lsn::ZERO;
        self.applied = Lsn::ZERO;
        self.commit = Lsn::ZERO;
        self.released = Lsn::ZERO;
        self.complete = false;
        self.settle_promises(out);
        let Some(following) = &mut self.following else {
            return;
        };
        if let (Phase::Resetting(parted), Some(peer)) = (following.phase, following.peer) {
            if at == oldest || at <= parted {
                self.begin_streaming(at, out);
            } else {
                // It was begun under another leader, and holds what this one's log does not.
                let reason =
                    format!("the log of an earlier seed goes on to {at}, and parts at {parted}");
                out.push(Effect::Close(peer, reason));
            }
        }
    }

    /// The copied snapshot is the state now.
    pub(super) fn seed_installed(&mut self, lsn: Lsn, out: &mut Vec<Effect>) {
        assert!(
            lsn <= self.durable,
            "the log holds what follows the snapshot"
        );
        self.complete = true;
        self.flushed = lsn;
        self.applied = lsn;
        self.commit = self.commit.max(lsn);
        self.released = self.commit;
        if let Some(following) = &mut self.following {
            let heard = following.backlog.is_some();
            following.backlog = heard.then_some(following.leader_end);
            if matches!(following.phase, Phase::Resetting(_) | Phase::Parting(..)) {
                // Asked to fetch one while the last steps of this one were under way: tell anew.
                following.phase = Phase::Promising;
            }
        }
        self.promise_durable(out);
    }

    /// Frames came in: they are taken only if they continue the log, from the promised leader.
    pub(super) fn frames(
        &mut self,
        peer: Peer,
        start: Lsn,
        epochs: &[(Epoch, Lsn)],
        end: Lsn,
        out: &mut Vec<Effect>,
    ) {
        let Some(following) = &self.following else {
            out.push(Effect::Close(
                peer,
                "this replica follows nobody".to_owned(),
            ));
            return;
        };
        let newest = epochs.last().map_or(Epoch(0), |(epoch, _)| *epoch);
        let fits = following.peer == Some(peer)
            && following.phase == Phase::Streaming
            && following.epoch == self.hard.promised
            && newest <= following.epoch
            && epochs
                .first()
                .is_some_and(|(first, _)| *first >= self.history.last())
            && start == self.end
            && self.tickets.is_empty();
        if !fits {
            let reason = format!(
                "frames from {start} do not continue the log at {}",
                self.end
            );
            out.push(Effect::Close(peer, reason));
            return;
        }
        for (epoch, at) in epochs {
            self.history.append(*epoch, *at);
        }
        self.end = end;
        out.push(Effect::Take(peer));
    }

    /// What every message of the leader carries besides frames.
    pub(super) fn leader_news(&mut self, peer: Peer, commit: Lsn, end: Lsn, out: &mut Vec<Effect>) {
        let now = self.now;
        let Some(following) = &mut self.following else {
            return;
        };
        if following.peer != Some(peer) || following.phase != Phase::Streaming {
            return;
        }
        following.heard_at = Some(now);
        following.leader_end = end;
        following.leader_commit = following.leader_commit.max(commit);
        following.backlog.get_or_insert(end);
        self.advance(out);
    }

    /// Grants the leader of the promised epoch the lease that it asks for, from now on. One that is
    /// longer than any before is noted durably first: a restart forgets to whom leases were
    /// granted, but not for how long they may run.
    pub(super) fn grant(&mut self, peer: Peer, sent_at: u64, lease_ms: u32, out: &mut Vec<Effect>) {
        let (now, hard) = (self.now, self.hard);
        let (saving, asked) = (self.saving, !self.tickets.is_empty());
        let over_by = |then| self.grants.over_by(then);
        let Some(following) = &mut self.following else {
            return;
        };
        let streaming = following.peer == Some(peer) && following.phase == Phase::Streaming;
        if !streaming || following.epoch != hard.promised {
            return;
        }
        let lease = Duration::from_millis(lease_ms.into());
        following.patience = lease;
        let shorter = lease_ms < hard.lease_ms && over_by(now + lease);
        if (lease_ms > hard.lease_ms || shorter) && saving.is_none() && !asked {
            let hard = HardState { lease_ms, ..hard };
            self.saving = Some(hard);
            out.push(Effect::Save(hard));
        }
        let noted = saving.map_or(hard.lease_ms, |saving| saving.lease_ms.min(hard.lease_ms));
        if lease_ms > noted || asked {
            return;
        }
        following.echo = following.echo.max(sent_at);
        following.granted_ms = lease_ms;
        let epoch = following.epoch;
        self.grants.grant(epoch, now + lease);
    }

    /// Whether the backlog is worked off, judged when the state or the leader's end has moved.
    /// `max_lag` is the bound, in bytes, beyond which a follower that `was` ready no longer is.
    /// While nothing is heard of a leader, it stays what it was.
    pub fn judge_ready(&mut self, was: bool, max_lag: u64) -> bool {
        let (applied, complete) = (self.applied, self.complete);
        let Some(following) = &mut self.following else {
            return was && complete;
        };
        let heard = following.phase == Phase::Streaming && following.leader_commit > Lsn::ZERO;
        if heard && complete {
            let lag = following.leader_end.since(applied);
            let worked_off = following.backlog.is_some_and(|end| applied >= end);
            following.ready = if was {
                lag <= max_lag.max(READY_LAG)
            } else {
                worked_off && lag <= READY_LAG
            };
        } else {
            following.ready = was && complete;
        }
        if heard && following.ready && following.epoch == self.hard.promised {
            // It has all that its leader has, and what it promised is durable again.
            self.forgotten = false;
        }
        following.ready
    }

    /// The acknowledgement to send now, if this replica takes frames.
    pub fn acknowledgement(&self) -> Option<(Peer, Message)> {
        let following = self.following.as_ref()?;
        let peer = following.peer?;
        if following.phase != Phase::Streaming || following.epoch != self.hard.promised {
            return None;
        }
        let ack = Message::Ack {
            durable: self.durable,
            applied: self.applied,
            ready: following.ready,
            complete: self.complete,
            echo: following.echo,
            lease_ms: following.granted_ms,
        };
        Some((peer, ack))
    }

    /// The connection to the leader is gone; the shell connects again by itself.
    pub(super) fn leader_lost(&mut self, peer: Peer, out: &mut Vec<Effect>) {
        let Some(following) = &mut self.following else {
            return;
        };
        if following.peer == Some(peer) {
            following.peer = None;
            following.phase = Phase::Down;
            out.push(Effect::Follow(following.leader));
        }
    }
}
