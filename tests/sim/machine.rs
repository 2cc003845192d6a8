//! A simulated machine: its disk and its clock, what a process finds there when it starts, and what
//! becomes of it when it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use replicated_store::env::durable_file::{read_small, write_small};
use replicated_store::env::{Disk, SimDisk, Slots};
use replicated_store::log::{Log, LogError, Options, Tip as LogTip};
use replicated_store::replication::{
    Configuration, Core, Epoch, HardState, Lsn, Position, Recovered, ReplicaId,
};
use replicated_store::store::{Store, StoreOptions};

use super::bug::Bug;
use super::clock::LocalClock;
use super::cluster::Pod;
use super::fates::Image;
use super::node::{Engine, Process, Shadow, Tip};
use super::reads::Connection;

/// A machine with its disk and clock.
pub(crate) struct Machine {
    pub(crate) id: ReplicaId,
    /// The claim of its volume: the id that this had when it was new.
    pub(crate) claim: ReplicaId,
    /// The claim that its disk says it belongs to.
    pub(crate) bound: Option<ReplicaId>,
    pub(crate) log: SimDisk,
    pub(crate) dir: SimDisk,
    pub(crate) engine: Engine,
    pub(crate) clock: LocalClock,
    pub(crate) process: Option<Process>,
    pub(crate) incarnation: u64,
    /// Processes that have ended here.
    pub(crate) ended: BTreeSet<u64>,
    /// Those of them whose parent still runs, and whether it does.
    pub(crate) reaped: BTreeSet<u64>,
    pub(crate) watched: bool,
    pub(crate) pod: Pod,
    pub(crate) paused_until: Duration,
    pub(crate) disk_us: u64,
    pub(crate) stalled_until: Duration,
    pub(crate) shadow: Shadow,
    /// What the log may be instead.
    replacement: Shadow,
    /// What this machine has said to be durable.
    pub(crate) told: Lsn,
    /// What it had said so of before its disk was put back.
    pub(crate) had: Lsn,
    pub(crate) saved: Option<Image>,
    /// What its process has shown to anybody.
    pub(crate) shown: Option<Connection>,
}

