//! The state of one replica in the protocol, and the dispatch of [`Core::step`].

use std::time::Duration;

use super::handover::Handover;
use super::lease::Grants;
use super::message::Message;
use super::progress::Leader;
use super::types::{Configuration, Epoch, EpochHistory, Lsn, ReplicaId};
use super::words::{Effect, HardState, Input, Peer, Recovered};

/// The protocol state of one replica.
#[derive(Clone, Debug, Hash)]
pub struct Core {
    pub(super) id: ReplicaId,
    pub(super) hard: HardState,
    /// What is on its way to disk; nothing else may be saved meanwhile.
    pub(super) saving: Option<HardState>,
    pub(super) history: EpochHistory,
    /// End of the log, frames on their way to disk included.
    pub(super) end: Lsn,
    pub(super) durable: Lsn,
    pub(super) oldest: Lsn,
    pub(super) flushed: Lsn,
    pub(super) applied: Lsn,
    pub(super) complete: bool,
    /// What this replica has promised or acknowledged is not all known to it any more.
    pub(super) forgotten: bool,
    pub(super) commit: Lsn,
    /// Replies may rest on records up to here; a follower's commit LSN, see [`release`](super::release).
    pub(super) released: Lsn,
    /// Followers that must hold what a reply rests on.
    pub(super) reply_sync: u32,
    /// The configuration by which it acts: the adopted one, once it was handed over in this life.
    pub(super) configuration: Configuration,
    /// The last configuration that is on disk.
    pub(super) adopted: Configuration,
    /// One that is on its way to disk.
    pub(super) adopting: Option<Configuration>,
    /// A later one that waits for that.
    pub(super) to_adopt: Option<Configuration>,
    pub(super) established: u64,
    pub(super) leader: Option<Leader>,
    pub(super) following: Option<Following>,
    /// The log is being cut: until that is done, nothing is said about its end.
    pub(super) truncating: bool,
    /// The epoch that an operator was promised by this very process: the only one that it may begin.
    pub(super) pledged: Option<Epoch>,
    /// The epoch whose mark this process is making, or made, and has not led in yet.
    pub(super) begin_mark: Option<Epoch>,
    /// Promise requests that wait for the log to be quiet and the promise to be durable.
    pub(super) tickets: Vec<Ticket>,
    /// The leases that this replica has granted.
    pub(super) grants: Grants,
    /// The leases that it asks for as leader.
    pub(super) lease: Duration,
    /// The promise to make once the target of a switchover has everything.
    pub(super) handover: Option<Handover>,
    /// The disk did not answer, and this replica stopped leading for it.
    pub(super) stalled: bool,
    pub(super) now: Duration,
}

/// A request for a promise.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Ticket {
    pub(super) epoch: Epoch,
    pub(super) number: u64,
    /// What was promised when it was asked.
    pub(super) before: Epoch,
}

/// The state of a follower towards its leader.
#[derive(Clone, Debug, Hash)]
pub(super) struct Following {
    pub(super) leader: ReplicaId,
    pub(super) epoch: Epoch,
    pub(super) peer: Option<Peer>,
    pub(super) phase: Phase,
    /// Newest `sent_at` of the leader on this connection.
    pub(super) echo: u64,
    /// The lease granted for that message, in milliseconds.
    pub(super) granted_ms: u32,
    /// When something was last heard of the leader.
    pub(super) heard_at: Option<Duration>,
    /// How long this follower's leader may be silent before it is held to be lost.
    pub(super) patience: Duration,
    pub(super) leader_end: Lsn,
    pub(super) leader_commit: Lsn,
    /// The leader's end when this follower began to catch up: the backlog reaches to there.
    pub(super) backlog: Option<Lsn>,
    pub(super) ready: bool,
}

/// How far the handshake on the present connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Not connected.
    Down,
    /// `Hello` sent.
    Greeted,
    /// Waiting for the promise to be durable.
    Promising,
    /// `History` sent.
    Told,
    /// The leader's log is being compared with the own one.
    Comparing,
    /// They are equal up to here: what is beyond goes once it is on disk by whose word.
    Resuming(Lsn),
    /// The log is being cut.
    Truncating,
    /// A seed is to take the place of the log, once it is on disk by whose word.
    Parting(Lsn, Option<u32>),
    /// The log is being reset for a seed; what it holds after this is in no other one.
    Resetting(Lsn),
    /// Takes frames.
    Streaming,
}

impl Core {
    /// The state after a start: a voter or learner that leads nobody and follows nobody.
    pub fn new(id: ReplicaId, found: Recovered, now: Duration) -> Self {
        assert!(
            found.flushed <= found.end,
            "the state is never ahead of the log"
        );
        Self {
            id,
            hard: found.hard,
            saving: None,
            history: found.history,
            end: found.end,
            durable: found.end,
            oldest: found.oldest,
            flushed: found.flushed,
            applied: found.flushed,
            complete: found.complete,
            forgotten: found.forgotten,
            commit: found.flushed,
            released: found.flushed,
            reply_sync: 0,
            configuration: Configuration::default(),
            adopted: found.adopted,
            adopting: None,
            to_adopt: None,
            established: 0,
            leader: None,
            following: None,
            truncating: false,
            pledged: None,
            begin_mark: None,
            tickets: Vec::new(),
            grants: Grants::restarted(now, Duration::from_millis(found.hard.lease_ms.into())),
            lease: Duration::from_secs(1),
            handover: None,
            stalled: false,
            now,
        }
    }

