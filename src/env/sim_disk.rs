//! A disk in memory that loses power, fails and rots on command, for simulations and tests.
//!
//! It is as unkind as a disk may be: of what was not synced, every write survives a loss of power
//! whole, in part (in sectors of 512 bytes, in order or not) or not at all, each by itself, and so
//! do creations, renames and removals. What was synced survives. All chance comes from the seed.
//!
//! What a failed sync was to make durable stays readable, and no later sync makes it durable: so do
//! kernels, which take a page that could not be written for a clean one. Only what is written again is
//! synced again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::disk::{Disk, File};

mod inode;

use inode::Inode;

type SharedInode = Arc<Mutex<Inode>>;
type Directory = BTreeMap<String, SharedInode>;

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    rng: SmallRng,
    /// The directory as programs see it, and as it is known to be on the platter.
    live: Directory,
    durable: Directory,
    /// What was done to the directory since the last `sync_dir`, in order.
    pending: Vec<DirChange>,
    operations: u64,
    lose_power_at: Option<u64>,
    fail_at: BTreeMap<u64, (io::ErrorKind, Outcome)>,
    capacity: u64,
    powered: bool,
}

/// What becomes of an operation that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done all the same, durably where that was asked for.
    Done,
    /// Nothing of it was done.
    Undone,
    /// It can be read, and is not on the platter. Of a change to the directory: it is done, and
    /// pending.
    Readable,
    /// It can be read, and any part of it may be on the platter.
    Unknown,
}

/// What survives a loss of power of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Any part.
    Some,
    /// Everything.
    All,
    /// Nothing.
    Nothing,
}

enum DirChange {
    Link(String, SharedInode),
    Rename(String, String, SharedInode),
    Unlink(String),
}

impl DirChange {
    fn apply(&self, directory: &mut Directory) {
        match self {
            Self::Link(name, inode) => {
                directory.insert(name.clone(), Arc::clone(inode));
            }
            Self::Rename(from, to, inode) => {
                directory.remove(from);
                directory.insert(to.clone(), Arc::clone(inode));
            }
            Self::Unlink(name) => {
                directory.remove(name);
            }
        }
    }
}

/// How an operation goes.
enum Fate {
    Done,
    /// It fails, and this has become of it.
    Failed(Outcome, io::Error),
}

impl Fate {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Done => Outcome::Done,
            Self::Failed(outcome, _) => *outcome,
        }
    }

    fn result(self) -> io::Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Failed(_, error) => Err(error),
        }
    }
}

impl State {
    /// Counts an operation that changes the disk, and decides how it goes.
    fn begin(&mut self) -> io::Result<Fate> {
        self.check_power()?;
        let operation = self.operations;
        self.operations += 1;
        if self.lose_power_at.is_some_and(|at| operation >= at) {
            self.powered = false;
            return Ok(Fate::Failed(Outcome::Readable, power_lost()));
        }
        if let Some((kind, outcome)) = self.fail_at.remove(&operation) {
            let error = io::Error::new(kind, "injected fault");
            return Ok(Fate::Failed(outcome, error));
        }
        Ok(Fate::Done)
    }

    fn check_power(&self) -> io::Result<()> {
        if self.powered {
            Ok(())
        } else {
            Err(power_lost())
        }
    }

    fn inode(&self, name: &str) -> io::Result<SharedInode> {
        let found = self.live.get(name).map(Arc::clone);
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, name.to_owned()))
    }

    fn used(&self) -> u64 {
        self.live.values().map(|inode| inode.lock().len()).sum()
    }

    fn change_directory(&mut self, change: DirChange) -> io::Result<()> {
        let fate = self.begin()?;
        if fate.outcome() != Outcome::Undone {
            change.apply(&mut self.live);
            self.pending.push(change);
        }
        fate.result()
    }

    /// Makes what was written to a file durable, as far as that succeeds.
    fn sync(&mut self, inode: &mut Inode, outcome: Outcome) {
        match outcome {
            Outcome::Done => inode.sync(),
            // Of a sync there is nothing that could be undone.
            Outcome::Undone | Outcome::Readable => inode.forget_pending(),
            Outcome::Unknown => inode.sync_in_part(&mut self.rng),
        }
    }
}

fn power_lost() -> io::Error {
    io::Error::other("the power is lost")
}

impl SimDisk {
    /// An empty disk of unlimited size.
    pub fn new(seed: u64) -> Self {
        Self::with(SmallRng::seed_from_u64(seed), Directory::new())
    }

