//! The snapshots that followers are being seeded from: directories of hard links, each with a number.
//! It must not know who fetches them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::data_dir::DataDir;
use crate::replication::message::{SeedFile, SeedManifest};
use crate::replication::{Lsn, ReplicaId};
use crate::store::{Engine, StoreError};

/// A snapshot that nobody has asked for during this time goes.
const IDLE: Duration = Duration::from_mins(1);

/// Somebody wants a snapshot.
#[derive(Debug)]
pub(super) struct SnapshotRequest {
    pub(super) reply: oneshot::Sender<Result<SeedManifest, String>>,
    /// Who, if it is another replica.
    pub(super) by: Option<ReplicaId>,
    /// What there was when it was asked for: a snapshot of less will not do. Without it what was
    /// flushed last will do, with the log since then.
    pub(super) at_least: Option<Lsn>,
}

impl SnapshotRequest {
    /// Whether a snapshot at `lsn` is what was asked for.
    pub(super) fn is_met_by(&self, lsn: Lsn) -> bool {
        self.at_least.is_none_or(|least| least <= lsn)
    }
}

/// Takes the requests that a snapshot at `cut` answers. One that came after the cut was made waits for
/// the next one: a voter's log begins anew at its snapshot, and must not end before what it has
/// acknowledged.
pub(super) fn answered_by(requests: &mut Vec<SnapshotRequest>, cut: Lsn) -> Vec<SnapshotRequest> {
    requests
        .extract_if(.., |request| request.is_met_by(cut))
        .collect()
}

/// No snapshot will be made for those who wait for one.
pub(super) fn refuse_all(requests: &mut Vec<SnapshotRequest>, reason: &str) {
    for request in requests.drain(..) {
        let _ = request.reply.send(Err(reason.to_owned()));
    }
}

#[derive(Debug)]
struct Snapshot {
    manifest: SeedManifest,
    users: usize,
    used: Instant,
}

/// The snapshots of a data directory.
#[derive(Debug)]
pub(super) struct Snapshots {
    dir: Arc<DataDir>,
    kept: Mutex<BTreeMap<u64, Snapshot>>,
}

impl Snapshots {
    /// None are left from an earlier process: its followers ask for new ones.
    pub(super) fn open(dir: Arc<DataDir>) -> io::Result<Self> {
        let path = dir.path().join("snapshots");
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&path)?;
        Ok(Self {
            dir,
            kept: Mutex::new(BTreeMap::new()),
        })
    }

    fn path(&self, id: u64) -> PathBuf {
        self.dir.path().join("snapshots").join(id.to_string())
    }

    /// Links the state that was just flushed into a new snapshot.
    pub(super) fn make(&self, engine: &dyn Engine, id: u64) -> Result<SeedManifest, StoreError> {
        let mut kept = self.kept.lock();
        let id = kept.keys().next_back().map_or(id, |last| id.max(last + 1));
        let checkpoint = engine.checkpoint(&self.path(id))?;
        let files = checkpoint.files.into_iter();
        let manifest = SeedManifest {
            id,
            lsn: checkpoint.meta.flushed,
            chain: checkpoint.meta.chain,
            history: checkpoint.meta.history,
            files: files
                .map(|file| SeedFile {
                    name: file.name,
                    size: file.size,
                    xxh3: file.xxh3.map(u128::to_le_bytes),
                })
                .collect(),
        };
        tracing::info!(id, lsn = %manifest.lsn, bytes = manifest.total_bytes(), "made a snapshot");
        let snapshot = Snapshot {
            manifest: manifest.clone(),
            users: 0,
            used: Instant::now(),
        };
        kept.insert(id, snapshot);
        Ok(manifest)
    }

    /// Begins to use a snapshot, if it is still there. Each begin has its end.
    pub(super) fn begin(&self, id: u64) -> Option<SeedManifest> {
        let mut kept = self.kept.lock();
        let snapshot = kept.get_mut(&id)?;
        snapshot.users += 1;
        Some(snapshot.manifest.clone())
    }

    /// Ends a use; a snapshot that is `done` goes with its last user.
    pub(super) fn end(&self, id: u64, done: bool) {
        let mut kept = self.kept.lock();
        let Some(snapshot) = kept.get_mut(&id) else {
            return;
        };
        snapshot.users = snapshot.users.saturating_sub(1);
        snapshot.used = Instant::now();
        if done {
            snapshot.used = snapshot.used.checked_sub(IDLE).unwrap_or(snapshot.used);
        }
    }

    /// Removes the snapshots that nobody uses any more.
    pub(super) fn forget_idle(&self) {
        let mut kept = self.kept.lock();
        kept.retain(|id, snapshot| {
            let keep = snapshot.users > 0 || snapshot.used.elapsed() < IDLE;
            if !keep && let Err(error) = fs::remove_dir_all(self.path(*id)) {
                tracing::warn!(id, %error, "could not remove a snapshot");
            }
            keep
        });
    }

    /// Reads a piece of a file of a snapshot. Blocks.
    pub(super) fn read(
        &self,
        id: u64,
        name: &str,
        offset: u64,
        length: usize,
    ) -> io::Result<Vec<u8>> {
        let file = fs::File::open(self.path(id).join(name))?;
        let mut buffer = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(at_least: Option<u64>) -> SnapshotRequest {
        let (reply, _) = oneshot::channel();
        SnapshotRequest {
            reply,
            by: None,
            at_least: at_least.map(Lsn),
        }
    }

    #[test]
    fn a_cut_that_was_waiting_answers_no_later_request() {
        let mut requests = vec![request(Some(100)), request(Some(101)), request(None)];
        let answered = answered_by(&mut requests, Lsn(100));
        assert_eq!(answered.len(), 2);
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].at_least, Some(Lsn(101)));
    }
}
