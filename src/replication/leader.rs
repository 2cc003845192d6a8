//! The leader's side: barriers, the handshake with followers, acknowledgements, leases.

use std::time::Duration;

use super::core::Core;
use super::lease;
use super::message::Message;
use super::progress::Follower;
use super::types::{Epoch, EpochHistory, Lsn, ReplicaId, StoreId};
use super::words::{Effect, Peer};

impl Core {
    /// Time passed: a leader that has waited for earlier leases appends its first barrier; one
    /// whose disk does not answer stops leading.
    pub(super) fn tick(&mut self, out: &mut Vec<Effect>) {
        self.grants.expire(self.now);
        self.watch_disk(out);
        self.settle_handover(out);
        let Some(leader) = &mut self.leader else {
            return;
        };
        let first = leader.first_barrier.is_none() && leader.barriers.is_empty();
        if first && self.now >= leader.wait_until {
            let version = self.configuration.version;
            leader.barriers.push((version, None));
            out.push(Effect::AppendBarrier {
                epoch: leader.epoch,
                version,
            });
        }
    }

    /// A frame of the own epoch is on its way to the log.
    pub(super) fn sealed(&mut self, end: Lsn, barrier: Option<(u64, Lsn)>) {
        let Some(leader) = &mut self.leader else {
            unreachable!("only a leader seals frames");
        };
        assert!(end > self.end, "a frame has records");
        if barrier.is_some_and(|(_, at)| at == end) {
            leader.leave_blank(self.end, end);
        }
        self.history.append(leader.epoch, self.end);
        self.end = end;
        if let Some((version, at)) = barrier {
            leader.first_barrier.get_or_insert(at);
            for entry in &mut leader.barriers {
                if entry.0 == version {
                    entry.1 = Some(at);
                }
            }
        }
    }

    /// A committed barrier makes its version established.
    pub(super) fn establish(&mut self) {
        let commit = self.commit;
        let Some(leader) = &mut self.leader else {
            return;
        };
        let mut established = self.established;
        leader.barriers.retain(|(version, at)| {
            let committed = at.is_some_and(|at| at <= commit);
            if committed {
                established = established.max(*version);
            }
            !committed
        });
        self.established = established;
    }

    pub(super) fn hello(
        &mut self,
        peer: Peer,
        id: ReplicaId,
        promised: Epoch,
        store: Option<StoreId>,
        out: &mut Vec<Effect>,
    ) {
        let foreign = self.foreign(store);
        let refuse = |epoch, reason: &str| {
            Effect::Send(
                peer,
                Message::Refuse {
                    epoch,
                    reason: reason.to_owned(),
                },
            )
        };
        let Some(leader) = &mut self.leader else {
            out.push(refuse(self.hard.promised, "this replica does not lead"));
            return;
        };
        if promised > leader.epoch {
            out.push(refuse(
                leader.epoch,
                "the follower has promised a later epoch",
            ));
            return;
        }
        if let Some(reason) = foreign {
            out.push(refuse(leader.epoch, &reason));
            return;
        }
        // One replica has one connection: an older one is half open, or that of a copy.
        let older = leader.followers.iter().filter(|(_, known)| known.id == id);
        let older: Vec<Peer> = older.map(|(peer, _)| *peer).collect();
        for peer in older {
            leader.followers.remove(&peer);
            out.push(Effect::Close(
                peer,
                "this follower has connected anew".to_owned(),
            ));
        }
        let follower = Follower {
            id,
            matched: false,
            whole: false,
            durable: Lsn::ZERO,
            applied: Lsn::ZERO,
            leased_until: Duration::ZERO,
            heard_at: None,
        };
        leader.followers.insert(peer, follower);
        out.push(Effect::Send(
            peer,
            Message::Welcome {
                id: self.id,
                epoch: leader.epoch,
                store: self.adopted.store,
            },
        ));
    }

    /// Why a disk of that store is none of this one's; `None` if it may be.
    pub(super) fn foreign(&self, store: Option<StoreId>) -> Option<String> {
        let (Some(theirs), Some(ours)) = (store, self.adopted.store) else {
            return None;
        };
        (theirs != ours)
            .then(|| format!("it belongs to the store {theirs}, and this replica to {ours}"))
    }