    fn with(rng: SmallRng, directory: Directory) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng,
            live: directory.clone(),
            durable: directory,
            pending: Vec::new(),
            operations: 0,
            lose_power_at: None,
            fail_at: BTreeMap::new(),
            capacity: u64::MAX,
            powered: true,
        })))
    }

    /// Operations so far that change the disk: writes, syncs, creations, renames, removals.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// The power goes in the middle of the operation with this number (the first is 0): it takes
    /// effect in part, and it and everything after fail.
    pub fn lose_power_at(&self, operation: u64) {
        self.0.lock().lose_power_at = Some(operation);
    }

    /// The operation with this number fails, and nobody knows how much of it took effect.
    pub fn fail_at(&self, operation: u64, kind: io::ErrorKind) {
        self.fail_with(operation, kind, Outcome::Unknown);
    }

    /// The operation with this number fails, and this becomes of it.
    pub fn fail_with(&self, operation: u64, kind: io::ErrorKind, outcome: Outcome) {
        self.0.lock().fail_at.insert(operation, (kind, outcome));
    }

    /// Writes that would make the files larger than this in sum fail with `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    /// Turns over one bit (0 to 7) of a byte of a file, durably. Does nothing if it has none there.
    pub fn flip(&self, name: &str, offset: u64, bit: u32) {
        if let Some(inode) = self.0.lock().live.get(name) {
            inode.lock().flip(offset, bit);
        }
    }

    /// The bytes of a file.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let inode = self.0.lock().inode(name).ok()?;
        let bytes = inode.lock().bytes().to_vec();
        Some(bytes)
    }

    /// Another disk with the same files, all durable.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut state = self.0.lock();
        let rng = SmallRng::from_rng(&mut state.rng);
        let copies = state.live.iter().map(|(name, inode)| {
            let copy = Inode::durable(inode.lock().bytes().to_vec());
            (name.clone(), Arc::new(Mutex::new(copy)))
        });
        Self::with(rng, copies.collect())
    }

    /// Loses the power, if it is not lost yet, and gives the disk as it is found afterwards.
    #[must_use]
    pub fn crash(&self) -> Self {
        self.crash_with(Survives::Some)
    }

    /// The same, where it is known what survives.
    #[must_use]
    pub fn crash_with(&self, survives: Survives) -> Self {
        self.0.lock().powered = false;
        self.copy_after(survives)
    }

    /// The disk as it would be found after a loss of power now, which this one does not suffer.
    #[must_use]
    pub fn copy_after(&self, survives: Survives) -> Self {
        let mut state = self.0.lock();
        let state = &mut *state;
        let mut directory = state.durable.clone();
        // Journals keep the order of changes; nothing promises it.
        let in_order = state.rng.random_bool(0.5);
        for change in &state.pending {
            let survives = match survives {
                Survives::Some => state.rng.random_bool(0.5),
                Survives::All => true,
                Survives::Nothing => false,
            };
            if survives {
                change.apply(&mut directory);
            } else if in_order {
                break;
            }
        }
        let mut survivors = Directory::new();
        for (name, inode) in directory {
            let image = inode.lock().after_crash(survives, &mut state.rng);
            survivors.insert(name, Arc::new(Mutex::new(Inode::durable(image))));
        }
        Self::with(SmallRng::from_rng(&mut state.rng), survivors)
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, create: bool, sync: bool) -> io::Result<Arc<dyn File>> {
        let mut state = self.0.lock();
        state.check_power()?;
        if create && !state.live.contains_key(name) {
            let inode = Arc::new(Mutex::new(Inode::default()));
            state.change_directory(DirChange::Link(name.to_owned(), inode))?;
        }
        let inode = state.inode(name)?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
            sync,
        }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        state.check_power()?;
        Ok(state.live.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let inode = state.inode(from)?;
        state.change_directory(DirChange::Rename(from.to_owned(), to.to_owned(), inode))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.inode(name)?;
        state.change_directory(DirChange::Unlink(name.to_owned()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        let fate = state.begin()?;
        if fate.outcome() == Outcome::Done {
            state.pending.clear();
            state.durable = state.live.clone();
        }
        fate.result()
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let state = self.0.lock();
        state.check_power()?;
        Ok((state.capacity.saturating_sub(state.used()), state.capacity))
    }
}

struct SimFile {
    disk: SimDisk,
    inode: SharedInode,
    sync: bool,
}

impl SimFile {
    /// Refuses, without effect, what does not fit.
    fn check_capacity(&self, state: &State, new_len: u64) -> io::Result<()> {
        let growth = new_len.saturating_sub(self.inode.lock().len());
        if growth > 0 && state.used().saturating_add(growth) > state.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl File for SimFile {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        self.check_capacity(&state, offset + data.len() as u64)?;
        let fate = state.begin()?;
        let mut inode = self.inode.lock();
        if fate.outcome() == Outcome::Undone {
            return fate.result();
        }
        inode.write(data, offset);
        if self.sync && state.powered {
            // O_DSYNC promises this range only; what was written through other handles before
            // becomes durable as well, since nobody here mixes the two.
            state.sync(&mut inode, fate.outcome());
        }
        fate.result()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.0.lock().check_power()?;
        Ok(self.inode.lock().read(buffer, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.0.lock().check_power()?;
        Ok(self.inode.lock().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        self.check_capacity(&state, len)?;
        let fate = state.begin()?;
        if fate.outcome() != Outcome::Undone {
            self.inode.lock().set_len(len);
        }
        fate.result()
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let fate = state.begin()?;
        if state.powered {
            state.sync(&mut self.inode.lock(), fate.outcome());
        }
        fate.result()
    }
}

#[cfg(test)]
mod tests;
