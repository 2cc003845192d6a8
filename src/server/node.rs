//! The replica's state under its one lock, and the driver of the protocol core: inputs go in here,
//! effects come out and are handed to whoever carries them out. It must not do I/O itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{broadcast, watch};

use super::courtesy::Courtesy;
use super::data_dir::Adopted;
use super::forward::Queue;
use super::gate::Gate;
use super::inner::{Inner, Job, Parted, PeerCommand, Pending, Progress, Tip, Told, flushed_tip};
use super::lag::LagClock;
use super::room::Disk;
use super::tail::Tail;
use super::time::Time;
use super::uncommitted::Uncommitted;
use crate::env::Clock;
use crate::log::{Frame, Log};
use crate::replication::admin::{self, Divergent, ReplicaState, Settings};
use crate::replication::{Core, Effect, Input, Lsn, Peer, Position, ReplicaId};
use crate::store::{Cut, Store};

/// A replica.
pub(super) struct Node {
    pub(super) inner: Mutex<Inner>,
    /// Wakes the writer.
    pub(super) work: Condvar,
    /// Wakes the applier.
    pub(super) apply: Condvar,
    /// Wakes the upkeep.
    pub(super) upkeep: Condvar,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) id: ReplicaId,
    pub(super) progress: watch::Sender<Progress>,
    /// Counts changes that a status stream should tell.
    pub(super) changes: watch::Sender<u64>,
    /// Counts those that it must tell at once.
    pub(super) urgent: watch::Sender<u64>,
    /// Every state that this replica enters, in order: a stream must not miss a short one.
    pub(super) states: broadcast::Sender<ReplicaState>,
    /// Whom to follow.
    pub(super) follow: watch::Sender<Option<ReplicaId>>,
    /// Counts acknowledgements of followers: wakes WAIT.
    pub(super) follower_progress: watch::Sender<u64>,
    /// Wakes whoever sends acknowledgements.
    pub(super) acknowledge: tokio::sync::Notify,
    /// Wakes receivers that wait for the writer's queue to shrink, and writers that are stalled.
    pub(super) relief: tokio::sync::Notify,
    /// The leader asked for a seed on this connection.
    pub(super) seed_wanted: tokio::sync::Notify,
    next_peer: AtomicU64,
    /// Until when this leader may answer, in microseconds of the clock; 0 if it may not.
    pub(super) answers: AtomicU64,
    /// [`Inner::reign`], for those who have no time for the lock.
    pub(super) reign: AtomicU64,
    /// [`Inner::accepting`], likewise.
    pub(super) leads: AtomicBool,
    /// Commands of clients that the leader is to execute.
    pub(super) forward: Queue,
    /// Somebody has read what was never written: see [`Node::suspect`].
    pub(super) suspicion: Mutex<Option<String>>,
    /// This replica began or ceased to take writes.
    pub(super) role_changed: tokio::sync::Notify,
    /// What clients notice of work beside them.
    pub(super) courtesy: Courtesy,
    /// Keys that expired and were deleted by this replica as leader.
    pub(super) expired: AtomicU64,
}

