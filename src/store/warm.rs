//! Reading cold keys from the engine without the lock, and taking them into the cache under it.

use std::sync::Arc;

use super::draft::Draft;
use super::engine::Engine;
use super::entry::EntryBuf;
use super::error::{MAX_KEY, Result};
use super::state::Store;

/// How often the cache did not have what was asked for, and what it gave up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Entries that went from memory; they are on disk.
    pub evicted: u64,
    /// Keys that were read from the engine without the lock.
    pub warmed: u64,
    /// Keys that were looked up in the engine under the lock.
    pub fetched: u64,
    /// Scans that walked in the engine under the lock.
    pub walked: u64,
}

/// Reads keys from the engine as it is at the moment: see [`Store::warmer`].
#[derive(Clone)]
pub struct Warmer {
    engine: Arc<dyn Engine>,
    generation: u32,
    flushes: u64,
}

/// What a [`Warmer`] has read, for [`Store::take_warm`].
#[derive(Default)]
pub struct Warm {
    entries: Vec<EntryBuf>,
    engine: Option<Arc<dyn Engine>>,
    flushes: u64,
}

impl Warmer {
    /// Reads keys, from the disk where they are not in the engine's cache. Blocks.
    pub fn read<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Warm> {
        let mut entries = Vec::new();
        for key in keys {
            entries.extend(read_entry(&*self.engine, self.generation, key)?);
        }
        Ok(Warm {
            entries,
            engine: Some(Arc::clone(&self.engine)),
            flushes: self.flushes,
        })
    }
}

/// The entry of a key in the engine.
pub(super) fn read_entry(
    engine: &dyn Engine,
    generation: u32,
    key: &[u8],
) -> Result<Option<EntryBuf>> {
    if key.len() > MAX_KEY {
        return Ok(None);
    }
    let mut buffer = key.to_vec();
    if !engine.get(generation, key, &mut buffer)? {
        return Ok(None);
    }
    EntryBuf::new(buffer, key.len()).map(Some)
}

impl Store {
    /// Whether [`get`](Self::get) would have to read from the engine, so from the disk perhaps.
    pub fn is_cold(&self, key: &[u8]) -> bool {
        self.locate(self.hash(key), key).is_none()
    }

    /// Whether there are as many entries in memory as keys: hardly any can be cold then.
    pub fn holds_everything(&self) -> bool {
        let sealed = self.sealed.as_ref();
        let settling: usize = self.settling.iter().map(super::table::Table::len).sum();
        let held = self.active.table.len()
            + sealed.map_or(0, |sealed| sealed.contents.table.len())
            + settling
            + self.clean.len();
        held as u64 >= self.keys
    }

    /// Reads cold keys without the lock.
    pub fn warmer(&self) -> Warmer {
        Warmer {
            engine: Arc::clone(&self.engine),
            generation: self.meta.generation,
            flushes: self.flushes,
        }
    }

    /// Takes what was read into the cache. What was read before a flush ended may be older than what
    /// that flush wrote, which may have left the memory since: it is dropped.
    pub fn take_warm(&mut self, warm: Warm) {
        let same = warm
            .engine
            .is_some_and(|engine| Arc::ptr_eq(&engine, &self.engine));
        if !same || warm.flushes != self.flushes {
            return;
        }
        for read in warm.entries {
            let entry = read.entry();
            let hash = self.hash(entry.key());
            if self.locate(hash, entry.key()).is_none() && self.fits(&read) {
                self.stats.warmed += 1;
                self.evict();
                self.clean.insert(hash, &Draft::copy(entry));
                if let Some(slot) = self.clean.find(hash, entry.key()) {
                    self.clean.visit(slot); // it stays until it is read
                }
            }
        }
    }

    /// Whether the cache would hold such an entry: a big one would drive out too many others.
    pub(super) fn fits(&self, entry: &EntryBuf) -> bool {
        entry.len() <= self.options.memory_bytes / 16
    }

    /// How the cache fares.
    pub fn cache_stats(&self) -> CacheStats {
        self.stats
    }
}
