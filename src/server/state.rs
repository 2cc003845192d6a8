//! Opens a state with its share of the memory.

use std::path::Path;
use std::sync::Arc;

use super::data_dir::{DataDir, DataDirError};
use super::process;
use super::room;
use crate::replication::admin::Settings;
use crate::store::{Engine, LsmEngine, LsmOptions, Store, StoreError, StoreOptions};

/// Bounds of the cache of blocks.
const LEAST_CACHE: u64 = 4 << 20;
const MOST_CACHE: u64 = 1 << 30;
/// The most where the budget is not known yet.
const FIRST_CACHE: u64 = 32 << 20;

/// Bytes that the data may take in memory.
pub(super) fn memory_budget(settings: &Settings) -> u64 {
    match settings.max_memory {
        0 => process::memory_limit() / 4 * 3,
        bytes => bytes,
    }
}

/// The budget of a replica that no operator has spoken to yet, and its share for the cache of blocks:
/// the one of its last life, or else one that is small enough for most that may come.
pub(super) fn budget_at_start(
    dir: &DataDir,
    settings: &Settings,
) -> Result<(u64, u64), DataDirError> {
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

pub(super) fn open_with_cache(
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
