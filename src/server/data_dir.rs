//! The data directory: its lock, its identity, and which of its state directories is the current
//! one. It must not know what is in the log or in the state.
//!
//! ```text
//! identity             id and name of the replica, written once
//! hard                 promise, begun mark, longest lease granted: two slots, written in place
//! adopted              the configuration that was adopted last
//! memory               bytes of memory that the data may take, as of the last life
//! current              name of the state directory in use
//! seeding              there from before the log is thrown away for a seed until that is installed
//! damaged              what is wrong with the current state, if that is known
//! scrubbed             when everything was verified last, in seconds since 1970
//! log/                 segments of the replicated log
//! state-<n>/           a state; one that `current` does not name is a seed under way, or rubbish
//! snapshots/<id>/      hard links that followers are being seeded from
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::env::{DirLock, Disk, RealDisk, Slots, durable_file};
use crate::replication::{Configuration, Epoch, HardState, ReplicaId};

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
    /// A small file is damaged.
    #[error(
        "{file} in {path} is damaged ({reason}); \
         remove the data directory to have this replica seeded anew from the leader"
    )]
    Damaged {
        /// The file.
        file: &'static str,
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    id: ReplicaId,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hard {
    promised: Epoch,
    begun: Epoch,
    lease_ms: u32,
    #[serde(default)]
    cut: Epoch,
}

/// What this disk remembers of the store that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Adopted {
    /// The configuration that was adopted last.
    pub(super) configuration: Configuration,
    /// Names of the members, for people.
    pub(super) names: BTreeMap<ReplicaId, String>,
}

/// An open data directory, locked for this process.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    disk: Arc<RealDisk>,
    id: ReplicaId,
    hard: Mutex<Slots>,
    found: HardState,
    _lock: DirLock,
}