impl Node {
    pub(super) fn new(core: Core, store: Option<Store>, parts: NodeParts) -> Self {
        let (end, released) = (core.end(), core.released());
        let forgotten = core.forgotten();
        let applied = store.as_ref().map_or(
            Tip {
                end: Lsn::ZERO,
                chain: 0,
            },
            flushed_tip,
        );
        let inner = Inner {
            core,
            store,
            pending: Pending::default(),
            sealing: false,
            accepting: false,
            holding: false,
            quiet: false,
            tip: Tip {
                end,
                chain: parts.chain,
            },
            applied,
            tail: Tail::within(parts.memory_budget),
            lag: LagClock::default(),
            time: Time::after(parts.time_ms),
            uncommitted: Uncommitted::default(),
            jobs: VecDeque::new(),
            queued: 0,
            gate: Gate::default(),
            to_wake: Vec::new(),
            reign: 0,
            rewinds: 0,
            begun: 0,
            shown: Position::default(),
            peers: HashMap::new(),
            follower_names: HashMap::new(),
            incoming: None,
            promises: HashMap::new(),
            next_ticket: 0,
            members: BTreeMap::new(),
            names: parts.names,
            claim: parts.claim,
            stamp: 0,
            settings: parts.settings,
            seed: None,
            keep_from: Lsn::ZERO,
            pins: BTreeMap::new(),
            flush_wanted: false,
            flush: None,
            cut: applied,
            snapshot_requests: Vec::new(),
            durable_of: BTreeMap::new(),
            applied_of: BTreeMap::new(),
            expiries_known: false,
            state: ReplicaState::Pending,
            seeds: 0,
            memory_budget: parts.memory_budget,
            damage: parts.damage,
            alone: parts.alone,
            forgotten,
            log_damage: None,
            repair_from: None,
            scrubs: 0,
            disk: Disk::default(),
            log: parts.log,
            message: parts.message,
            leaving: false,
            parted_at: None,
            divergent: parts.divergent,
            told: Told::default(),
            ready: false,
        };
        Self {
            inner: Mutex::new(inner),
            work: Condvar::new(),
            apply: Condvar::new(),
            upkeep: Condvar::new(),
            clock: parts.clock,
            id: parts.id,
            progress: watch::Sender::new(Progress { end, released }),
            changes: watch::Sender::new(0),
            urgent: watch::Sender::new(0),
            states: broadcast::Sender::new(64),
            follow: watch::Sender::new(None),
            follower_progress: watch::Sender::new(0),
            acknowledge: tokio::sync::Notify::new(),
            relief: tokio::sync::Notify::new(),
            seed_wanted: tokio::sync::Notify::new(),
            next_peer: AtomicU64::new(1),
            answers: AtomicU64::new(0),
            reign: AtomicU64::new(0),
            leads: AtomicBool::new(false),
            forward: Queue::new(),
            suspicion: Mutex::new(None),
            role_changed: tokio::sync::Notify::new(),
            courtesy: Courtesy::new(),
            expired: AtomicU64::new(0),
        }
    }

