//! A state of the model: the real cores, what their disks and connections hold, the register, and
//! what was ever seen to be committed.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use crate::replication::message::Message;
use crate::replication::{
    Configuration, Core, Epoch, EpochHistory, HardState, Lsn, Peer, Position, ReplicaId,
};

/// A record, as long as one LSN: who wrote it in which epoch, and for which version if it is a
/// barrier. Two that are equal are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) epoch: Epoch,
    pub(crate) writer: usize,
    pub(crate) life: u8,
    pub(crate) barrier: u64,
}

/// Ends of a connection.
pub(crate) const FOLLOWER: usize = 0;
pub(crate) const LEADER: usize = 1;

/// What travels on a connection.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Packet {
    Message(Message),
    /// Records after this many, and what came with them.
    Append(usize, Vec<Record>, Message),
    Closed,
}

/// Each end may find it closed at its own time, after what had been sent before.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Connection {
    pub(crate) peer: Peer,
    /// The replicas at its ends.
    pub(crate) ends: [usize; 2],
    pub(crate) open: [bool; 2],
    /// What is on its way to each end.
    pub(crate) queues: [VecDeque<Packet>; 2],
    /// What comes to that end waits to be delivered.
    pub(crate) slow: [bool; 2],
    /// How far the follower has been sent, and the commit LSN that it was told.
    pub(crate) stream: Option<(usize, Lsn)>,
    /// The leader's clock when it last sent something.
    pub(crate) sent_at: u64,
    pub(crate) acknowledged: Option<Message>,
}

/// What a disk is to do, in order.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Job {
    Save(HardState),
    Adopt(Configuration),
    /// The log up to this many records.
    Write(usize),
    Barrier(Epoch, u64),
    Truncate(Lsn),
    /// Another log: that of a snapshot.
    Reset(Vec<Record>),
}

/// What a restart finds.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Disk {
    pub(crate) hard: HardState,
    pub(crate) adopted: Configuration,
    pub(crate) length: usize,
    pub(crate) oldest: Lsn,
    pub(crate) flushed: Lsn,
    pub(crate) complete: bool,
    /// What it has acknowledged may be gone.
    pub(crate) forgotten: bool,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Replica {
    pub(crate) id: ReplicaId,
    pub(crate) core: Core,
    /// Everything that was ever appended and not truncated, freed records included.
    pub(crate) log: Vec<Record>,
    pub(crate) disk: Disk,
    pub(crate) jobs: VecDeque<Job>,
    /// Its disk waits to be told to go on.
    pub(crate) slow: bool,
    /// How often it has been started.
    pub(crate) life: u8,
    pub(crate) follows: Option<ReplicaId>,
    /// The snapshot that is being copied is of this LSN.
    pub(crate) seed: Option<Lsn>,
    /// A process runs here, and operators hear it.
    pub(crate) up: bool,
}

/// The answer to a request for a promise, which an operator holds until the register changes.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Answer {
    pub(crate) last: Position,
    /// What was promised before, and by whose word the log was cut; nothing where no disk is put back.
    pub(crate) before: Epoch,
    pub(crate) cut: Epoch,
    /// Its log was damaged.
    pub(crate) forgotten: bool,
    /// Holder and milliseconds left.
    pub(crate) leases: Vec<(Option<Epoch>, u64)>,
}

/// What a disk is known to have had: the last record, under which leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Held {
    pub(crate) epoch: Epoch,
    pub(crate) last: Position,
}

/// How often the dear things may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) promotions: u8,
    pub(crate) writes: u8,
    /// Steps of the clocks: half a lease each.
    pub(crate) time: u8,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) breaks: u8,
    /// Disks and directions of connections that do not do at once what they are to do.
    pub(crate) slow: u8,
    /// Voters added and removed, and changes of k.
    pub(crate) changes: u8,
    /// Voters given up in a promotion.
    pub(crate) given_up: u8,
    pub(crate) flushes: u8,
    pub(crate) trims: u8,
    pub(crate) switchovers: u8,
    /// The register is put back to what it was before.
    pub(crate) restores: u8,
    /// A replica is handed an older register.
    pub(crate) stale: u8,
    /// The register is deleted, with all that operators have noted.
    pub(crate) gone: u8,
    /// Logs that are damaged.
    pub(crate) damages: u8,
    /// Copies of disks that are kept, to be put back later.
    pub(crate) rollbacks: u8,
    /// Copies of disks that take another's place.
    pub(crate) copies: u8,
    /// Disks of another store that take another's place.
    pub(crate) foreign: u8,
    /// Replicas that are stopped for a while.
    pub(crate) stops: u8,
    /// Requests that were meant for another replica.
    pub(crate) strays: u8,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct State {
    pub(crate) replicas: Vec<Rc<Replica>>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) register: Rc<Configuration>,
    /// What the register was before the last change.
    pub(crate) older: Rc<Configuration>,
    /// Who was asked for a promise since the register changed, and has not been restarted since.
    pub(crate) asked: Vec<bool>,
    pub(crate) answers: Vec<Option<Answer>>,
    /// The leader has told that the register's version is established.
    pub(crate) established: bool,
    /// The register may be older than what disks remember.
    pub(crate) in_doubt: bool,
    /// What operators have heard each disk to have; nothing where no disk is put back.
    pub(crate) held: BTreeMap<ReplicaId, Held>,
    /// Copies of disks, to be put back.
    pub(crate) saved: Vec<Option<Rc<Replica>>>,
    /// One was.
    pub(crate) disturbed: bool,
    /// The epoch for which promises were asked, where there is no register to be believed; 0 for none.
    pub(crate) recovering: Epoch,
    /// Whether disks may be put back or copied.
    pub(crate) watched: bool,
    pub(crate) time: u32,
    pub(crate) left: Budget,
    pub(crate) committed: Vec<Record>,
    /// So many of them were ever released, where that is looked at.
    pub(crate) released: usize,
    /// How long the logs were that were lost with their disks, where that is looked at.
    pub(crate) lost: Vec<usize>,
    /// Who led each epoch: replica and life.
    pub(crate) reigns: Vec<(Epoch, usize, u8)>,
}

impl State {
    pub(crate) fn slot_of(&self, id: ReplicaId) -> Option<usize> {
        self.replicas.iter().position(|it| it.up && it.id == id)
    }

    pub(crate) fn replica(&mut self, slot: usize) -> &mut Replica {
        Rc::make_mut(&mut self.replicas[slot])
    }

    /// Who runs.
    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &Replica)> {
        let all = self.replicas.iter().enumerate();
        all.map(|(slot, it)| (slot, it.as_ref()))
            .filter(|(_, it)| it.up)
    }
}

impl Disk {
    pub(crate) fn new(complete: bool, lease: Duration) -> Self {
        let lease_ms = lease.as_millis() as u32;
        Self {
            hard: HardState {
                lease_ms,
                ..HardState::default()
            },
            adopted: Configuration::default(),
            length: 0,
            oldest: Lsn::ZERO,
            flushed: Lsn::ZERO,
            complete,
            forgotten: false,
        }
    }
}

/// What stands for the chain of checksums of a log.
pub(crate) fn chain(log: &[Record]) -> u32 {
    let mut hasher = DefaultHasher::new();
    log.hash(&mut hasher);
    hasher.finish() as u32
}

/// The epochs of a log.
pub(crate) fn history(log: &[Record]) -> EpochHistory {
    let mut history = EpochHistory::default();
    for (at, record) in log.iter().enumerate() {
        history.append(record.epoch, Lsn(at as u64));
    }
    history
}
