//! What a process holds: the real core, log and store, under the same shell as in `src/server`, with a
//! queue of disk work in place of threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use replicated_store::env::SimDisk;
use replicated_store::log::{Frame, Log, LogWriter};
use replicated_store::replication::admin::{PromiseAnswer, Settings, Shortfall};
use replicated_store::replication::{
    Configuration, Core, Epoch, EpochHistory, HardState, Input, Lsn, Peer, Position, ReplicaId,
};
use replicated_store::store::{FlushDone, FlushJob, MemoryEngine, Store};

use super::bug::Bug;
use super::client::{Command, OpId};
use super::network::{Packet, Seed};

pub(crate) type Engine = Arc<MemoryEngine>;

/// What the checker knows of a log: the epoch and the chain at each end of a frame.
pub(crate) type Shadow = BTreeMap<Lsn, (u64, u32)>;

/// What the disk is to do.
pub(crate) enum Job {
    Save(HardState),
    Adopt(Configuration),
    Beat,
    Append(Vec<Frame>),
    Barrier {
        epoch: Epoch,
        version: u64,
    },
    Truncate(Lsn),
    Reset(Box<Seed>),
    /// A leader's frame, sealed already.
    Write(Frame),
}

/// What the world must do.
pub(crate) enum Out {
    Send(Peer, Packet),
    Close(Peer),
    Promise(u64, PromiseAnswer),
    Refused(u64),
    /// What it rests on comes first.
    Answer(Lsn, OpId, Option<u64>, Position),
    /// A frame got its place in this log.
    Frame(Epoch, Lsn, u32),
    Committed(Lsn),
    /// By a leader, or by somebody whom one has told.
    Released(Lsn, bool),
    /// The log was cut here, as it should be.
    Cut(Lsn),
    /// The state in use is another one now.
    Installed(Engine),
    Seeded(Box<Seed>),
    /// The process must end.
    Failed,
}

/// The end of a chain of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) end: Lsn,
    pub(crate) chain: u32,
}

/// A client's answer that waits for what it rests on.
pub(crate) struct Waiter {
    pub(crate) op: OpId,
    pub(crate) need: Lsn,
    /// What the answer shows.
    pub(crate) at: Position,
    pub(crate) reign: u64,
    pub(crate) result: Option<u64>,
}

/// How far a follower has been sent.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) at: Lsn,
    pub(crate) commit: Lsn,
}

/// A running replica.
pub(crate) struct Process {
    pub(crate) core: Core,
    pub(crate) id: ReplicaId,
    pub(crate) bug: Bug,
    pub(crate) dir: SimDisk,
    pub(crate) log: LogWriter,
    pub(crate) reader: Log,
    pub(crate) store: Option<Store>,
    pub(crate) tip: Tip,
    pub(crate) applied: Tip,
    /// Ends of frames that a leader's state holds, from the newest committed one on.
    pub(crate) ahead: VecDeque<Tip>,
    pub(crate) pending: Vec<u8>,
    pub(crate) records: u32,
    pub(crate) accepting: bool,
    pub(crate) holding: bool,
    pub(crate) quiet_said: bool,
    pub(crate) tail: VecDeque<Frame>,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) busy: Option<Job>,
    pub(crate) reign: u64,
    /// The newest state that clients have seen here, while the present one has not come so far.
    pub(crate) shown: Position,
    pub(crate) flush: Option<FlushJob>,
    /// The one that is under way: on the disk, and nobody has noticed yet.
    pub(crate) running: Option<(FlushDone, Lsn)>,
    pub(crate) cut: Tip,
    pub(crate) streams: BTreeMap<Peer, Stream>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) incoming: Vec<Frame>,
    pub(crate) follows: Option<ReplicaId>,
    pub(crate) link: Option<Peer>,
    pub(crate) ready: bool,
    /// Where the log and the leader's part, and the leader's chain there, if a seed is wanted.
    pub(crate) parted: Option<(Lsn, Option<u32>)>,
    /// It is noted on the disk that it may have acknowledged what it has no more.
    pub(crate) forgotten: bool,
    /// The snapshot that is being copied.
    pub(crate) seed: Option<Box<Seed>>,
    pub(crate) shadow: Shadow,
    /// Where barriers stand that this process has sealed: the end and the start of each.
    pub(crate) barriers: BTreeMap<Lsn, Lsn>,
    /// The log is being cut to there: whether it is, shows after a crash.
    pub(crate) cutting: Option<Lsn>,
    /// The log is being replaced by one that is known to be this.
    pub(crate) replacing: Option<Shadow>,
    pub(crate) out: Vec<Out>,
    /// Local time of the present step.
    pub(crate) now: Duration,
    /// It was told to stop.
    pub(crate) leaving: bool,
    /// It serves no client.
    pub(crate) fenced: bool,
    /// Of what it was told last.
    pub(crate) stamp: u64,
    /// So many followers must have what a reply rests on, and vote for a write to be taken.
    pub(crate) reply_sync: u32,
}

impl Process {
    /// What a client asks for, carried out ahead of the commit; `None` if it is refused.
    pub(crate) fn execute(&mut self, op: OpId, command: Command) -> bool {
        let wanted = self.reply_sync as usize;
        let few = wanted > 0 && self.core.configuration().voters.len() <= wanted;
        let refused = few && !matches!(command, Command::Get(_));
        if !self.accepting || self.holding || self.fenced || refused {
            return false;
        }
        let Some((result, need)) = self.run_command(command) else {
            return false;
        };
        let at = need.max(self.core.released());
        self.waiters.push(Waiter {
            op,
            need,
            at: self.core.history().position(at),
            reign: self.reign,
            result,
        });
        true
    }

    /// Takes over what the user wants of it.
    pub(crate) fn settle_in(&mut self, fenced: bool, settings: &Settings) {
        self.fenced = fenced;
        self.hold_replies(match settings.on_shortfall {
            Shortfall::Degrade => 0,
            Shortfall::Block => settings.sync_replicas,
        });
    }

    /// No reply rests on what fewer followers have.
    pub(crate) fn hold_replies(&mut self, sync: u32) {
        self.reply_sync = sync;
        self.drive_core(Input::SetReplySync(sync));
    }

    /// The log shows as much up to here as up to `to`: barriers show nothing.
    pub(crate) fn shown(&self, mut to: Lsn) -> Lsn {
        while let Some(start) = self.barriers.get(&to) {
            to = *start;
        }
        to
    }

    /// Epochs of the log up to `at`.
    pub(crate) fn history_to(&self, at: Lsn) -> EpochHistory {
        let mut history = self.core.history().clone();
        history.truncate(at);
        history
    }
}
