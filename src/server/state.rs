//! Opens what the data directory holds: the log, the state, and how far both reach.

use std::path::Path;
use std::sync::Arc;

use super::data_dir::{DataDir, DataDirError};
use super::process;
use super::room;
use crate::env::RealDisk;
use crate::log::{self, Log, LogError, LogWriter};
use crate::replication::Recovered;
use crate::replication::admin::Settings;
use crate::store::{Engine, LsmEngine, LsmOptions, Store, StoreError, StoreOptions};

/// Bounds of the cache of blocks.
const LEAST_CACHE: u64 = 4 << 20;
const MOST_CACHE: u64 = 1 << 30;
/// The most where the budget is not known yet.
const FIRST_CACHE: u64 = 32 << 20;

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
    /// Time of its last frame.
    pub(super) time_ms: u64,
    pub(super) log: LogWriter,
    pub(super) reader: Log,
    /// `None` if a seed was under way.
    pub(super) store: Option<Store>,
}

/// The time of the log's last frame: 0 if there is none, or it cannot be read, which others tell.
fn last_time(log: &Log) -> u64 {
    let end = log.tip().position.lsn;
    let inside = crate::replication::Lsn(end.0.saturating_sub(1));
    let last = log
        .locate(inside)
        .and_then(|before| log.read_from(before.position.lsn, 1));
    let last = last.unwrap_or_default();
    last.last().map_or(0, crate::log::Frame::time_ms)
}

/// Bytes that the data may take in memory.
pub(super) fn memory_budget(settings: &Settings) -> u64 {
    match settings.max_memory {
        0 => process::memory_limit() / 4 * 3,
        bytes => bytes,
    }
}

/// The budget of a replica that no operator has spoken to yet, and its share for the cache of blocks:
/// the one of its last life, or else one that is small enough for most that may come.
fn budget_at_start(dir: &DataDir, settings: &Settings) -> Result<(u64, u64), DataDirError> {
    let last = dir.memory()?.filter(|_| settings.max_memory == 0);
    let told = memory_budget(settings);
    let budget = last.map_or(told, |last| last.min(told));
    let known = last.is_some() || settings.max_memory != 0;
    let most = if known { MOST_CACHE } else { FIRST_CACHE };
    Ok((budget, (budget / 8).clamp(LEAST_CACHE, most)))
}

/// Opens the state in a directory. The cache of blocks gets its share of the budget for good.
pub(super) fn open_store(dir: &DataDir, path: &Path, budget: u64) -> Result<Store, StoreError> {
    open_with_cache(
        dir,
        path,
        budget,
        (budget / 8).clamp(LEAST_CACHE, MOST_CACHE),
    )
}

fn open_with_cache(
    dir: &DataDir,
    path: &Path,
    budget: u64,
    cache_bytes: u64,
) -> Result<Store, StoreError> {
    let total = dir.space()?.1;
    let table_bytes = room::table_bytes(total);
    let options = LsmOptions {
        cache_bytes,
        table_bytes,
        ..LsmOptions::default()
    };
    let engine = LsmEngine::open(path, &options)?;
    let cache = engine.stats().cache_capacity;
    let options = store_options(budget, cache, room::flush_bytes(total));
    Store::open(Arc::new(engine), options)
}

/// Gives a store another budget.
pub(super) fn set_budget(store: &mut Store, budget: u64, flush_bytes: u64) {
    let cache = store.engine().stats().cache_capacity;
    store.set_options(store_options(budget, cache, flush_bytes));
}

/// How a store shares a memory budget out: what the LSM's cache of blocks leaves is for entries, of
/// which a bounded part may wait to be flushed.
fn store_options(budget: u64, cache: u64, most: u64) -> StoreOptions {
    let flush_bytes = (budget / 8).max(4 << 20).min(most) as usize;
    StoreOptions {
        memory_bytes: (budget - cache.min(budget / 2)) as usize,
        flush_bytes,
        stall_bytes: flush_bytes * 3,
        seed: rand::random(),
    }
}

/// Opens everything.
pub(super) fn open(dir: &DataDir, settings: &Settings) -> Result<Opened, OpenError> {
    let current = dir.current_state()?;
    let (budget, cache) = budget_at_start(dir, settings)?;
    let state_dir = current
        .clone()
        .unwrap_or_else(|| format!("state-{:020}", 0));
    let store = open_with_cache(dir, &dir.path().join(&state_dir), budget, cache)?;
    if current.is_none() {
        dir.set_current_state(&state_dir)?;
    }
    let flushed = store.meta().flushed;
    // The state that a seed replaces may be of a history that this log is not of.
    let seeding = dir.is_seeding()?;
    let disk = Arc::new(RealDisk::open(dir.log_path())?);
    let options = log::Options {
        segment_bytes: room::segment_bytes(dir.space()?.1),
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
        adopted: dir.adopted()?.configuration,
    };
    Ok(Opened {
        recovered,
        chain: found.tip.chain,
        time_ms: last_time(&reader),
        log,
        reader,
        store: complete.then_some(store),
    })
}
