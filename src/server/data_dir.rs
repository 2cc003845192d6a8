//! The data directory: its lock, its identity, and which of its state directories is the current
//! one. It must not know what is in the log or in the state.
//!
//! ```text
//! identity             id of the replica, written once
//! hard, hard.copy      promise, begun mark, longest lease granted: two slots each, written in place
//! adopted              the configuration that was adopted last
//! memory               bytes of memory that the data may take, as of the last life
//! current              name of the state directory in use
//! seeding              there from before the log is thrown away for a seed until that is installed
//! damaged              what is wrong with the current state, if that is known
//! forgotten            what this replica has acknowledged and does not have any more
//! claim                UID of the PersistentVolumeClaim that it belongs to
//! renewal              why this replica is to take another id, until it has
//! unsettled            why it does not know what it has promised, until it is settled who else counts on that
//! scrubbed             when everything was verified last, in seconds since 1970
//! log/                 segments of the replicated log
//! watermark            how far the log was durable: what is missing there is told by it
//! state-<n>/           a state; one that `current` does not name is a seed under way, or rubbish
//! snapshots/<id>/      hard links that followers are being seeded from
//! divergent/           records that were given up when this replica rejoined
//! aside/<n>/           what was in the way, or damaged, and was not thrown away
//! ```
//!
//! Of every small file there is a second copy, `<name>.copy`, from which it is written again.

mod aside;
mod hard;
mod identity;
mod listing;
mod notes;
mod small;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::env::durable_file::{self, Twice};
use crate::env::{DirLock, Disk, RealDisk, is_full};
use crate::replication::{Configuration, HardState, ReplicaId, StoreId};
use aside::Aside;
use hard::HardFiles;

/// Every name of the data directory's own.
const NAMES: [&str; 12] = [
    "identity",
    "hard",
    "adopted",
    "memory",
    "current",
    "seeding",
    "damaged",
    "forgotten",
    "claim",
    "renewal",
    "unsettled",
    "scrubbed",
];
/// Files of others in it that belong to a part of the replica.
const FILES: [&str; 1] = ["watermark"];
const DIRECTORIES: [&str; 5] = ["log", "snapshots", "divergent", "aside", EXAMINED];
/// Where states are opened that are only looked at.
const EXAMINED: &str = "examined";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataDirError {
    /// The file system refused.
    #[error("{what} in {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{0} is in use by another replica process; stop that one, or use another --data-dir")]
    Locked(PathBuf),
    /// It is none.
    #[error("{0} is a file, and --data-dir must name a directory, or one to be made")]
    NotADirectory(PathBuf),
    /// There is none, and none is to be made.
    #[error("there is no directory {0}")]
    Missing(PathBuf),
    /// Whoever leads it alone begins a history of its own, and what others of the store have is not in that.
    #[error(
        "{0} is a volume of store {1}, of which other replicas may have more: --standalone would begin another \
         history in it, which the store would not take back. Start the replica without --standalone, in its \
         store; or copy the directory, delete `adopted` and `adopted.copy` in the copy, and start that"
    )]
    OfAStore(PathBuf, StoreId),
}

impl DataDirError {
    /// Whether there is no room on the disk.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

/// What this disk remembers of the store that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Adopted {
    /// The configuration that was adopted last.
    pub(super) configuration: Configuration,
    /// Names of the members, for people.
    pub(super) names: BTreeMap<ReplicaId, String>,
}

/// What may be done to a data directory that is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It is used: made if there is none, and what can be rebuilt is.
    Use,
    /// It is looked at, and nothing is changed.
    Look,
}

/// An open data directory, locked for this process.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    disk: Arc<RealDisk>,
    access: Access,
    id: ReplicaId,
    hard: Mutex<Option<HardFiles>>,
    found: HardState,
    /// Why it does not know any more what it has promised.
    unknown_promises: Option<String>,
    forgotten: AtomicBool,
    /// Whether somebody has used it before.
    used: bool,
    current: Mutex<Option<String>>,
    aside: Mutex<Aside>,
    /// What was not as it should be, and what became of it.
    notes: Mutex<Vec<String>>,
    _lock: DirLock,
}

/// Whether this is a file of a seed under way, not copied to its end.
pub(super) fn is_partial(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|it| it == "part")
}

