//! The state of one replica in the protocol, and the dispatch of [`Core::step`].

use std::time::Duration;

use super::handover::Handover;
use super::lease::{Grants, Lease};
use super::message::Message;
use super::progress::Leader;
use super::types::{Configuration, Epoch, EpochHistory, Lsn, Position, ReplicaId};

/// What a replica must never forget, besides its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Highest epoch promised: nothing of any epoch below it is taken or acknowledged.
    pub promised: Epoch,
    /// Highest epoch begun as leader: an epoch belongs to one process.
    pub begun: Epoch,
    /// The longest lease granted lately, in milliseconds: after a restart nobody knows to whom.
    pub lease_ms: u32,
}

/// What a restarted replica finds on its disk.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The saved hard state.
    pub hard: HardState,
    /// Epochs of the log.
    pub history: EpochHistory,
    /// End of the durable log.
    pub end: Lsn,
    /// Where the kept log begins.
    pub oldest: Lsn,
    /// LSN of the state on disk; it is committed.
    pub flushed: Lsn,
    /// Whether there is a whole state (an empty one of a new store counts).
    pub complete: bool,
}

/// A connection to another replica, named by the shell.
pub type Peer = u64;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The operator handed over the register.
    Configure(Configuration),
    /// The operator asks for a promise; the answer carries the ticket.
    Promise {
        /// The epoch asked for.
        epoch: Epoch,
        /// Names the request.
        ticket: u64,
    },
    /// The operator wants this leader to make room for `target`: to take no more writes, wait
    /// until the target has everything, and promise. The answer carries the ticket.
    Switchover {
        /// The epoch to promise.
        epoch: Epoch,
        /// Who is to lead.
        target: ReplicaId,
        /// The leader gives up and leads on after this long.
        within: Duration,
        /// Names the request.
        ticket: u64,
    },
    /// After [`Effect::Hold`]: everything that was executed is sealed.
    Quiet,
    /// The length of the leases to ask for from now on.
    SetLease(Duration),
    /// After [`Effect::Beat`]: something was written durably.
    Beat,
    /// This hard state is on disk.
    Saved(HardState),
    /// Leader: a frame of the own epoch up to `end` is on its way to the log. `barrier` is the
    /// version of the barrier in it, if any, with the barrier's end.
    Sealed {
        /// End of the frame.
        end: Lsn,
        /// The barrier in it.
        barrier: Option<(u64, Lsn)>,
    },
    /// The log is durable up to here.
    Durable(Lsn),
    /// The log was truncated to here, durably.
    Truncated(Lsn),
    /// The log was thrown away and begins here, durably: a seed began.
    LogReset {
        /// The end of the log now: the beginning, or further on if the seed was begun before.
        at: Lsn,
        /// The beginning.
        oldest: Lsn,
        /// Epochs up to there.
        history: EpochHistory,
    },
    /// The state was brought to disk at this LSN.
    Flushed(Lsn),
    /// The seed is installed: there is a whole state at this LSN.
    SeedInstalled(Lsn),
    /// The log begins here now: older segments were freed.
    Trimmed(Lsn),
    /// The state has been brought up to here (for acknowledgements).
    Applied(Lsn),
    /// Time passed.
    Tick,
    /// The connection that [`Effect::Follow`] asked for is up.
    Connected(Peer),
    /// A message came in.
    Received(Peer, Message),
    /// Follower: frames that came with an `Append` were read whole. They continue one another.
    Frames {
        /// The connection.
        peer: Peer,
        /// Where the first one starts.
        start: Lsn,
        /// Epoch and start of each epoch in them, ascending.
        epochs: Vec<(Epoch, Lsn)>,
        /// Where the last one ends.
        end: Lsn,
    },
    /// A connection is gone.
    Closed(Peer),
}

/// What must be done. The order matters: a shell carries effects out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable, then say [`Input::Saved`].
    Save(HardState),
    /// Answer the operator's request.
    AnswerPromise {
        /// The request.
        ticket: u64,
        /// Whether its epoch is promised now.
        granted: bool,
        /// Leases to leaders of lower epochs that may still run.
        leases: Vec<Lease>,
    },
    /// Answer a request for a switchover: it comes to nothing.
    RefuseSwitchover {
        /// The request.
        ticket: u64,
        /// For people.
        reason: String,
    },
    /// Take no client writes for a moment, and say [`Input::Quiet`] once all are sealed.
    Hold,
    /// Take client writes again.
    Resume,
    /// Write something durably, however little, and say [`Input::Beat`]: is the disk alive?
    Beat,
    /// Begin to lead: take client writes once the barrier is sealed.
    Lead(Epoch),
    /// Append a barrier of this version as a frame of its own.
    AppendBarrier {
        /// Epoch of the frame.
        epoch: Epoch,
        /// Version of the configuration.
        version: u64,
    },
    /// Stop leading: take no client write, drop what is not sealed.
    StepDown,
    /// Connect to this replica, and to no other.
    Follow(ReplicaId),
    /// Close the connection to the leader.
    Unfollow,
    /// Send a message.
    Send(Peer, Message),
    /// Leader: send the follower everything after this, and what comes.
    Stream {
        /// The connection.
        peer: Peer,
        /// The end of its log.
        from: Lsn,
    },
    /// Close a connection; it is not good for anything.
    Close(Peer, String),
    /// Cut the log here durably, then say [`Input::Truncated`].
    Truncate(Lsn),
    /// Follower: the frames may be appended to the log.
    Take(Peer),
    /// Fetch a snapshot from the leader: reset the log at its LSN and say [`Input::LogReset`].
    FetchSeed {
        /// The connection to the leader.
        peer: Peer,
        /// What the log holds after this is in no other one.
        point: Lsn,
    },
    /// Records up to here are committed.
    Commit(Lsn),
}