impl DataDir {
    /// Opens the directory, making it and its identity if there is none.
    pub(super) fn open(
        path: &Path,
        fresh_id: impl FnOnce() -> ReplicaId,
    ) -> Result<Self, DataDirError> {
        let io = |what| {
            let path = path.to_owned();
            move |source| DataDirError::Io { what, path, source }
        };
        let disk = Arc::new(RealDisk::open(path).map_err(io("opening the directory"))?);
        let lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => DataDirError::Locked(path.to_owned()),
            _ => io("locking")(error),
        })?;
        // A process that was killed may have renamed a file that is not on the disk under its new
        // name yet: nothing that it says may be believed before it is.
        disk.sync_dir().map_err(io("syncing"))?;
        let damaged = |reason| DataDirError::Damaged {
            file: "hard",
            path: path.to_owned(),
            reason,
        };
        let (hard, found) = Slots::open(&*disk, "hard").map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => damaged(error.to_string()),
            _ => io("reading the hard state")(error),
        })?;
        let mut dir = Self {
            path: path.to_owned(),
            disk,
            id: ReplicaId(0),
            hard: Mutex::new(hard),
            found: parse(found).map_err(|error| damaged(error.to_string()))?,
            _lock: lock,
        };
        dir.id = if let Some(identity) = dir.read::<Identity>("identity")? {
            identity.id
        } else {
            let id = fresh_id();
            dir.write("identity", &Identity { id })?;
            id
        };
        Ok(dir)
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

    /// The hard state that was found; nothing if none was saved yet.
    pub(super) fn hard_state(&self) -> HardState {
        self.found
    }

    /// Saves the hard state durably.
    pub(super) fn save_hard_state(&self, hard: HardState) -> Result<(), DataDirError> {
        let hard = Hard {
            promised: hard.promised,
            begun: hard.begun,
            lease_ms: hard.lease_ms,
            cut: hard.cut,
        };
        let bytes = serde_json::to_vec(&hard).map_err(|error| self.io("hard", error.into()))?;
        let saved = self.hard.lock().replace(&bytes);
        saved.map_err(|source| self.io("saving the hard state", source))
    }

    /// Writes the second copy of it: nothing waits for that.
    pub(super) fn mirror_hard_state(&self) -> Result<(), DataDirError> {
        let mirrored = self.hard.lock().mirror();
        mirrored.map_err(|source| self.io("saving the hard state", source))
    }

    /// The configuration that was adopted last, and the members' names as of then.
    pub(super) fn adopted(&self) -> Result<Adopted, DataDirError> {
        Ok(self.read("adopted")?.unwrap_or_default())
    }

    /// Notes durably that a configuration is adopted.
    pub(super) fn adopt(&self, adopted: &Adopted) -> Result<(), DataDirError> {
        self.write("adopted", adopted)
    }

    /// The memory budget that was noted last.
    pub(super) fn memory(&self) -> Result<Option<u64>, DataDirError> {
        self.read("memory")
    }

    /// Notes the memory budget, for the next start.
    pub(super) fn note_memory(&self, bytes: u64) -> Result<(), DataDirError> {
        self.write("memory", &bytes)
    }

    /// What is wrong with the current state.
    pub(super) fn damage(&self) -> Result<Option<String>, DataDirError> {
        self.read("damaged")
    }

    /// Notes durably that the current state is damaged.
    pub(super) fn note_damage(&self, what: &str) -> Result<(), DataDirError> {
        self.write("damaged", &what)
    }

    /// When everything was verified last.
    pub(super) fn scrubbed(&self) -> Result<Option<u64>, DataDirError> {
        self.read("scrubbed")
    }

    /// Notes when everything was verified.
    pub(super) fn note_scrubbed(&self, seconds: u64) -> Result<(), DataDirError> {
        self.write("scrubbed", &seconds)
    }

    /// The name of the current state directory, if there is one.
    pub(super) fn current_state(&self) -> Result<Option<String>, DataDirError> {
        self.read("current")
    }

    /// Notes durably that the log is about to be thrown away for a seed: from then on the current
    /// state is not the one of the log, wherever that ends.
    pub(super) fn begin_seed(&self) -> Result<(), DataDirError> {
        self.write("seeding", &())
    }

    /// Whether a seed was begun and not installed.
    pub(super) fn is_seeding(&self) -> Result<bool, DataDirError> {
        Ok(self.read::<()>("seeding")?.is_some())
    }

    /// Makes `name` the current state directory, durably, and removes the others.
    pub(super) fn set_current_state(&self, name: &str) -> Result<(), DataDirError> {
        self.write("current", &name)?;
        if self.is_seeding()? {
            self.remove("seeding")?;
        }
        if self.damage()?.is_some() {
            self.remove("damaged")?;
        }
        for other in self.state_dirs()? {
            if other != name {
                fs::remove_dir_all(self.path.join(&other))
                    .map_err(|source| self.io("removing an old state", source))?;
            }
        }
        Ok(())
    }

    /// The names of all state directories.
    pub(super) fn state_dirs(&self) -> Result<Vec<String>, DataDirError> {
        let list = |source| self.io("listing", source);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(list)? {
            let name = entry
                .map_err(list)?
                .file_name()
                .to_string_lossy()
                .into_owned();
            if name.starts_with("state-") {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Free and total bytes of the file system.
    pub(super) fn space(&self) -> io::Result<(u64, u64)> {
        self.disk.space()
    }

    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        file: &'static str,
    ) -> Result<Option<T>, DataDirError> {
        let damaged = |reason| DataDirError::Damaged {
            file,
            path: self.path.clone(),
            reason,
        };
        let read = durable_file::read_small(&*self.disk, file);
        let Some(bytes) = read.map_err(|error| damaged(error.to_string()))? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| damaged(error.to_string()))
    }

    fn remove(&self, file: &str) -> Result<(), DataDirError> {
        let removed = self.disk.remove(file);
        let removed = removed.and_then(|()| self.disk.sync_dir());
        removed.map_err(|source| self.io("removing a note", source))
    }

    fn write<T: Serialize>(&self, file: &'static str, value: &T) -> Result<(), DataDirError> {
        let bytes = serde_json::to_vec(value).map_err(|error| self.io(file, error.into()))?;
        durable_file::write_small(&*self.disk, file, &bytes)
            .map_err(|source| self.io("writing a small file", source))
    }

    fn io(&self, what: &'static str, source: io::Error) -> DataDirError {
        DataDirError::Io {
            what,
            path: self.path.clone(),
            source,
        }
    }
}

fn parse(hard: Option<Vec<u8>>) -> serde_json::Result<HardState> {
    let Some(bytes) = hard else {
        return Ok(HardState::default());
    };
    let hard: Hard = serde_json::from_slice(&bytes)?;
    Ok(HardState {
        promised: hard.promised,
        begun: hard.begun,
        lease_ms: hard.lease_ms,
        cut: hard.cut,
    })
}
