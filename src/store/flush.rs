//! Moving changes to the engine: seal, flush without the lock, settle.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::draft::Draft;
use super::entry::Entry;
use super::error::{Result, StoreError};
use super::expiry::Undo;
use super::layer::{Contents, FlushDone, FlushJob, Layer, Sealed, Ticket};
use super::meta::Meta;
use super::state::Store;
use super::table::{SHARDS, Table};
use crate::replication::{EpochHistory, Lsn};

/// Entries that one call of [`Store::settle`] moves, about a millisecond's worth.
const SETTLE_ENTRIES: usize = 1000;

/// What the caller knows about the log at the cut of a flush.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    /// The epochs of the log up to there.
    pub history: EpochHistory,
    /// The log's chain there.
    pub chain: u32,
}

/// Memory to be freed, which can take a while: drop it without the lock.
#[derive(Debug, Default)]
#[must_use]
pub struct Garbage {
    pub(super) tables: Vec<Table>,
    pub(super) contents: Vec<Arc<Contents>>,
    pub(super) undos: Vec<Undo>,
}

impl Store {
    /// Whether enough has changed for a flush, and none is under way.
    pub fn should_flush(&self) -> bool {
        self.sealed.is_none() && self.active.table.bytes() >= self.options.flush_bytes
    }

    /// Whether a flush is under way.
    pub fn is_flushing(&self) -> bool {
        self.sealed.is_some()
    }

    /// Cuts at the last record applied: what changed up to there is what the job writes, which
    /// may be nothing but the cut itself. `None` if a flush is under way.
    pub fn seal(&mut self, cut: Cut) -> Option<FlushJob> {
        if self.sealed.is_some() {
            return None;
        }
        let layer = self.replace_active();
        let meta = Meta {
            flushed: self.applied,
            history: cut.history,
            chain: cut.chain,
            keys: self.keys,
            generation: self.generation,
            expiring: self.expiry.most(),
        };
        let contents = Arc::new(Contents {
            table: layer.table,
            cleared: layer.cleared,
            meta,
        });
        let ticket = Ticket::default();
        self.sealed = Some(Sealed {
            id: layer.id,
            contents: Arc::clone(&contents),
            absorbed: layer.absorbed,
            undo: layer.undo,
            ticket: ticket.clone(),
        });
        Some(FlushJob {
            contents,
            ticket,
            engine: Arc::clone(&self.engine),
        })
    }

    fn replace_active(&mut self) -> Layer {
        // The next one will be about as large.
        let table = self.active.table.next();
        let layer = Layer::new(self.next_layer, table);
        self.next_layer += 1;
        std::mem::replace(&mut self.active, layer)
    }

    /// The flush is on disk: F moves. Then call [`settle`](Self::settle) until it is done. An
    /// error, and no change, if it is no flush of this store: one of an earlier life, perhaps.
    #[expect(clippy::needless_pass_by_value, reason = "a flush is finished once")]
    pub fn finish_flush(&mut self, done: FlushDone) -> Result<()> {
        let sealed = self
            .sealed
            .take_if(|sealed| sealed.ticket.same(&done.ticket));
        let sealed = sealed.ok_or(StoreError::FlushCancelled)?;
        self.flushes += 1;
        self.meta = sealed.contents.meta.clone();
        self.engine.retire(self.meta.generation);
        self.garbage.undos.push(sealed.undo);
        match Arc::try_unwrap(sealed.contents) {
            // Under a `Clear`, nothing of it will be seen.
            Ok(contents) if self.active.cleared.is_none() => {
                self.settling.push_back(contents.table);
            }
            Ok(contents) => self.garbage.tables.push(contents.table),
            // Still held elsewhere: the engine has all of it.
            Err(contents) => self.garbage.contents.push(contents),
        }
        Ok(())
    }

    /// Moves some of the flushed entries to the cache; `false` if there are none left.
    pub fn settle(&mut self) -> bool {
        let mut moved = 0;
        while moved < SETTLE_ENTRIES {
            let Some(table) = self.settling.front_mut() else {
                return false;
            };
            if self.settle_shard == SHARDS {
                self.settle_shard = 0;
                self.settling.pop_front();
                continue;
            }
            let drained = table.drain_shard(self.settle_shard);
            self.settle_shard += 1;
            let mut wanted = Vec::new();
            for (handle, entry) in drained.iter() {
                moved += 1;
                let hash = self.hash(entry.key());
                let newer = self.locate_unflushed(hash, entry.key()).is_some()
                    || self
                        .settling
                        .iter()
                        .any(|newer| newer.find(hash, entry.key()).is_some());
                if !newer && !entry.is_tombstone() {
                    wanted.push((hash, handle));
                }
            }
            self.clean.absorb(drained, &wanted);
            let _ = wanted.iter().take_while(|_| self.evict()).count();
        }
        true
    }

