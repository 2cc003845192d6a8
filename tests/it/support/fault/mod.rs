//! A file system whose disk fails, is slow, or forgets at a power cut what was not synced: a FUSE mount over a
//! directory, for the data of one replica. Names are durable at once; what is in files is not.

mod files;
mod unsynced;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use tempfile::TempDir;

use files::Files;
use unsynced::Unsynced;

/// Requests that are answered at the same time: a slow one must not hold the others up.
const THREADS: usize = 8;

/// What is done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Read,
    Write,
    Sync,
    /// A name is made, given away, changed or removed.
    Name,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    /// An input/output error, and nothing is done.
    Fails,
    /// The same, but only once: then all is well again.
    FailsOnce,
    /// The same, when half of it is done.
    Torn,
    /// It takes so long.
    Takes(Duration),
}

/// When it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) on: Action,
    /// In files whose path has this in it.
    pub(crate) below: &'static str,
    /// So many go well before.
    pub(crate) after: u64,
    pub(crate) wrong: Wrong,
}

/// The fault that is there, and how often it has struck.
#[derive(Debug, Default)]
struct Faults(Mutex<(Option<Fault>, u64)>);

impl Faults {
    fn strikes(&self, action: Action, path: &std::path::Path) -> Option<Wrong> {
        let mut state = self.0.lock();
        let (Some(fault), struck) = &mut *state else {
            return None;
        };
        if fault.on != action || !path.to_string_lossy().contains(fault.below) {
            return None;
        }
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        *struck += 1;
        let wrong = fault.wrong;
        if matches!(wrong, Wrong::FailsOnce) {
            state.0 = None;
        }
        Some(wrong)
    }
}

/// The mounted file system.
pub(crate) struct FaultyDisk {
    directory: TempDir,
    faults: Arc<Faults>,
    unsynced: Arc<Unsynced>,
    session: Option<BackgroundSession>,
}

impl FaultyDisk {
    /// `None` where this user may not mount anything, or the kernel has no FUSE.
    pub(crate) fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut disk = Self {
            directory,
            faults: Arc::default(),
            unsynced: Arc::default(),
            session: None,
        };
        disk.session = Some(disk.mount().ok()?);
        Some(disk)
    }

    fn mount(&self) -> io::Result<BackgroundSession> {
        let backing = self.directory.path().join("backing");
        std::fs::create_dir(&backing)?;
        std::fs::create_dir(self.path())?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("faulty".to_owned())];
        config.n_threads = Some(THREADS);
        let files = Files::new(
            backing,
            Arc::clone(&self.faults),
            Arc::clone(&self.unsynced),
        );
        fuser::spawn_mount(files, self.path(), &config)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    /// From now on this goes wrong, and nothing else.
    pub(crate) fn breaks(&self, fault: Fault) {
        *self.faults.0.lock() = (Some(fault), 0);
    }

    /// All is well again; how often the fault has struck.
    pub(crate) fn heals(&self) -> u64 {
        std::mem::take(&mut *self.faults.0.lock()).1
    }

    /// How often the fault has struck.
    pub(crate) fn struck(&self) -> u64 {
        self.faults.0.lock().1
    }

    /// The power goes: of what was not synced, a part that chance chooses is as it was. Nobody may have files
    /// open. Returns how many writes were undone.
    pub(crate) fn power_cut(&self, rng: &mut SmallRng) -> usize {
        self.unsynced.forget_some(rng).expect("a disk of ours")
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join(); // there is nothing else to be done about it
        }
    }
}
