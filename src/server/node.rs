//! The replica's state under its one lock, and the driver of the protocol core: inputs go in here,
//! effects come out and are handed to whoever carries them out. It must not do I/O itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, oneshot, watch};

use super::lag::LagClock;
use super::tail::Tail;
use crate::env::Clock;
use crate::log::Frame;
use crate::replication::admin::{Member, PromiseAnswer, SeedProgress, Settings};
use crate::replication::message::{Message, SeedManifest};
use crate::replication::{
    Core, Effect, Epoch, EpochHistory, HardState, Input, Lsn, Peer, ReplicaId,
};
use crate::store::{Cut, FlushJob, Record, Store};

/// Frames up to this many bytes stay in memory for senders and the applier.
const TAIL_BYTES: usize = 64 << 20;

/// Work for the log's writer, in order.
#[derive(Debug)]
pub(super) enum Job {
    Save(HardState),
    Append(Vec<Frame>),
    Barrier {
        epoch: Epoch,
        version: u64,
    },
    Truncate(Lsn),
    Reset {
        at: Lsn,
        history: EpochHistory,
        chain: u32,
        done: oneshot::Sender<()>,
    },
}

/// What the task of a connection to another replica is told.
#[derive(Debug)]
pub(super) enum PeerCommand {
    Send(Message),
    Stream(Lsn),
    Close(String),
}

/// The end of a chain of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) end: Lsn,
    pub(super) chain: u32,
}

/// How far the log and the commit LSN have come: wakes the senders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) end: Lsn,
    pub(super) commit: Lsn,
}

/// A leader's records that are not sealed into a frame yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// End of everything that was handed to the writer.
    pub(super) start: Lsn,
    pub(super) buffer: Vec<u8>,
    pub(super) records: u32,
}

/// Everything under the lock.
pub(super) struct Inner {
    pub(super) core: Core,
    /// `None` while a seed is under way.
    pub(super) store: Option<Store>,
    /// Name of the directory that the store lives in.
    pub(super) state_dir: String,
    pub(super) pending: Pending,
    /// The writer holds records that it took from `pending` and has not sealed yet.
    pub(super) sealing: bool,
    /// Client writes may be appended: this replica leads, its barrier is sealed.
    pub(super) accepting: bool,
    /// End of the newest frame, on disk or on its way.
    pub(super) tip: Tip,
    /// The state is the one at this end of a frame; on a leader it runs ahead with `pending`.
    pub(super) applied: Tip,
    pub(super) tail: Tail,
    pub(super) lag: LagClock,
    pub(super) jobs: VecDeque<Job>,
    /// Bytes of frames in `jobs`.
    pub(super) queued: usize,
    waiters: BTreeMap<(Lsn, u64), Waker>,
    to_wake: Vec<Waker>,
    /// Rises whenever this replica stops leading: what was executed before may vanish.
    pub(super) reign: u64,
    /// Rises whenever the state was brought back, or replaced.
    pub(super) rewinds: u64,
    pub(super) peers: HashMap<Peer, mpsc::UnboundedSender<PeerCommand>>,
    pub(super) follower_names: HashMap<ReplicaId, String>,
    /// Frames that came with the input that is being driven.
    pub(super) incoming: Option<Vec<Frame>>,
    pub(super) promises: HashMap<u64, oneshot::Sender<PromiseAnswer>>,
    pub(super) next_ticket: u64,
    pub(super) members: BTreeMap<ReplicaId, Member>,
    pub(super) settings: Settings,
    pub(super) seed: Option<SeedProgress>,
    /// Followers keep their log from here on, as the leader says.
    pub(super) keep_from: Lsn,
    /// Log positions that seeds under way need.
    pub(super) pins: BTreeMap<u64, Lsn>,
    /// The upkeep wants the state cut for a flush at the next end of a frame.
    pub(super) flush_wanted: bool,
    /// A cut that waits to be committed before it is brought to disk.
    pub(super) flush: Option<FlushJob>,
    /// Where the newest cut is.
    pub(super) cut: Tip,
    /// Followers that wait for a snapshot.
    pub(super) snapshot_requests: Vec<oneshot::Sender<Result<SeedManifest, String>>>,
    /// Up to where each member's log was durable when this leader last heard of it.
    pub(super) durable_of: BTreeMap<ReplicaId, Lsn>,
    /// Keys that expire are known, those that were flushed before the start included.
    pub(super) expiries_known: bool,
    /// Bytes that the data may take in memory.
    pub(super) memory_budget: u64,
    pub(super) disk_low: bool,
    pub(super) disk_used_percent: u8,
    /// Bytes of log that may be kept for others, as the size of the disk bounds it.
    pub(super) log_bound: u64,
    pub(super) message: String,
    /// Whether the follower has been ready since its last seed or start.
    pub(super) ready: bool,
}

