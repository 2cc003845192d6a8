//! Everything that is under the replica's one lock, and the words in which its threads and tasks are
//! told what to do. It must not know who they are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::Waker;

use tokio::sync::{mpsc, oneshot};

use super::data_dir::Adopted;
use super::gate::Gate;
use super::gather::Gather;
use super::lag::LagClock;
use super::room::{self, Disk};
use super::snapshots::SnapshotRequest;
use super::tail::Tail;
use super::time::Time;
use super::uncommitted::Uncommitted;
use crate::log::{Frame, Log};
use crate::replication::admin::{
    Divergent, Member, PromiseAnswer, ReplicaState, SeedProgress, Settings,
};
use crate::replication::message::Message;
use crate::replication::{Core, Epoch, EpochHistory, HardState, Lsn, Peer, Position, ReplicaId};
use crate::store::{FlushJob, Record, Store};

/// Work for the log's writer, in order.
#[derive(Debug)]
pub(super) enum Job {
    Save(HardState),
    Adopt(Adopted),
    /// Write something durably: is the disk alive?
    Beat,
    Append(Vec<Frame>),
    Barrier {
        epoch: Epoch,
        version: u64,
    },
    Truncate(Lsn),
    /// Go on in another file.
    Rotate,
    /// What was forgotten was told anew.
    Remember,
    /// The disk belongs to this claim.
    Bind(String),
    /// The disk is a copy of another one: the process ends, and the next one has another id.
    Renew(String),
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
    /// Send `Resume` with the chain of the own log at that point.
    Resume(Lsn),
    /// Send `Seed` likewise.
    Seed(Lsn),
    /// Compare the own log's chain at that point with the leader's.
    Compare(Lsn, Option<u32>),
    Close(String),
}

/// Where the log and the leader's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parted {
    pub(super) point: Lsn,
    /// The leader's chain there, if its log has a frame that ends there.
    pub(super) chain: Option<u32>,
}

/// The end of a chain of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) end: Lsn,
    pub(super) chain: u32,
}

/// How far the log, and what is released of it, have come: wakes the senders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) end: Lsn,
    pub(super) released: Lsn,
}

/// A leader's records that are not sealed into a frame yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// End of everything that was handed to the writer.
    pub(super) start: Lsn,
    pub(super) buffer: Vec<u8>,
    pub(super) records: u32,
    pub(super) gather: Gather,
}

/// Everything under the lock.
pub(super) struct Inner {
    pub(super) core: Core,
    /// `None` while a seed is under way.
    pub(super) store: Option<Store>,
    pub(super) pending: Pending,
    /// The writer holds records that it took from `pending` and has not sealed yet.
    pub(super) sealing: bool,
    /// Client writes may be appended: this replica leads, its barrier is sealed.
    pub(super) accepting: bool,
    /// Client commands wait for a moment: a switchover is being prepared.
    pub(super) holding: bool,
    /// The core was told that nothing is pending.
    pub(super) quiet: bool,
    /// End of the newest frame, on disk or on its way.
    pub(super) tip: Tip,
    /// The state is the one at this end of a frame; on a leader it runs ahead with `pending`.
    pub(super) applied: Tip,
    pub(super) tail: Tail,
    pub(super) lag: LagClock,
    /// By which deadlines of keys are judged.
    pub(super) time: Time,
    /// Up to where what the state holds can be taken back.
    pub(super) uncommitted: Uncommitted,
    pub(super) jobs: VecDeque<Job>,
    /// Bytes of frames in `jobs`.
    pub(super) queued: usize,
    /// Who may be answered, and who waits for it.
    pub(super) gate: Gate,
    pub(super) to_wake: Vec<Waker>,
    /// Rises whenever this replica stops leading: what was executed before may vanish.
    pub(super) reign: u64,
    /// Rises whenever the state was brought back, or replaced.
    pub(super) rewinds: u64,
    /// Reigns that this replica began: the log of one may lack what an earlier leader had shown.
    pub(super) begun: u64,
    /// The newest state that clients have seen here, while the present one has not come so far.
    pub(super) shown: Position,
    pub(super) peers: HashMap<Peer, mpsc::UnboundedSender<PeerCommand>>,
    pub(super) follower_names: HashMap<ReplicaId, String>,
    /// Frames that came with the input that is being driven.
    pub(super) incoming: Option<Vec<Frame>>,
    pub(super) promises: HashMap<u64, oneshot::Sender<Result<PromiseAnswer, String>>>,
    pub(super) next_ticket: u64,
    pub(super) members: BTreeMap<ReplicaId, Member>,
    /// Names of the members of the configuration that was adopted last.
    pub(super) names: BTreeMap<ReplicaId, String>,
    /// Of the assignment that they came with.
    pub(super) stamp: u64,
    pub(super) settings: Settings,
    pub(super) seed: Option<SeedProgress>,
    /// Followers keep their log from here on, as the leader says.
    pub(super) keep_from: Lsn,
    /// Log positions that seeds under way need.
    pub(super) pins: BTreeMap<u64, Lsn>,
    /// The upkeep wants the state cut for a flush at the next end of a frame.
    pub(super) flush_wanted: bool,
    /// A cut that waits to be released before it is brought to disk.
    pub(super) flush: Option<FlushJob>,
    /// Where the newest cut is.
    pub(super) cut: Tip,
    /// Followers that wait for a snapshot.
    pub(super) snapshot_requests: Vec<SnapshotRequest>,
    /// Up to where each member's log was durable when this leader last heard of it.
    pub(super) durable_of: BTreeMap<ReplicaId, Lsn>,
    /// The same for its state.
    pub(super) applied_of: BTreeMap<ReplicaId, Lsn>,
    /// The state that was told last.
    pub(super) state: ReplicaState,
    /// Seeds that the leader told this replica to fetch, since the start.
    pub(super) seeds: u64,
    /// Keys that expire are known, those that were flushed before the start included.
    pub(super) expiries_known: bool,
    /// Bytes that the data may take in memory.
    pub(super) memory_budget: u64,
    /// What is wrong with the state on disk.
    pub(super) damage: Option<String>,
    /// There is no other replica.
    pub(super) alone: bool,
    /// UID of the claim that the disk belongs to.
    pub(super) claim: Option<String>,
    /// It is noted on the disk that this replica has forgotten something.
    pub(super) forgotten: bool,
    /// Where the log is damaged.
    pub(super) log_damage: Option<Lsn>,
    /// The log is kept from here on, for a state that is being fetched anew.
    pub(super) repair_from: Option<Lsn>,
    /// How often everything on disk was verified since the start.
    pub(super) scrubs: u64,
    /// Room on the disk.
    pub(super) disk: Disk,
    /// The log, for its readers.
    pub(super) log: Log,
    pub(super) message: String,
    /// The process was asked to stop, and waits for another leader.
    pub(super) leaving: bool,
    /// Where the log and that of the leader parted, if a seed takes the place of the log.
    pub(super) parted_at: Option<Parted>,
    /// The newest records that were given up and kept in a file.
    pub(super) divergent: Option<Divergent>,
    /// What a status stream tells without delay, as it was told last.
    pub(super) told: Told,
    /// Whether the follower has been ready since its last seed or start.
    pub(super) ready: bool,
}