    /// Whether nobody but the store holds the sealed layer, so that it can take changes again.
    pub(super) fn can_unseal(&self) -> bool {
        let sealed = self.sealed.as_ref();
        sealed.is_some_and(|sealed| {
            Arc::strong_count(&sealed.contents) == 1 && !sealed.ticket.is_begun()
        })
    }

    /// The sealed layer takes the place of the active one, of which everything has been taken back.
    pub(super) fn unseal(&mut self) {
        let Some(sealed) = self.sealed.take() else {
            return;
        };
        match Arc::try_unwrap(sealed.contents) {
            Ok(contents) => {
                let mut layer = Layer::new(sealed.id, contents.table);
                layer.cleared = contents.cleared;
                layer.absorbed = sealed.absorbed;
                layer.undo = sealed.undo;
                let empty = std::mem::replace(&mut self.active, layer);
                self.active.absorbed.push(empty.id);
                self.active.absorbed.extend(empty.absorbed);
                self.garbage.tables.push(empty.table);
            }
            Err(contents) => self.sealed = Some(Sealed { contents, ..sealed }),
        }
    }

    /// Gives up a flush whose job was dropped or has failed: its entries are unflushed again.
    /// Takes about 0.2 microseconds an entry. An error if the job is running, or has succeeded.
    pub fn abort_flush(&mut self) -> Result<()> {
        let Some(sealed) = self.sealed.take_if(|sealed| sealed.ticket.cancel()) else {
            return match self.sealed {
                Some(_) => Err(StoreError::FlushRunning),
                None => Ok(()),
            };
        };
        // What the newer layer replaced in the older one was not noted.
        self.keep_all();
        let mut active = self.replace_active();
        let merged = &mut self.active;
        merged.absorbed = vec![active.id, sealed.id];
        merged.absorbed.append(&mut active.absorbed);
        merged.absorbed.extend(sealed.absorbed);
        merged.undo = active.undo;
        merged.undo.absorb(sealed.undo);
        if active.cleared.is_some() {
            merged.table = active.table;
            merged.cleared = active.cleared;
            self.garbage.contents.push(sealed.contents);
            return Ok(());
        }
        merged.cleared = sealed.contents.cleared;
        merged.table = match Arc::try_unwrap(sealed.contents) {
            Ok(contents) => contents.table,
            Err(shared) => {
                let mut table = Table::new(self.common.clone());
                for entry in shared.table.iter() {
                    let hash = self.common.hasher.hash_one(entry.key());
                    table.insert(hash, &Draft::copy(entry));
                }
                table
            }
        };
        for shard in 0..SHARDS {
            let newer = active.table.drain_shard(shard);
            let hashed = |(handle, entry): (_, Entry<'_>)| (self.hash(entry.key()), handle);
            let wanted: Vec<_> = newer.iter().map(hashed).collect();
            self.active.table.absorb(newer, &wanted);
        }
        Ok(())
    }

    /// Forgets what is not committed: goes back to F, or to the cut of a flush whose job was
    /// started, since that must be committed. Returns the LSN that the state is at: records
    /// after it are to be applied again. Scans end.
    pub fn reset(&mut self) -> Lsn {
        let active = self.replace_active();
        self.garbage.tables.push(active.table);
        self.expiry.restore(active.undo);
        if let Some(sealed) = self.sealed.take_if(|sealed| sealed.ticket.cancel()) {
            self.garbage.contents.push(sealed.contents);
            self.expiry.restore(sealed.undo);
        }
        let started = self.sealed.as_ref();
        let base = started.map_or(&self.meta, |sealed| &sealed.contents.meta);
        self.applied = base.flushed;
        self.keys = base.keys;
        self.generation = base.generation;
        self.keep_all();
        self.scans.clear();
        self.pages.clear();
        self.applied
    }

    /// What is to be freed: drop it without the lock.
    pub fn take_garbage(&mut self) -> Garbage {
        std::mem::take(&mut self.garbage)
    }
}

impl Garbage {
    /// Whether there is nothing to free.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.contents.is_empty() && self.undos.is_empty()
    }
}