/// A replica.
pub(super) struct Node {
    inner: Mutex<Inner>,
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
    commit: AtomicU64,
}

/// This replica stopped leading before what the reply rests on was committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deposed;

impl Node {
    pub(super) fn new(core: Core, store: Option<Store>, parts: NodeParts) -> Self {
        let (end, commit) = (core.end(), core.commit());
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
            state_dir: parts.state_dir,
            pending: Pending::default(),
            sealing: false,
            accepting: false,
            tip: Tip {
                end,
                chain: parts.chain,
            },
            applied,
            tail: Tail::new(TAIL_BYTES),
            lag: LagClock::default(),
            jobs: VecDeque::new(),
            queued: 0,
            waiters: BTreeMap::new(),
            to_wake: Vec::new(),
            reign: 0,
            rewinds: 0,
            peers: HashMap::new(),
            follower_names: HashMap::new(),
            incoming: None,
            promises: HashMap::new(),
            next_ticket: 0,
            members: BTreeMap::new(),
            settings: parts.settings,
            seed: None,
            keep_from: Lsn::ZERO,
            pins: BTreeMap::new(),
            flush_wanted: false,
            flush: None,
            cut: applied,
            snapshot_requests: Vec::new(),
            durable_of: BTreeMap::new(),
            expiries_known: false,
            memory_budget: parts.memory_budget,
            disk_low: false,
            disk_used_percent: 0,
            log_bound: u64::MAX,
            message: String::new(),
            ready: false,
        };
        Self {
            inner: Mutex::new(inner),
            work: Condvar::new(),
            apply: Condvar::new(),
            upkeep: Condvar::new(),
            clock: parts.clock,
            id: parts.id,
            progress: watch::Sender::new(Progress { end, commit }),
            changes: watch::Sender::new(0),
            follow: watch::Sender::new(None),
            follower_progress: watch::Sender::new(0),
            acknowledge: tokio::sync::Notify::new(),
            relief: tokio::sync::Notify::new(),
            seed_wanted: tokio::sync::Notify::new(),
            next_peer: AtomicU64::new(1),
            commit: AtomicU64::new(commit.0),
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

    pub(super) fn new_peer(&self) -> Peer {
        self.next_peer.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the core what happened and hands its effects on.
    pub(super) fn drive(&self, inner: &mut Inner, input: Input) {
        let now = self.now();
        for effect in inner.core.step(input, now) {
            self.carry_out(inner, effect);
        }
        inner.incoming = None;
    }

    fn carry_out(&self, inner: &mut Inner, effect: Effect) {
        match effect {
            Effect::Save(hard) => self.enqueue(inner, Job::Save(hard)),
            Effect::AppendBarrier { epoch, version } => {
                self.enqueue(inner, Job::Barrier { epoch, version });
            }
            Effect::Truncate(to) => self.enqueue(inner, Job::Truncate(to)),
            Effect::AnswerPromise { ticket, granted } => {
                self.answer_promise(inner, ticket, granted);
            }
            Effect::Lead(epoch) => {
                tracing::info!(%epoch, "leads");
                inner.lag.clear();
                // Whoever is behind has been so since now, for all that this leader knows.
                inner.lag.note(Lsn::ZERO, self.now());
                self.apply.notify_all();
                self.changed();
            }
            Effect::StepDown => self.step_down(inner),
            Effect::Follow(leader) => {
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
            Effect::Close(peer, reason) => tell(inner, peer, PeerCommand::Close(reason)),
            Effect::Take(_) => self.take(inner),
            Effect::FetchSeed(_) => {
                inner.ready = false;
                self.seed_wanted.notify_one();
                self.changed();
            }
            Effect::Commit(lsn) => self.committed_to(inner, lsn),
        }
    }

    pub(super) fn enqueue(&self, inner: &mut Inner, job: Job) {
        inner.jobs.push_back(job);
        self.work.notify_one();
    }

    fn answer_promise(&self, inner: &mut Inner, ticket: u64, granted: bool) {
        let Some(answer) = inner.promises.remove(&ticket) else {
            return;
        };
        let view = inner.core.view();
        tracing::info!(promised = %view.hard.promised, granted, "answers a request for a promise");
        let _ = answer.send(PromiseAnswer {
            id: self.id,
            granted,
            promised: view.hard.promised,
            last: view.last,
        });
        self.changed();
    }

    /// Drops what is not sealed; replies that rest on anything uncommitted are never given.
    fn step_down(&self, inner: &mut Inner) {
        tracing::info!("no longer leads");
        inner.accepting = false;
        inner.reign += 1;
        inner.jobs.retain(|job| !matches!(job, Job::Barrier { .. }));
        inner.pending = Pending::default();
        if inner.sealing || inner.applied.end > inner.core.commit() {
            self.rewind(inner);
        } else {
            inner.applied = inner.tip;
        }
        let waiting = std::mem::take(&mut inner.waiters);
        inner.to_wake.extend(waiting.into_values());
        self.apply.notify_all();
        self.changed();
    }

    /// Brings the state back to what was flushed; the applier goes on from there.
    pub(super) fn rewind(&self, inner: &mut Inner) {
        inner.rewinds += 1;
        inner.flush = None;
        if let Some(store) = &mut inner.store {
            // A flush that is running was committed: the state goes back to its cut.
            let to = store.reset();
            let flushed = flushed_tip(store);
            inner.applied = if to == flushed.end {
                flushed
            } else {
                inner.cut
            };
            assert_eq!(inner.applied.end, to, "the state goes back to a cut");
            self.apply.notify_all();
        }
    }

    /// A frame of this leader is complete: it goes to followers and to the log at once.
    pub(super) fn seal(&self, inner: &mut Inner, frame: &Frame, barrier: Option<(u64, Lsn)>) {
        inner.lag.note(frame.start(), self.now());
        inner.tip = Tip {
            end: frame.end(),
            chain: frame.chain(),
        };
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
            extra: Vec::new(),
        };
        inner.flush = store.seal(cut);
        inner.cut = at;
        inner.flush_wanted = inner.flush.is_none();
        self.upkeep.notify_one();
        inner.flush.is_some()
    }

    fn take(&self, inner: &mut Inner) {
        let frames = inner.incoming.take().unwrap_or_default();
        let now = self.now();
        for frame in &frames {
            inner.lag.note(frame.start(), now);
            inner.tip = Tip {
                end: frame.end(),
                chain: frame.chain(),
            };
            inner.queued += frame.wire_len();
            inner.tail.push(frame.clone());
        }
        self.enqueue(inner, Job::Append(frames));
    }

    fn committed_to(&self, inner: &mut Inner, lsn: Lsn) {
        self.commit.store(lsn.0, Ordering::Release);
        let later = inner.waiters.split_off(&(Lsn(lsn.0 + 1), 0));
        let ready = std::mem::replace(&mut inner.waiters, later);
        inner.to_wake.extend(ready.into_values());
        self.publish(inner);
        if inner.core.leading().is_none() {
            self.apply.notify_all();
        }
    }

    /// Tells senders and status streams how far the log has come.
    pub(super) fn publish(&self, inner: &Inner) {
        let now = Progress {
            end: inner.core.end(),
            commit: inner.core.commit(),
        };
        self.progress
            .send_if_modified(|progress| std::mem::replace(progress, now) != now);
    }

    /// Judges anew whether this follower is ready.
    pub(super) fn judge(&self, inner: &mut Inner) {
        let ready = inner.core.judge_ready(inner.ready, inner.settings.max_lag);
        if ready != inner.ready {
            inner.ready = ready;
            tracing::info!(ready, applied = %inner.applied.end, "readiness changed");
            self.changed();
        }
    }

    /// Something happened that a status stream should tell.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until `need` is committed; in vain once this replica's reign `reign` is over.
    pub(super) async fn committed(&self, need: Lsn, reign: u64, who: u64) -> Result<(), Deposed> {
        std::future::poll_fn(|context| {
            if self.commit.load(Ordering::Acquire) >= need.0 {
                return Poll::Ready(Ok(()));
            }
            let mut inner = self.inner.lock();
            if inner.core.commit() >= need {
                return Poll::Ready(Ok(()));
            }
            if inner.reign != reign {
                return Poll::Ready(Err(Deposed));
            }
            inner.waiters.insert((need, who), context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Node {
    /// Waits until `replicas` followers have everything up to `lsn` on disk, or `timeout_ms`
    /// milliseconds (0: without bound) are over; how many have it.
    pub(super) async fn wait_for_followers(&self, lsn: Lsn, replicas: u64, timeout_ms: u64) -> u64 {
        let mut progress = self.follower_progress.subscribe();
        let count = || {
            self.with(|inner| {
                let followers = inner.core.view().followers;
                followers
                    .iter()
                    .filter(|(_, _, durable, _)| *durable >= lsn)
                    .count() as u64
            })
        };
        let enough = async {
            loop {
                progress.borrow_and_update();
                if count() >= replicas || progress.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout_ms == 0 {
            enough.await;
        } else {
            let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), enough).await;
        }
        count()
    }
}

/// What a node is made of besides its core and its store.
pub(super) struct NodeParts {
    pub(super) id: ReplicaId,
    pub(super) chain: u32,
    pub(super) state_dir: String,
    pub(super) settings: Settings,
    pub(super) memory_budget: u64,
    pub(super) clock: Arc<dyn Clock>,
}

/// The frame boundary at which the state on disk stands.
pub(super) fn flushed_tip(store: &Store) -> Tip {
    let meta = store.meta();
    Tip {
        end: meta.flushed,
        chain: meta.chain,
    }
}

fn tell(inner: &mut Inner, peer: Peer, command: PeerCommand) {
    if let Some(handle) = inner.peers.get(&peer) {
        let _ = handle.send(command); // a task that ended says `Closed` by itself
    }
}

impl Inner {
    /// End of the log as clients see it: records that are not sealed yet included.
    pub(super) fn end(&self) -> Lsn {
        if self.accepting {
            self.pending.start.advance(self.pending.buffer.len() as u64)
        } else {
            self.tip.end
        }
    }

    /// Appends a record of the leader and brings the state forward by it.
    pub(super) fn append(&mut self, record: &Record<'_>) -> Result<Lsn, crate::store::StoreError> {
        assert!(self.accepting, "only a leader appends");
        let before = self.pending.buffer.len();
        record.encode(&mut self.pending.buffer);
        let lsn = self.end();
        if let Some(store) = &mut self.store
            && let Err(error) = store.apply(record, lsn)
        {
            self.pending.buffer.truncate(before);
            return Err(error);
        }
        self.pending.records += 1;
        self.applied.end = lsn;
        Ok(lsn)
    }
}