    /// Runs `f` under the lock, and wakes whom it released after the lock is free again.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.lock();
        let result = f(&mut inner);
        let woken = std::mem::take(&mut inner.to_wake);
        drop(inner);
        for waker in woken {
            waker.wake();
        }
        result
    }

    /// Waits under the lock until `ready` gives something or `timeout` is over.
    pub(super) fn wait<R>(
        &self,
        on: &Condvar,
        timeout: Duration,
        mut ready: impl FnMut(&mut Inner) -> Option<R>,
    ) -> Option<R> {
        let mut inner = self.inner.lock();
        let mut result = ready(&mut inner);
        if result.is_none() {
            on.wait_for(&mut inner, timeout);
            result = ready(&mut inner);
        }
        let woken = std::mem::take(&mut inner.to_wake);
        drop(inner);
        for waker in woken {
            waker.wake();
        }
        result
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The time by which deadlines of keys are judged, in milliseconds since 1970.
    #[inline]
    pub(super) fn judged_ms(&self, inner: &mut Inner) -> u64 {
        inner.time.now(self.clock.wall_ms(), || self.now())
    }

    pub(super) fn new_peer(&self) -> Peer {
        self.next_peer.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the core what happened and hands its effects on.
    pub(super) fn drive(&self, inner: &mut Inner, input: Input) {
        let now = self.now();
        let configured = matches!(input, Input::Configure(_));
        for effect in inner.core.step(input, now) {
            self.carry_out(inner, effect);
        }
        inner.incoming = None;
        self.watch_gate(inner, now, configured);
        self.tell_urgent(inner, now);
    }

    /// Tells the status streams without delay what the operator must hear of at once.
    fn tell_urgent(&self, inner: &mut Inner, now: Duration) {
        let told = Told {
            leading: inner.core.leading(),
            answers: inner.core.answers_until() > now,
            leader_heard: inner.core.leader_heard(),
            leaving: inner.leaving,
            promised: inner.core.promised(),
        };
        if std::mem::replace(&mut inner.told, told) != told {
            self.urgent();
        }
    }

    /// As [`Self::changed`], without delay.
    pub(super) fn urgent(&self) {
        self.urgent.send_modify(|count| *count += 1);
    }

    /// Tells the core, once it has asked, that nothing is on its way to be sealed.
    pub(super) fn say_quiet(&self, inner: &mut Inner) {
        let pending = inner.sealing || inner.pending.records > 0;
        if inner.holding && !inner.quiet && !pending {
            inner.quiet = true;
            self.drive(inner, Input::Quiet);
        }
    }

    fn carry_out(&self, inner: &mut Inner, effect: Effect) {
        match effect {
            Effect::Save(hard) => self.enqueue(inner, Job::Save(hard)),
            Effect::Adopt(configuration) => {
                let members = inner.members.values();
                let names = admin::names(&configuration, members, &inner.names);
                inner.names.clone_from(&names);
                let adopted = Adopted {
                    configuration,
                    names,
                };
                self.enqueue(inner, Job::Adopt(adopted));
            }
            Effect::AppendBarrier { epoch, version } => {
                self.enqueue(inner, Job::Barrier { epoch, version });
            }
            Effect::Truncate(to) => self.enqueue(inner, Job::Truncate(to)),
            Effect::AnswerPromise {
                ticket,
                granted,
                before,
                leases,
            } => {
                self.answer_promise(inner, ticket, granted, before, &leases);
            }
            Effect::Refuse { ticket, reason } => {
                tracing::info!(reason, "refuses what the operator asks for");
                if let Some(answer) = inner.promises.remove(&ticket) {
                    let _ = answer.send(Err(reason));
                }
            }
            Effect::Hold => {
                tracing::info!("holds client commands: makes room for another leader");
                inner.holding = true;
                self.work.notify_one();
            }
            Effect::Resume => self.resume(inner),
            Effect::Beat => self.enqueue(inner, Job::Beat),
            Effect::Lead(epoch) => {
                tracing::info!(%epoch, "leads");
                // What followers of an earlier reign had, they may have been told to cut since.
                inner.durable_of.clear();
                inner.applied_of.clear();
                inner.lag.clear();
                inner.time.forget_leader();
                inner.uncommitted.begin(inner.applied);
                // Whoever is behind has been so since now, for all that this leader knows.
                inner.lag.note(Lsn::ZERO, self.now());
                self.apply.notify_all();
                self.changed();
            }
            Effect::StepDown => self.step_down(inner),
            Effect::Follow(leader) => {
                inner.time.forget_leader();
                self.follow
                    .send_if_modified(|follow| follow.replace(leader) != Some(leader));
                self.changed();
            }
            Effect::Unfollow => {
                self.follow
                    .send_if_modified(|follow| follow.take().is_some());
            }
            Effect::Send(peer, message) => tell(inner, peer, PeerCommand::Send(message)),
            Effect::Stream { peer, from } => tell(inner, peer, PeerCommand::Stream(from)),
            Effect::SendResume { peer, point } => tell(inner, peer, PeerCommand::Resume(point)),
            Effect::SendSeed { peer, point } => tell(inner, peer, PeerCommand::Seed(point)),
            Effect::Compare { peer, point, chain } => {
                tell(inner, peer, PeerCommand::Compare(point, chain));
            }
            Effect::Close(peer, reason) => tell(inner, peer, PeerCommand::Close(reason)),
            Effect::Take(_) => self.take(inner),
            Effect::FetchSeed { point, chain, .. } => {
                inner.parted_at = Some(Parted { point, chain });
                inner.ready = false;
                inner.seeds += 1;
                self.note_state(inner);
                self.seed_wanted.notify_one();
                self.changed();
            }
            Effect::Commit(_) => {} // what follows from it follows from its release
            Effect::Release(lsn) => self.released_to(inner, lsn),
        }
    }

    pub(super) fn enqueue(&self, inner: &mut Inner, job: Job) {
        inner.jobs.push_back(job);
        self.work.notify_one();
    }

    /// Takes client commands again.
    pub(super) fn resume(&self, inner: &mut Inner) {
        inner.holding = false;
        inner.quiet = false;
        self.relief.notify_waiters();
    }

    /// A frame of this leader is complete: it goes to followers and to the log at once.
    pub(super) fn seal(&self, inner: &mut Inner, frame: &Frame, barrier: Option<(u64, Lsn)>) {
        inner.lag.note(frame.start(), self.now());
        inner.tip = Tip {
            end: frame.end(),
            chain: frame.chain(),
        };
        inner.uncommitted.push(inner.tip);
        inner.tail.push(frame.clone());
        self.drive(
            inner,
            Input::Sealed {
                end: frame.end(),
                barrier,
            },
        );
        self.publish(inner);
    }

    /// Cuts the state for a flush, if it stands at the end of a frame. `true` if it was cut.
    pub(super) fn cut(&self, inner: &mut Inner) -> bool {
        let at = if inner.accepting {
            if inner.pending.records > 0 || inner.sealing {
                return false;
            }
            inner.tip
        } else {
            inner.applied
        };
        let mut history = inner.core.history().clone();
        history.truncate(at.end);
        let Some(store) = &mut inner.store else {
            return false;
        };
        assert_eq!(store.applied(), at.end, "the state is cut where it stands");
        let cut = Cut {
            history,
            chain: at.chain,
        };
        inner.flush = store.seal(cut);
        inner.cut = at;
        inner.flush_wanted = inner.flush.is_none();
        self.upkeep.notify_all();
        inner.flush.is_some()
    }

    /// Takes the frames that came from the leader.
    pub(super) fn take(&self, inner: &mut Inner) {
        let frames = inner.incoming.take().unwrap_or_default();
        let now = self.now();
        for frame in &frames {
            inner.lag.note(frame.start(), now);
            inner.tip = Tip {
                end: frame.end(),
                chain: frame.chain(),
            };
            inner.queued += frame.wire_len();
            inner.time.hear(frame.time_ms());
            inner.tail.push(frame.clone());
        }
        self.enqueue(inner, Job::Append(frames));
    }

    fn released_to(&self, inner: &mut Inner, lsn: Lsn) {
        // Where it stops leading it goes back to there.
        inner.uncommitted.committed(lsn);
        if let Some(store) = &mut inner.store {
            store.committed(lsn);
        }
        let leased = self.leased_in_step(inner);
        inner.gate.released(lsn, leased, &mut inner.to_wake);
        self.publish(inner);
        if inner.core.leading().is_none() {
            self.apply.notify_all();
        }
        if inner.flush.is_some() {
            self.upkeep.notify_all();
        }
    }

    /// Judges anew whether this follower is ready.
    pub(super) fn judge(&self, inner: &mut Inner) {
        if inner.comes_forward() {
            tracing::info!(applied = %inner.applied.end, "the state is where it was");
            self.changed();
        }
        let ready = inner.core.judge_ready(inner.ready, inner.settings.max_lag);
        if ready != inner.ready {
            inner.ready = ready;
            tracing::info!(ready, applied = %inner.applied.end, "readiness changed");
            self.changed();
        }
        if inner.forgotten && !inner.core.forgotten() {
            inner.forgotten = false;
            self.enqueue(inner, Job::Remember);
        }
        self.note_state(inner);
    }
}

/// What a node is made of besides its core and its store.
pub(super) struct NodeParts {
    pub(super) id: ReplicaId,
    pub(super) chain: u32,
    /// Of the log's last frame.
    pub(super) time_ms: u64,
    pub(super) settings: Settings,
    pub(super) memory_budget: u64,
    pub(super) divergent: Option<Divergent>,
    pub(super) names: BTreeMap<ReplicaId, String>,
    pub(super) claim: Option<String>,
    pub(super) damage: Option<String>,
    /// What is told until a seed is installed.
    pub(super) message: String,
    pub(super) alone: bool,
    pub(super) log: Log,
    pub(super) clock: Arc<dyn Clock>,
}

fn tell(inner: &mut Inner, peer: Peer, command: PeerCommand) {
    if let Some(handle) = inner.peers.get(&peer) {
        let _ = handle.send(command); // a task that ended says `Closed` by itself
    }
}