impl Machine {
    pub(crate) fn new(id: ReplicaId, seed: u64, clock: LocalClock) -> Self {
        Self {
            id,
            claim: id,
            bound: None,
            log: SimDisk::new(seed),
            dir: SimDisk::new(seed + 1),
            engine: Arc::default(),
            clock,
            process: None,
            incarnation: 0,
            ended: BTreeSet::new(),
            reaped: BTreeSet::new(),
            watched: true,
            pod: Pod::default(),
            paused_until: Duration::ZERO,
            disk_us: 200,
            stalled_until: Duration::ZERO,
            shadow: Shadow::from([(Lsn::ZERO, (0, 0))]),
            replacement: Shadow::new(),
            told: Lsn::ZERO,
            had: Lsn::ZERO,
            saved: None,
            shown: None,
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
        (self.watched, self.pod.terminated) = (true, false);
        self.dir.sync_dir().map_err(|_| LogError::Poisoned)?;
        let engine: Arc<dyn replicated_store::store::Engine> = self.engine.clone();
        let store = Store::open(engine, store_options()).expect("memory does not fail");
        let flushed = store.meta().flushed;
        self.bound = read_claim(&self.dir);
        let seeding = read_small(&self.dir, SEEDING).is_ok_and(|note| note.is_some());
        let options = Options {
            follows: !seeding,
            ..log_options(if seeding { Lsn::ZERO } else { flushed })
        };
        let disk = Arc::new(self.log.clone());
        let (log, reader, found) = Log::open_noted(disk, &self.dir, options)?;
        let end = found.tip.position.lsn;
        self.check_recovered(Tip {
            end,
            chain: found.tip.chain,
        });
        let complete = found.oldest <= flushed && !seeding;
        let forgotten = read_small(&self.dir, FORGOTTEN).is_ok_and(|note| note.is_some());
        let recovered = Recovered {
            hard: altered(read_hard(&self.dir).map_err(|_| LogError::Poisoned)?, bug),
            history: found.history,
            end,
            oldest: found.oldest,
            flushed: if complete { flushed } else { Lsn::ZERO },
            complete,
            adopted: read_adopted(&self.dir),
            forgotten,
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
            ahead: VecDeque::new(),
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
            shown: Position::default(),
            flush: None,
            running: None,
            streams: BTreeMap::new(),
            waiters: Vec::new(),
            incoming: Vec::new(),
            follows: None,
            link: None,
            ready: false,
            parted: None,
            forgotten,
            seed: None,
            shadow: std::mem::take(&mut self.shadow),
            barriers: BTreeMap::new(),
            cutting: None,
            replacing: None,
            out: Vec::new(),
            now,
            leaving: self.pod.terminating,
            fenced: false,
            stamp: 0,
            reply_sync: 0,
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
        self.reaped.insert(self.incarnation);
        if power {
            self.reaped.clear();
            self.watched = false;
            self.log = self.log.crash();
            self.dir = self.dir.crash();
        }
    }

    /// The container has ended with its process.
    pub(crate) fn lose_parent(&mut self) {
        self.reaped.clear();
        (self.watched, self.pod.terminated) = (false, self.pod.exists);
    }

    /// Turns over a bit of the log or of the promise, and back again; says whether a start would
    /// have noticed. If not, it was in what is not in use, or is there twice.
    pub(crate) fn rots(&mut self, bits: u64) -> bool {
        let of_dir = bits.is_multiple_of(4);
        let disk = if of_dir { &self.dir } else { &self.log };
        let files = disk.list().unwrap_or_default();
        let Some(name) = files.get((bits >> 8) as usize % files.len().max(1)) else {
            return false;
        };
        let length = disk.contents(name).map_or(0, |bytes| bytes.len() as u64);
        let (offset, bit) = ((bits >> 16) % length.max(1), (bits >> 4) as u32 % 8);
        let whole = self.readable();
        disk.flip(name, offset, bit);
        let damaged = self.readable();
        disk.flip(name, offset, bit);
        if damaged.is_some() {
            let place = format!("{name}, byte {offset}");
            assert_eq!(damaged, whole, "damage is not noticed: {place}");
        }
        damaged.is_none()
    }

    /// What a start would read of the log and the promise, if it can.
    fn readable(&self) -> Option<(LogTip, Option<Vec<u8>>)> {
        let log = Arc::new(self.log.copy());
        let noted = self.dir.copy();
        let (_, _, found) = Log::open_noted(log, &noted, log_options(Lsn::ZERO)).ok()?;
        let (_, hard) = Slots::open(&self.dir.copy(), HARD).ok()?;
        Some((found.tip, hard))
    }

    /// Whether there is a whole state, as far as a process here says.
    pub(crate) fn is_whole(&self) -> bool {
        self.process.as_ref().is_none_or(Process::is_whole)
    }

    /// The version of the configuration that its disk remembers.
    pub(crate) fn adopted_version(&self) -> u64 {
        let process = self.process.as_ref();
        let adopted = process.map(|it| it.core.adopted_configuration().version);
        adopted.unwrap_or_else(|| read_adopted(&self.dir).version)
    }

    /// The chain of its log at this end of a frame.
    pub(crate) fn chain_at(&self, end: Lsn) -> Option<u32> {
        let shadow = self.process.as_ref().map(|process| &process.shadow);
        let found = shadow.unwrap_or(&self.shadow).get(&end);
        found.map(|(_, chain)| *chain)
    }

    /// Whether its disk is a copy of another one, as far as it knows.
    pub(crate) fn is_copy(&self) -> bool {
        self.bound.is_some_and(|bound| bound != self.claim)
    }

    /// Notes to which claim the disk belongs.
    pub(crate) fn bind(&mut self) {
        self.bound = Some(self.claim);
        let bytes = self.claim.0.to_le_bytes();
        write_small(&self.dir, CLAIM, &bytes).expect("it is small");
    }

    /// Goes on under another id.
    pub(crate) fn renew(&mut self, id: ReplicaId) {
        self.id = id;
        self.bound = None;
        self.dir.remove(CLAIM).expect("it is there");
        self.dir.sync_dir().expect("a file was removed");
    }

    /// The log is damaged, and an empty one takes its place: what it had acknowledged is gone, and what it promised
    /// is known. Says whether its disk could note that.
    pub(crate) fn lose_log(&mut self, seed: u64) -> bool {
        let dir = self.dir.clone();
        let noted = write_small(&dir, FORGOTTEN, b"").and_then(|()| note_seeding(&dir, true));
        if noted.is_err() {
            return false;
        }
        // Of how far the log was durable there is a note, too, as long as there was a log.
        let _ = dir.remove(WATERMARK);
        let had = self.had.max(self.told);
        let (claim, bound, saved) = (self.claim, self.bound, self.saved.take());
        self.replace_disk(self.id, seed);
        (self.dir, self.claim, self.bound, self.saved) = (dir, claim, bound, saved);
        self.had = had;
        true
    }

    /// Another disk, with nothing on it.
    pub(crate) fn replace_disk(&mut self, id: ReplicaId, seed: u64) {
        let clock = self.clock;
        let incarnation = self.incarnation;
        let ended = std::mem::take(&mut self.ended);
        let pod = std::mem::take(&mut self.pod);
        *self = Self::new(id, seed, clock);
        self.incarnation = incarnation;
        self.ended = ended;
        self.pod = pod;
    }
}

fn log_options(known_durable: Lsn) -> Options {
    Options {
        segment_bytes: 32 << 10,
        ready: 1,
        spares: 1,
        known_durable,
        ..Options::default()
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
const ADOPTED: &str = "adopted";
const CLAIM: &str = "claim";
/// There while the state is not the one of the log.
const SEEDING: &str = "seeding";
/// There while it may have acknowledged what it has no more.
const FORGOTTEN: &str = "forgotten";
const WATERMARK: &str = "watermark";

fn read_hard(dir: &SimDisk) -> std::io::Result<HardState> {
    let (_, bytes) = Slots::open(dir, HARD)?;
    let Some(bytes) = bytes else {
        return Ok(HardState::default());
    };
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    Ok(HardState {
        promised: Epoch(word(0)),
        begun: Epoch(word(8)),
        lease_ms: word(16) as u32,
        cut: Epoch(word(24)),
    })
}

fn read_claim(dir: &SimDisk) -> Option<ReplicaId> {
    let found = read_small(dir, CLAIM).ok()??;
    Some(ReplicaId(u128::from_le_bytes(found.try_into().ok()?)))
}

fn read_adopted(dir: &SimDisk) -> Configuration {
    let found = read_small(dir, ADOPTED).expect("it is whole");
    let found = found.map(|bytes| serde_json::from_slice(&bytes).expect("it was written so"));
    found.unwrap_or_default()
}

pub(crate) fn write_adopted(dir: &SimDisk, adopted: &Configuration) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(adopted).map_err(std::io::Error::other)?;
    write_small(dir, ADOPTED, &bytes)
}

pub(crate) fn write_hard(dir: &SimDisk, hard: HardState) -> std::io::Result<()> {
    let words = [
        hard.promised.0,
        hard.begun.0,
        u64::from(hard.lease_ms),
        hard.cut.0,
    ];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let (mut slots, _) = Slots::open(dir, HARD)?;
    slots.replace(&bytes)
}

/// Makes the second copy of the promise, as the replica does when it has nothing else to do.
pub(crate) fn mirror_hard(dir: &SimDisk) -> std::io::Result<()> {
    Slots::open(dir, HARD)?.0.mirror()
}

/// Notes that the log is about to be replaced, or that the state is the log's again.
pub(crate) fn note_seeding(dir: &SimDisk, seeding: bool) -> std::io::Result<()> {
    if seeding {
        return write_small(dir, SEEDING, b"");
    }
    dir.remove(SEEDING)?;
    dir.sync_dir()
}

/// What was forgotten was told anew.
pub(crate) fn remember(dir: &SimDisk) -> std::io::Result<()> {
    dir.remove(FORGOTTEN)?;
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