    /// The follower told its history: where does it go on, or must it be seeded?
    pub(super) fn follower_history(
        &mut self,
        peer: Peer,
        history: &EpochHistory,
        end: Lsn,
        flushed: Lsn,
        complete: bool,
        out: &mut Vec<Effect>,
    ) {
        let known = self
            .leader
            .as_ref()
            .is_some_and(|leader| leader.followers.contains_key(&peer));
        if !known {
            out.push(Effect::Close(peer, "history before hello".to_owned()));
            return;
        }
        let point = self.history.common_point(self.end, history, end);
        let reachable = complete && point >= self.oldest && point >= flushed && end > Lsn::ZERO;
        out.push(if reachable {
            Effect::SendResume { peer, point }
        } else {
            Effect::SendSeed { peer, point }
        });
    }

    /// The follower's log is not this one's, whatever its epochs say.
    pub(super) fn follower_parted(&mut self, peer: Peer, out: &mut Vec<Effect>) {
        let leader = self.leader.as_ref();
        if leader.is_some_and(|leader| leader.followers.contains_key(&peer)) {
            let point = Lsn::ZERO;
            out.push(Effect::SendSeed { peer, point });
        }
    }

    /// The follower's log ends at `from`, which lies in this leader's log.
    pub(super) fn follower_ready(&mut self, peer: Peer, from: Lsn, out: &mut Vec<Effect>) {
        let (end, oldest) = (self.end, self.oldest);
        let leader = self.leader.as_mut();
        let Some(follower) = leader.and_then(|leader| leader.followers.get_mut(&peer)) else {
            out.push(Effect::Close(peer, "ready before hello".to_owned()));
            return;
        };
        if from > end || from < oldest {
            let reason = format!("the log reaches from {oldest} to {end}, not to {from}");
            out.push(Effect::Close(peer, reason));
            return;
        }
        follower.matched = true;
        follower.durable = from;
        out.push(Effect::Stream { peer, from });
        self.advance(out);
    }

    pub(super) fn follower_ack(
        &mut self,
        peer: Peer,
        durable: Lsn,
        applied: Lsn,
        out: &mut Vec<Effect>,
    ) {
        let end = self.end;
        let leader = self.leader.as_mut();
        let Some(follower) = leader.and_then(|leader| leader.followers.get_mut(&peer)) else {
            return;
        };
        if durable > end || !follower.matched {
            out.push(Effect::Close(
                peer,
                format!("acknowledged {durable}, the log ends at {end}"),
            ));
            return;
        }
        follower.durable = follower.durable.max(durable);
        follower.applied = applied;
        self.advance(out);
        self.settle_handover(out);
    }

    /// A follower says whether it has a whole state: what only its log holds is of no use without.
    pub(super) fn follower_whole(&mut self, peer: Peer, complete: bool) {
        let leader = self.leader.as_mut();
        if let Some(it) = leader.and_then(|leader| leader.followers.get_mut(&peer)) {
            it.whole = complete;
        }
    }

    /// A follower echoes when a message was sent, and for how long it granted a lease when it came.
    pub(super) fn follower_lease(&mut self, peer: Peer, echo: u64, lease_ms: u32) {
        let now = self.now;
        let leader = self.leader.as_mut();
        let Some(follower) = leader.and_then(|leader| leader.followers.get_mut(&peer)) else {
            return;
        };
        follower.heard_at = Some(now);
        let sent_at = Duration::from_micros(echo);
        if lease_ms > 0 && sent_at <= now {
            let lease = Duration::from_millis(lease_ms.into());
            let until = sent_at + lease::believed(lease);
            follower.leased_until = follower.leased_until.max(until);
        }
    }

    pub(super) fn closed(&mut self, peer: Peer, out: &mut Vec<Effect>) {
        if let Some(leader) = &mut self.leader {
            leader.followers.remove(&peer);
        }
        self.leader_lost(peer, out);
    }
}