impl DataDir {
    /// Opens the directory, making it and its identity if there is none.
    pub(super) fn open(
        path: &Path,
        access: Access,
        fresh_id: impl FnOnce() -> ReplicaId,
    ) -> Result<Self, DataDirError> {
        let io = |what| {
            let path = path.to_owned();
            move |source| DataDirError::Io { what, path, source }
        };
        if path.exists() && !path.is_dir() {
            return Err(DataDirError::NotADirectory(path.to_owned()));
        }
        if access == Access::Look && !path.exists() {
            return Err(DataDirError::Missing(path.to_owned()));
        }
        let disk = Arc::new(RealDisk::open(path).map_err(io("opening the directory"))?);
        let lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => DataDirError::Locked(path.to_owned()),
            _ => io("locking")(error),
        })?;
        // A process that was killed may have renamed a file that is not on the disk under its new
        // name yet: nothing that it says may be believed before it is.
        disk.sync_dir().map_err(io("syncing"))?;
        let mut dir = Self {
            path: path.to_owned(),
            disk,
            access,
            id: ReplicaId(0),
            hard: Mutex::new(None),
            found: HardState::default(),
            unknown_promises: None,
            forgotten: AtomicBool::new(false),
            used: false,
            current: Mutex::new(None),
            aside: Mutex::new(Aside::default()),
            notes: Mutex::new(Vec::new()),
            _lock: lock,
        };
        if access == Access::Use {
            aside::remove_tree(&dir.examined());
        }
        dir.clear_way()?;
        dir.open_identity(fresh_id)?;
        *dir.current.lock() = dir.find_current()?;
        Ok(dir)
    }

    /// What is of another kind than the name tells would be in the way of what is to be written there.
    fn clear_way(&self) -> Result<(), DataDirError> {
        let small = NAMES.iter().map(|name| (*name).to_owned());
        let copies = NAMES.iter().map(|name| durable_file::copy_of(name));
        let temporary = NAMES.iter().flat_map(|name| {
            let copy = durable_file::copy_of(name);
            [format!("{name}.tmp"), format!("{copy}.tmp")]
        });
        let files = small.chain(copies).chain(temporary);
        let files = files.chain(FILES.map(str::to_owned));
        for name in files.filter(|name| self.path.join(name).is_dir()) {
            self.set_aside(&name, "it is a directory in the place of a file")?;
        }
        let states = self.entries(".")?.into_iter();
        let states = states.filter(|name| name.starts_with("state-"));
        for name in DIRECTORIES
            .iter()
            .map(|&name| name.to_owned())
            .chain(states)
        {
            if self.path.join(&name).is_file() {
                self.set_aside(&name, "it is a file in the place of a directory")?;
            }
        }
        for name in self.entries("log")? {
            let name = format!("log/{name}");
            if !self.path.join(&name).is_file() {
                self.set_aside(&name, "it is no file")?;
            }
        }
        for state in self.state_dirs()? {
            for name in self.entries(&state)? {
                let path = format!("{state}/{name}");
                if name != "tables" && self.path.join(&path).is_dir() {
                    self.set_aside(&path, "it is a directory in the place of a file")?;
                }
            }
            let tables = format!("{state}/tables");
            for name in self.entries(&tables)? {
                let path = format!("{tables}/{name}");
                let part = is_partial(&name);
                let table = part || name.parse::<u64>().is_ok();
                if !table || !self.path.join(&path).is_file() {
                    self.set_aside(&path, "it is no table")?;
                }
            }
        }
        Ok(())
    }

    /// The state that `current` names, as far as that is there.
    fn find_current(&self) -> Result<Option<String>, DataDirError> {
        let twice = self.read_raw("current")?;
        let Twice::Found {
            content,
            other,
            worn,
        } = twice
        else {
            if twice == Twice::Damaged {
                self.note("current is damaged".to_owned());
            }
            return Ok(None);
        };
        let names = [Some(content), other].into_iter().flatten();
        let names: Vec<String> = names
            .filter_map(|content| serde_json::from_slice(&content).ok())
            .collect();
        let there = |name: &&String| name.starts_with("state-") && self.path.join(name).is_dir();
        let Some(name) = names.iter().find(there) else {
            let text = names.join(" or ");
            self.note(format!("current names {text}, which is not there"));
            return Ok(None);
        };
        if worn && self.access == Access::Use {
            self.copied("current", self.write("current", name))?;
        }
        Ok(Some(name.clone()))
    }

    /// The identity of the replica.
    pub(super) fn id(&self) -> ReplicaId {
        self.id
    }

    /// The directory itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the log.
    pub(super) fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Whether nothing may be changed.
    pub(super) fn is_looked_at(&self) -> bool {
        self.access == Access::Look
    }

    /// Whether there was something in it before.
    pub(super) fn was_used(&self) -> bool {
        self.used
    }

    /// A directory for what is opened only to be looked at; it goes with the next opening.
    pub(super) fn examined(&self) -> PathBuf {
        self.path.join(EXAMINED)
    }

    /// The hard state that was found; nothing if none was saved yet.
    pub(super) fn hard_state(&self) -> HardState {
        self.found
    }

    /// Saves the hard state durably.
    pub(super) fn save_hard_state(&self, hard: HardState) -> Result<(), DataDirError> {
        let saved = self.with_hard(|files| files.save(hard));
        saved.map_err(|source| self.io("saving the hard state", source))
    }

    /// Writes the other copies of it: nothing waits for that.
    pub(super) fn mirror_hard_state(&self) -> Result<(), DataDirError> {
        let mirrored = self.with_hard(HardFiles::mirror);
        mirrored.map_err(|source| self.io("saving the hard state", source))
    }

    fn with_hard(&self, f: impl FnOnce(&mut HardFiles) -> io::Result<()>) -> io::Result<()> {
        self.hard.lock().as_mut().map_or(Ok(()), f)
    }

    /// Whether this replica may have acknowledged more than it has: its promise does not count until it has all
    /// that a leader has.
    pub(super) fn forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Notes durably that it has.
    pub(super) fn forget(&self, what: &str) -> Result<(), DataDirError> {
        self.write("forgotten", &what)?;
        self.forgotten.store(true, Ordering::Release);
        Ok(())
    }

    /// It knows again what others know of it.
    pub(super) fn remember(&self) -> Result<(), DataDirError> {
        self.remove("forgotten")?;
        self.forgotten.store(false, Ordering::Release);
        Ok(())
    }

    /// The name of the current state directory, if there is one.
    pub(super) fn current_state(&self) -> Option<String> {
        self.current.lock().clone()
    }

    /// Notes durably that the log is about to be thrown away for a seed: from then on the current
    /// state is not the one of the log, wherever that ends.
    pub(super) fn begin_seed(&self) -> Result<(), DataDirError> {
        self.write("seeding", &())
    }

    /// Whether a seed was begun and not installed.
    pub(super) fn is_seeding(&self) -> Result<bool, DataDirError> {
        Ok(self.mark("seeding")?.is_some())
    }

    /// Forgets how far the log was durable, which is given up.
    pub(super) fn forget_log(&self) -> Result<(), DataDirError> {
        self.remove("watermark")
    }

    /// The seed that was begun will not be finished.
    pub(super) fn give_seed_up(&self) -> Result<(), DataDirError> {
        self.remove("seeding")
    }

    /// Says again, durably, that `name` is the current state directory.
    pub(super) fn make_current(&self, name: &str) -> Result<(), DataDirError> {
        self.write("current", &name)?;
        *self.current.lock() = Some(name.to_owned());
        Ok(())
    }

    /// Makes `name` the current state directory, durably, and removes the others, as well as they can be
    /// removed: what is left is rubbish, and is tried again with the next one.
    pub(super) fn set_current_state(&self, name: &str) -> Result<(), DataDirError> {
        self.make_current(name)?;
        for mark in ["seeding", "damaged"] {
            self.remove(mark)?;
        }
        for other in self.state_dirs()? {
            if other != name && self.access == Access::Use {
                aside::remove_tree(&self.path.join(&other));
            }
        }
        Ok(())
    }

    /// Free and total bytes of the file system.
    pub(super) fn space(&self) -> io::Result<(u64, u64)> {
        self.disk.space()
    }

    /// Says of something that it was not as it should be.
    pub(super) fn note(&self, text: String) {
        tracing::warn!("{text}");
        self.notes.lock().push(text);
    }

    /// What was not as it should be.
    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.lock().clone()
    }

    /// Moves something away that must not stay where it is, and is not to be thrown away either.
    pub(super) fn set_aside(&self, name: &str, why: &str) -> Result<(), DataDirError> {
        if self.access == Access::Look {
            self.note(format!("{name}: {why}"));
            return Ok(());
        }
        let moved = self.aside.lock().take(&self.path, name);
        let to = moved.map_err(|source| self.io("moving something aside", source))?;
        self.note(format!("{name}: {why}; it is kept as {to}"));
        Ok(())
    }

    /// The directory that this process keeps things in, as far as it has any.
    pub(super) fn kept_in(&self) -> Option<PathBuf> {
        self.aside.lock().directory(&self.path)
    }
}
