//! One simulated machine, and what a process on it holds: the real core, log and store, under the
//! same shell as in `src/server`, with a queue of disk work in place of threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use replicated_store::env::durable_file::{read_small, write_small};
use replicated_store::env::{Disk, SimDisk, Slots};
use replicated_store::log::{Frame, Log, LogError, LogWriter, Options};
use replicated_store::replication::admin::PromiseAnswer;
use replicated_store::replication::{
    Core, Epoch, EpochHistory, HardState, Lsn, Peer, Recovered, ReplicaId,
};
use replicated_store::store::{FlushJob, MemoryEngine, Store, StoreOptions};

use super::bug::Bug;
use super::client::{Command, OpId};
use super::clock::LocalClock;
use super::network::{Packet, Seed};

pub(crate) type Engine = Arc<MemoryEngine>;

/// What the checker knows of a log: the epoch and the chain at each end of a frame.
pub(crate) type Shadow = BTreeMap<Lsn, (u64, u32)>;

/// What the disk is to do.
pub(crate) enum Job {
    Save(HardState),
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
    Answer(OpId, Option<u64>),
    /// A frame got its place in this log.
    Frame(Epoch, Lsn, u32),
    Committed(Lsn),
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
    pub(crate) pending: Vec<u8>,
    pub(crate) records: u32,
    pub(crate) accepting: bool,
    pub(crate) holding: bool,
    pub(crate) quiet_said: bool,
    pub(crate) tail: VecDeque<Frame>,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) busy: Option<Job>,
    pub(crate) reign: u64,
    pub(crate) flush: Option<FlushJob>,
    pub(crate) cut: Tip,
    pub(crate) streams: BTreeMap<Peer, Stream>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) incoming: Vec<Frame>,
    pub(crate) follows: Option<ReplicaId>,
    pub(crate) link: Option<Peer>,
    pub(crate) ready: bool,
    /// The snapshot that is being copied.
    pub(crate) seed: Option<Box<Seed>>,
    pub(crate) shadow: Shadow,
    /// The log is being cut to there: whether it is, shows after a crash.
    pub(crate) cutting: Option<Lsn>,
    /// The log is being replaced by one that is known to be this.
    pub(crate) replacing: Option<Shadow>,
    pub(crate) out: Vec<Out>,
    /// Local time of the present step.
    pub(crate) now: Duration,
}

/// A machine with its disk and clock.
pub(crate) struct Machine {
    pub(crate) id: ReplicaId,
    pub(crate) log: SimDisk,
    pub(crate) dir: SimDisk,
    pub(crate) engine: Engine,
    pub(crate) clock: LocalClock,
    pub(crate) process: Option<Process>,
    pub(crate) incarnation: u64,
    /// Processes that have ended here, as their parent knows.
    pub(crate) ended: BTreeSet<u64>,
    pub(crate) paused_until: Duration,
    pub(crate) disk_us: u64,
    pub(crate) stalled_until: Duration,
    pub(crate) shadow: Shadow,
    /// What the log may be instead.
    replacement: Shadow,
    /// What this machine has said to be durable.
    pub(crate) told: Lsn,
}

impl Machine {
    pub(crate) fn new(id: ReplicaId, seed: u64, clock: LocalClock) -> Self {
        Self {
            id,
            log: SimDisk::new(seed),
            dir: SimDisk::new(seed + 1),
            engine: Arc::default(),
            clock,
            process: None,
            incarnation: 0,
            ended: BTreeSet::new(),
            paused_until: Duration::ZERO,
            disk_us: 200,
            stalled_until: Duration::ZERO,
            shadow: Shadow::from([(Lsn::ZERO, (0, 0))]),
            replacement: Shadow::new(),
            told: Lsn::ZERO,
        }
    }

    /// Starts a process on what is on the disk; an error if the disk has failed meanwhile.
    pub(crate) fn start(
        &mut self,
        incarnation: u64,
        now: Duration,
        bug: Bug,
    ) -> Result<(), LogError> {
        self.incarnation = incarnation;
        self.dir.sync_dir().map_err(|_| LogError::Poisoned)?;
        let engine: Arc<dyn replicated_store::store::Engine> = self.engine.clone();
        let store = Store::open(engine, store_options()).expect("memory does not fail");
        let flushed = store.meta().flushed;
        let seeding = read_small(&self.dir, SEEDING).is_ok_and(|note| note.is_some());
        let options = Options {
            segment_bytes: 32 << 10,
            ready: 1,
            spares: 1,
            known_durable: if seeding { Lsn::ZERO } else { flushed },
        };
        let (log, reader, found) = Log::open(Arc::new(self.log.clone()), options)?;
        let end = found.tip.position.lsn;
        self.check_recovered(Tip {
            end,
            chain: found.tip.chain,
        });
        let complete = found.oldest <= flushed && !seeding;
        let recovered = Recovered {
            hard: altered(read_hard(&self.dir), bug),
            history: found.history,
            end,
            oldest: found.oldest,
            flushed: if complete { flushed } else { Lsn::ZERO },
            complete,
        };
        let now = self.clock.local(now);
        let applied = Tip {
            end: flushed,
            chain: store.meta().chain,
        };
        self.process = Some(Process {
            core: Core::new(self.id, recovered, now),
            id: self.id,
            bug,
            dir: self.dir.clone(),
            log,
            reader,
            tip: Tip {
                end,
                chain: found.tip.chain,
            },
            applied,
            cut: applied,
            store: complete.then_some(store),
            pending: Vec::new(),
            records: 0,
            accepting: false,
            holding: false,
            quiet_said: false,
            tail: VecDeque::new(),
            jobs: VecDeque::new(),
            busy: None,
            reign: 0,
            flush: None,
            streams: BTreeMap::new(),
            waiters: Vec::new(),
            incoming: Vec::new(),
            follows: None,
            link: None,
            ready: false,
            seed: None,
            shadow: std::mem::take(&mut self.shadow),
            cutting: None,
            replacing: None,
            out: Vec::new(),
            now,
        });
        Ok(())
    }