    /// Takes what happened at monotonic time `now`, answers what must be done.
    pub fn step(&mut self, input: Input, now: Duration) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut effects = Vec::new();
        let out = &mut effects;
        match input {
            Input::Configure(configuration) => self.configure(configuration, out),
            Input::Promise { epoch, ticket, to } => self.promise(epoch, ticket, to, out),
            Input::Switchover {
                epoch,
                target,
                within,
                ticket,
                to,
            } => {
                if let Some(reason) = self.refuses_promise(epoch, to) {
                    out.push(Effect::Refuse { ticket, reason });
                } else {
                    self.switchover(epoch, target, within, ticket, out);
                }
            }
            Input::Quiet => self.quiet(out),
            Input::SetLease(lease) => self.lease = lease,
            Input::SetReplySync(followers) => {
                self.reply_sync = followers;
                self.release(out);
            }
            Input::Beat => self.disk_answered(),
            Input::Saved(hard) => self.saved(hard, out),
            Input::Adopted(configuration) => self.adopted(configuration, out),
            Input::Compared { peer, point, equal } => self.compared(peer, point, equal, out),
            Input::Sealed { end, barrier } => self.sealed(end, barrier),
            Input::Durable(lsn) => self.made_durable(lsn, out),
            Input::Truncated(to) => self.truncated(to, out),
            Input::LogReset {
                at,
                oldest,
                history,
            } => self.log_reset(at, oldest, history, out),
            Input::Flushed(lsn) => self.flushed = self.flushed.max(lsn),
            Input::SeedInstalled(lsn) => self.seed_installed(lsn, out),
            Input::Trimmed(lsn) => self.oldest = self.oldest.max(lsn),
            Input::Applied(lsn) => self.applied = lsn,
            Input::Tick => self.tick(out),
            Input::Connected(peer) => self.connected(peer, out),
            Input::Received(peer, message) => self.received(peer, message, out),
            Input::Frames {
                peer,
                start,
                epochs,
                end,
            } => {
                self.frames(peer, start, &epochs, end, out);
            }
            Input::Closed(peer) => self.closed(peer, out),
        }
        self.check();
        effects
    }

    fn received(&mut self, peer: Peer, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::Hello {
                id,
                promised,
                store,
                ..
            } => self.hello(peer, id, promised, store, out),
            Message::History {
                history,
                end,
                flushed,
                complete,
            } => {
                self.follower_history(peer, &history, end, flushed, complete, out);
            }
            Message::Ready { from } => self.follower_ready(peer, from, out),
            Message::Ack {
                durable,
                applied,
                complete,
                echo,
                lease_ms,
                ..
            } => {
                self.follower_whole(peer, complete);
                self.follower_lease(peer, echo, lease_ms);
                self.follower_ack(peer, durable, applied, out);
            }
            Message::Welcome { id, epoch, store } => self.welcome(peer, id, epoch, store, out),
            Message::Refuse { reason, .. } => {
                if self.is_leader_peer(peer) {
                    out.push(Effect::Close(peer, reason));
                }
            }
            Message::Resume { point, chain } => self.resume(peer, point, chain, out),
            Message::Parted => self.follower_parted(peer, out),
            Message::Seed { point, chain } => self.seed(peer, point, chain, out),
            Message::Append {
                commit,
                end,
                sent_at,
                lease_ms,
                ..
            }
            | Message::Heartbeat {
                commit,
                end,
                sent_at,
                lease_ms,
                ..
            } => {
                self.leader_news(peer, commit, end, out);
                self.grant(peer, sent_at, lease_ms, out);
            }
            other => out.push(Effect::Close(peer, format!("unexpected message {other:?}"))),
        }
    }

    fn made_durable(&mut self, lsn: Lsn, out: &mut Vec<Effect>) {
        assert!(lsn <= self.end, "durable {lsn} beyond the end {}", self.end);
        self.durable = self.durable.max(lsn);
        self.disk_answered();
        self.settle_promises(out);
        if self.saving.is_none() && self.leader.is_none() {
            self.settle_role(out);
            self.promise_durable(out);
        }
        self.advance(out);
        self.settle_handover(out);
    }

    /// Moves the commit LSN, and what replies may rest on, as far as they go.
    pub(super) fn advance(&mut self, out: &mut Vec<Effect>) {
        self.advance_commit(out);
        self.release(out);
    }

    /// Moves the commit LSN as far as the rule of this replica's role allows.
    fn advance_commit(&mut self, out: &mut Vec<Effect>) {
        let to = if let Some(leader) = &self.leader {
            let Some(first) = leader.first_barrier else {
                return;
            };
            let to = leader.committable(self.id, &self.configuration, self.durable);
            if to < first {
                return;
            }
            to
        } else if let Some(following) = &self.following {
            if following.phase != Phase::Streaming {
                return;
            }
            following.leader_commit.min(self.durable)
        } else {
            return;
        };
        if to > self.commit {
            self.commit = to;
            out.push(Effect::Commit(to));
            self.establish();
        }
    }

    fn check(&self) {
        assert!(self.durable <= self.end, "durable <= end");
        assert!(self.commit <= self.durable, "commit <= durable");
        assert!(self.released <= self.commit, "released <= commit");
        assert!(
            self.leader.is_some() || self.released == self.commit,
            "only a leader knows of more than is released"
        );
        assert!(
            self.leader.is_none() || self.following.is_none(),
            "a leader follows nobody"
        );
        if let Some(leader) = &self.leader {
            assert!(
                leader.epoch >= self.hard.promised,
                "a leader has promised nothing higher"
            );
            assert!(
                leader.epoch == self.hard.begun,
                "a leader's epoch carries its mark"
            );
        }
    }
}
