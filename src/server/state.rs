//! Opens what the data directory holds: the log, the state, and how far both reach.

use std::path::Path;
use std::sync::Arc;

use super::data_dir::{DataDir, DataDirError};
use super::process;
use crate::env::RealDisk;
use crate::log::{self, Log, LogError, LogWriter};
use crate::replication::Recovered;
use crate::replication::admin::Settings;
use crate::store::{LsmEngine, LsmOptions, Store, StoreError, StoreOptions};

/// Why the replica cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system.
    #[error("opening the log's directory: {0}")]
    Io(#[from] std::io::Error),
}

/// What was found.
pub(super) struct Opened {
    pub(super) recovered: Recovered,
    /// CRC chain at the end of the log.
    pub(super) chain: u32,
    pub(super) log: LogWriter,
    pub(super) reader: Log,
    /// `None` if a seed was under way.
    pub(super) store: Option<Store>,
}

/// Bytes that the data may take in memory.
pub(super) fn memory_budget(settings: &Settings) -> u64 {
    match settings.max_memory {
        0 => process::memory_limit() / 4 * 3,
        bytes => bytes,
    }
}

/// Opens the state in a directory.
pub(super) fn open_store(path: &Path, budget: u64) -> Result<Store, StoreError> {
    let cache_bytes = (budget / 8).clamp(8 << 20, 1 << 30);
    let engine = LsmEngine::open(
        path,
        &LsmOptions {
            cache_bytes,
            ..LsmOptions::default()
        },
    )?;
    Store::open(Arc::new(engine), store_options(budget))
}

/// The part of a memory budget that is for entries; the rest is the LSM's cache of blocks.
pub(super) fn entry_bytes(budget: u64) -> usize {
    (budget / 8 * 7) as usize
}

/// How a store shares a memory budget out: most of it to entries, of which a bounded part may wait
/// to be flushed.
fn store_options(budget: u64) -> StoreOptions {
    let flush_bytes = (budget / 8).clamp(8 << 20, 64 << 20) as usize;
    StoreOptions {
        memory_bytes: entry_bytes(budget),
        flush_bytes,
        stall_bytes: flush_bytes * 3,
        seed: rand::random(),
    }
}

/// Opens everything.
pub(super) fn open(dir: &DataDir, budget: u64) -> Result<Opened, OpenError> {
    let current = dir.current_state()?;
    let state_dir = current
        .clone()
        .unwrap_or_else(|| format!("state-{:020}", 0));
    let store = open_store(&dir.path().join(&state_dir), budget)?;
    if current.is_none() {
        dir.set_current_state(&state_dir)?;
    }
    let flushed = store.meta().flushed;
    // The state that a seed replaces may be of a history that this log is not of.
    let seeding = dir.is_seeding()?;
    let disk = Arc::new(RealDisk::open(dir.log_path())?);
    let options = log::Options {
        known_durable: if seeding {
            crate::replication::Lsn::ZERO
        } else {
            flushed
        },
        ..log::Options::default()
    };
    let (log, reader, found) = Log::open(disk, options)?;
    if found.truncated_bytes > 0 {
        tracing::info!(
            bytes = found.truncated_bytes,
            "cut a torn tail, never acknowledged, off the log"
        );
    }
    // A log that begins after the state was reset for a seed that is not finished.
    let complete = found.oldest <= flushed && !seeding;
    let recovered = Recovered {
        hard: dir.hard_state(),
        history: found.history,
        end: found.tip.position.lsn,
        oldest: found.oldest,
        flushed: if complete {
            flushed
        } else {
            crate::replication::Lsn::ZERO
        },
        complete,
    };
    Ok(Opened {
        recovered,
        chain: found.tip.chain,
        log,
        reader,
        store: complete.then_some(store),
    })
}