/// What the operator must hear of at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) leading: Option<Epoch>,
    pub(super) answers: bool,
    pub(super) leader_heard: bool,
    pub(super) leaving: bool,
    pub(super) promised: Epoch,
}

/// The frame boundary at which the state on disk stands.
pub(super) fn flushed_tip(store: &Store) -> Tip {
    let meta = store.meta();
    Tip {
        end: meta.flushed,
        chain: meta.chain,
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

    /// The end of what this replica can make a snapshot of: a leader's is all of its log.
    pub(super) fn whole(&self) -> Lsn {
        if self.core.leading().is_some() {
            self.end()
        } else {
            self.applied.end
        }
    }

    /// Whether client commands must wait a moment: a switchover is being prepared, a leader has not
    /// begun yet and its state runs ahead of what is committed.
    pub(super) fn holds_clients(&self) -> bool {
        self.holding || (!self.accepting && self.core.leading().is_some())
    }

    /// How many followers of this leader have everything up to `lsn` on disk.
    pub(super) fn copies(&self, lsn: Lsn) -> u64 {
        let followers = self.core.view().followers;
        let having = followers.iter().filter(|it| it.durable >= lsn);
        having.count() as u64
    }

    /// Whether writes must wait until a flush has caught up. Where the disk has no room for one, they
    /// are refused instead.
    pub(super) fn stalls_writers(&self) -> bool {
        let store = self.store.as_ref();
        self.accepting
            && !self.disk.low
            && (room::waits_for_log(self) || store.is_some_and(Store::write_stall))
    }

    /// Whether a follower's state must wait until a flush has caught up. A cut that is not released is
    /// not brought to disk: a leader that has not begun yet must go on, or it never will be.
    pub(super) fn stalls_applier(&self) -> bool {
        let Some(store) = self.store.as_ref().filter(|store| store.write_stall()) else {
            return false;
        };
        let released = self.core.released();
        match &self.flush {
            Some(job) => job.cut() <= released,
            None => store.is_flushing() || self.applied.end <= released,
        }
    }

    /// Appends a record of the leader and brings the state forward by it.
    pub(super) fn append(&mut self, record: &Record<'_>) -> Result<Lsn, crate::store::StoreError> {
        assert!(self.accepting, "only a leader appends");
        let before = self.pending.buffer.len();
        record.encode(&mut self.pending.buffer);
        let lsn = self.end();
        if let Some(store) = &mut self.store
            && let Err(error) = store.apply_ahead(record, lsn)
        {
            self.pending.buffer.truncate(before);
            return Err(error);
        }
        self.pending.records += 1;
        self.applied.end = lsn;
        Ok(lsn)
    }
}