/// The protocol state of one replica.
#[derive(Clone, Debug)]
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
    pub(super) commit: Lsn,
    pub(super) configuration: Configuration,
    pub(super) established: u64,
    pub(super) leader: Option<Leader>,
    pub(super) following: Option<Following>,
    /// The log is being cut: until that is done, nothing is said about its end.
    pub(super) truncating: bool,
    /// The epoch whose mark this process is making, or made, and has not led in yet.
    pub(super) begin_mark: Option<Epoch>,
    /// Promise requests that wait for the log to be quiet and the promise to be durable.
    pub(super) tickets: Vec<(Epoch, u64)>,
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

/// The state of a follower towards its leader.
#[derive(Clone, Debug)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not connected.
    Down,
    /// `Hello` sent.
    Greeted,
    /// Waiting for the promise to be durable.
    Promising,
    /// `History` sent.
    Told,
    /// The log is being cut.
    Truncating,
    /// The log is being reset for a seed.
    Resetting,
    /// Takes frames.
    Streaming,
}

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
    /// Version of the adopted configuration.
    pub version: u64,
    /// Highest version under which a barrier was committed here.
    pub established: u64,
    /// The last durable record.
    pub last: Position,
    /// End of the log, not durable frames included.
    pub end: Lsn,
    /// Committed up to here.
    pub commit: Lsn,
    /// The leader's end as last heard, for a follower.
    pub leader_end: Lsn,
    /// Whether frames flow from the leader.
    pub streaming: bool,
    /// Whether the backlog has been worked off.
    pub ready: bool,
    /// Whether there is a whole state.
    pub complete: bool,
    /// Followers, if this replica leads.
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
            commit: found.flushed,
            configuration: Configuration::default(),
            established: 0,
            leader: None,
            following: None,
            truncating: false,
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
            Input::Promise { epoch, ticket } => self.promise(epoch, ticket, out),
            Input::Switchover {
                epoch,
                target,
                within,
                ticket,
            } => self.switchover(epoch, target, within, ticket, out),
            Input::Quiet => self.quiet(out),
            Input::SetLease(lease) => self.lease = lease,
            Input::Beat => self.disk_answered(),
            Input::Saved(hard) => self.saved(hard, out),
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
            Message::Hello { id, promised, .. } => self.hello(peer, id, promised, out),
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
                echo,
                lease_ms,
                ..
            } => {
                self.follower_lease(peer, echo, lease_ms);
                self.follower_ack(peer, durable, applied, out);
            }
            Message::Welcome { id, epoch } => self.welcome(peer, id, epoch, out),
            Message::Refuse { reason, .. } => {
                if self.is_leader_peer(peer) {
                    out.push(Effect::Close(peer, reason));
                }
            }
            Message::Resume { point } => self.resume(peer, point, out),
            Message::Seed { point } => self.seed(peer, point, out),
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
        self.advance_commit(out);
        self.settle_handover(out);
    }

    /// Moves the commit LSN as far as the rule of this replica's role allows.
    pub(super) fn advance_commit(&mut self, out: &mut Vec<Effect>) {
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

    /// Epochs of the log.
    pub fn history(&self) -> &EpochHistory {
        &self.history
    }

    /// End of the log, frames on their way to disk included.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// The adopted configuration.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Where the kept log begins.
    pub fn oldest(&self) -> Lsn {
        self.oldest
    }

    /// Whether the leader told this follower to fetch a snapshot, and it has not begun to.
    pub fn wants_seed(&self) -> bool {
        self.following
            .as_ref()
            .is_some_and(|following| following.phase == Phase::Resetting)
    }

    /// Whether this replica leads, and in which epoch.
    pub fn leading(&self) -> Option<Epoch> {
        self.leader.as_ref().map(|leader| leader.epoch)
    }
}