    /// What was durable is there, and is what it was; what was not may be gone.
    fn check_recovered(&mut self, tip: Tip) {
        let replacement = std::mem::take(&mut self.replacement);
        if let Some((end, (_, chain))) = replacement.last_key_value()
            && (*end, *chain) == (tip.end, tip.chain)
        {
            self.shadow = replacement;
        }
        let known = self.shadow.get(&tip.end).map(|(_, chain)| *chain);
        assert_eq!(known, Some(tip.chain), "a restart finds another log");
        assert!(
            tip.end >= self.told,
            "{} is gone from the disk after a restart: {}",
            self.told,
            tip.end
        );
        self.shadow.split_off(&Lsn(tip.end.0 + 1));
    }

    /// The process is gone; `power` tells whether the disk forgets what was not synced.
    pub(crate) fn stop(&mut self, power: bool) {
        let Some(process) = self.process.take() else {
            return;
        };
        self.shadow = process.shadow;
        self.told = self.told.min(process.cutting.unwrap_or(self.told));
        if let Some(shadow) = process.replacing {
            self.told = Lsn::ZERO;
            self.replacement = shadow;
        }
        self.ended.insert(self.incarnation);
        if power {
            self.log = self.log.crash();
            self.dir = self.dir.crash();
        }
    }

    /// Another disk, with nothing on it.
    pub(crate) fn replace_disk(&mut self, id: ReplicaId, seed: u64) {
        let clock = self.clock;
        let incarnation = self.incarnation;
        let ended = std::mem::take(&mut self.ended);
        *self = Self::new(id, seed, clock);
        self.incarnation = incarnation;
        self.ended = ended;
    }
}

fn store_options() -> StoreOptions {
    StoreOptions {
        memory_bytes: 1 << 20,
        flush_bytes: 1 << 16,
        stall_bytes: 1 << 18,
        seed: 1,
    }
}

const HARD: &str = "hard";
/// There while the state is not the one of the log.
const SEEDING: &str = "seeding";

fn read_hard(dir: &SimDisk) -> HardState {
    let (_, bytes) = Slots::open(dir, HARD).expect("one of the two is whole");
    let Some(bytes) = bytes else {
        return HardState::default();
    };
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    HardState {
        promised: Epoch(word(0)),
        begun: Epoch(word(8)),
        lease_ms: word(16) as u32,
    }
}

pub(crate) fn write_hard(dir: &SimDisk, hard: HardState) -> std::io::Result<()> {
    let words = [hard.promised.0, hard.begun.0, u64::from(hard.lease_ms)];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let (mut slots, _) = Slots::open(dir, HARD)?;
    slots.replace(&bytes)
}

/// Notes that the log is about to be replaced, or that the state is the log's again.
pub(crate) fn note_seeding(dir: &SimDisk, seeding: bool) -> std::io::Result<()> {
    if seeding {
        return write_small(dir, SEEDING, b"");
    }
    dir.remove(SEEDING)?;
    dir.sync_dir()
}

/// What planted mistakes make of it.
fn altered(hard: HardState, bug: Bug) -> HardState {
    match bug {
        Bug::BeginsTwice => HardState {
            begun: Epoch(0),
            ..hard
        },
        Bug::RestartForgetsLease => HardState {
            lease_ms: 0,
            ..hard
        },
        _ => hard,
    }
}

/// How the store is opened on a state that was copied.
pub(crate) fn open_store(engine: &Engine) -> Store {
    let engine: Arc<dyn replicated_store::store::Engine> = engine.clone();
    Store::open(engine, store_options()).expect("memory does not fail")
}

impl Process {
    /// What a client asks for, carried out ahead of the commit; `None` if it is refused.
    pub(crate) fn execute(&mut self, op: OpId, command: Command) -> bool {
        if !self.accepting || self.holding {
            return false;
        }
        let Some((result, need)) = self.run_command(command) else {
            return false;
        };
        self.waiters.push(Waiter {
            op,
            need,
            reign: self.reign,
            result,
        });
        true
    }

    /// Epochs of the log up to `at`.
    pub(crate) fn history_to(&self, at: Lsn) -> EpochHistory {
        let mut history = self.core.history().clone();
        history.truncate(at);
        history
    }
}
