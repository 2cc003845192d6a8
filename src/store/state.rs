//! The store: lookups and changes. Flushing is in `flush.rs`, walking in `scan.rs`.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::draft::Draft;
use super::engine::Engine;
use super::entry::{Entry, EntryBuf, EntryRef};
use super::error::{MAX_KEY, MAX_VALUE, Result, StoreError};
use super::expiry::{Expiries, Expiry, ExpiryFill};
use super::flush::Garbage;
use super::layer::{Layer, Sealed};
use super::meta::Meta;
use super::page::Pages;
use super::record::Record;
use super::rollback::{Kind, Rollback};
use super::scan::Scans;
use super::table::{Common, Hand, Slot, Table};
use super::warm::{CacheStats, read_entry};
use crate::replication::Lsn;

/// Buckets that one change or read looks at to find entries to evict. More than one entry comes
/// in with none of them, so the cache shrinks to its budget in the end.
const EVICT_STEPS: usize = 64;

/// Estimated bytes that an expiry takes in the index.
const HINT_BYTES: usize = 96;

/// Settings of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Bytes of memory for entries, those that are not flushed yet included.
    pub memory_bytes: usize,
    /// Bytes of unflushed entries from which on a flush is due.
    pub flush_bytes: usize,
    /// Bytes of unflushed entries, those being flushed included, from which on writers have to
    /// wait.
    pub stall_bytes: usize,
    /// Makes the ids of scan cursors differ from those of other replicas and of earlier lives.
    pub seed: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            flush_bytes: 64 << 20,
            stall_bytes: 192 << 20,
            seed: 0,
        }
    }
}

/// What the store knows about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup<'a> {
    /// Its entry, whether expired or not.
    pub value: Option<EntryRef<'a>>,
    /// LSN of the newest change, a deletion or `Clear` included; 0 if the key is absent and that
    /// is flushed, so committed.
    pub lsn: Lsn,
}

/// The state: what changed since the last flush and a cache in memory, everything else in the
/// engine. To be used under one lock; no call takes long.
///
/// Where a key is, from the newest on: `active`, `sealed` (being flushed), `settling` (flushed,
/// on the way to the cache), `clean` (the cache), the engine. A key that is in one of the first
/// three is not in `clean`.
pub struct Store {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) options: StoreOptions,
    pub(super) common: Common,
    pub(super) meta: Meta,
    pub(super) applied: Lsn,
    pub(super) keys: u64,
    /// The generation that the next flush writes.
    pub(super) generation: u32,
    pub(super) next_layer: u64,
    pub(super) active: Layer,
    pub(super) sealed: Option<Sealed>,
    pub(super) settling: VecDeque<Table>,
    /// The next shard of the oldest settling table.
    pub(super) settle_shard: usize,
    pub(super) clean: Table,
    hand: Hand,
    /// The last entry read that is too big for the cache.
    too_big: Option<EntryBuf>,
    pub(super) expiry: Expiry,
    pub(super) scans: Scans,
    pub(super) pages: Pages,
    pub(super) garbage: Garbage,
    /// What changes that are not committed have overwritten.
    pub(super) rollback: Rollback,
    /// Flushes that ended since the opening.
    pub(super) flushes: u64,
    pub(super) stats: CacheStats,
}

/// Where the newest entry of a key was found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Active(Slot),
    Sealed(Slot),
    Settling(usize, Slot),
    Clean(Slot),
    TooBig,
    Absent(Lsn),
}

impl Store {
    /// The state at the engine's flush LSN. Records after it are to be applied again.
    pub fn open(engine: Arc<dyn Engine>, options: StoreOptions) -> Result<Self> {
        let meta = engine.meta()?;
        engine.retire(meta.generation);
        let expiry = Expiry::of(&meta);
        let common = Common::default();
        let applied = meta.flushed;
        Ok(Self {
            engine,
            options,
            applied,
            keys: meta.keys,
            generation: meta.generation,
            meta,
            next_layer: 1,
            active: Layer::new(0, Table::new(common.clone())),
            sealed: None,
            settling: VecDeque::new(),
            settle_shard: 0,
            clean: Table::new(common.clone()),
            hand: Hand::default(),
            too_big: None,
            common,
            expiry,
            scans: Scans::new(options.seed),
            pages: Pages::default(),
            garbage: Garbage::default(),
            rollback: Rollback::at(applied),
            flushes: 0,
            stats: CacheStats::default(),
        })
    }

    /// What the engine holds.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Changes the memory budget; the cache shrinks to it with the next changes and reads.
    pub fn set_options(&mut self, options: StoreOptions) {
        self.options = options;
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// LSN of the last record applied.
    pub fn applied(&self) -> Lsn {
        self.applied
    }

    /// The number of keys, expired ones that were not deleted included.
    pub fn len(&self) -> u64 {
        self.keys
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// About how many keys expire.
    pub fn expiring(&self) -> u64 {
        self.expiry.len() as u64
    }

    /// Bytes of memory in use for entries, and roughly those for the index of expiries.
    pub fn bytes(&self) -> usize {
        let settling: usize = self.settling.iter().map(Table::bytes).sum();
        let tables = self.unflushed_bytes() + settling + self.clean.bytes();
        let index = self.expiry.len() * HINT_BYTES;
        tables + self.common.pool.bytes() + index + self.rollback.bytes()
    }

    /// Bytes of memory of the entries that are not flushed.
    pub fn unflushed_bytes(&self) -> usize {
        let sealed = self.sealed.as_ref();
        self.active.table.bytes() + sealed.map_or(0, |sealed| sealed.contents.table.bytes())
    }

    /// Whether writers should be made to wait until a flush is finished.
    pub fn write_stall(&self) -> bool {
        self.unflushed_bytes() >= self.options.stall_bytes
    }

    /// How urgent it is that a flush ends: 1 once as much has changed since as makes the next one due.
    pub fn pressure(&self) -> f64 {
        let due = self.options.flush_bytes.max(1);
        self.unflushed_bytes().saturating_sub(due) as f64 / due as f64
    }

    /// Bytes of unflushed entries that there may be where no flush succeeds: room for deletions.
    pub fn most_unflushed(&self) -> usize {
        self.options.stall_bytes * 2
    }

    /// The hash of a key, for [`touch`](Self::touch).
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.common.hasher.hash_one(key)
    }

    /// Brings what [`get`](Self::get) would look at into the processor's caches, if it is in memory;
    /// what it answers only keeps the compiler from leaving it out.
    pub fn touch(&self, hash: u64) -> Option<u8> {
        let sealed = self.sealed.as_ref().map(|sealed| &sealed.contents.table);
        let tables = [&self.active.table].into_iter().chain(sealed);
        let mut tables = tables.chain(&self.settling).chain([&self.clean]);
        tables.find_map(|table| table.touch(hash))
    }

    /// The newest change of a key. Reads from the engine only if nothing is known in memory.
    pub fn get(&mut self, key: &[u8]) -> Result<Lookup<'_>> {
        let hash = self.hash(key);
        self.too_big = None;
        let place = match self.locate(hash, key) {
            Some(Place::Clean(slot)) => {
                self.clean.visit(slot);
                Place::Clean(slot)
            }
            Some(place) => place,
            None => self.fetch(hash, key)?,
        };
        Ok(match self.entry(place) {
            Ok(entry) => Lookup {
                value: entry.value(),
                lsn: entry.lsn(),
            },
            Err(lsn) => Lookup { value: None, lsn },
        })
    }

    /// The newest entry in memory, if that decides what the key's value is.
    pub(super) fn locate(&self, hash: u64, key: &[u8]) -> Option<Place> {
        if let Some(place) = self.locate_unflushed(hash, key) {
            return Some(place);
        }
        for (at, table) in self.settling.iter().enumerate().rev() {
            if let Some(slot) = table.find(hash, key) {
                return Some(Place::Settling(at, slot));
            }
        }
        self.clean.find(hash, key).map(Place::Clean)
    }

    pub(super) fn locate_unflushed(&self, hash: u64, key: &[u8]) -> Option<Place> {
        if let Some(slot) = self.active.table.find(hash, key) {
            return Some(Place::Active(slot));
        }
        if let Some(lsn) = self.active.cleared {
            return Some(Place::Absent(lsn));
        }
        let contents = &self.sealed.as_ref()?.contents;
        let found = contents.table.find(hash, key).map(Place::Sealed);
        found.or_else(|| contents.cleared.map(Place::Absent))
    }

    /// The entry at a place, or the LSN of the `Clear` that removed it.
    pub(super) fn entry(&self, place: Place) -> Result<Entry<'_>, Lsn> {
        match place {
            Place::Active(slot) => Ok(self.active.table.at(slot)),
            Place::Sealed(slot) => {
                let sealed = self.sealed.as_ref().ok_or(Lsn::ZERO)?;
                Ok(sealed.contents.table.at(slot))
            }
            Place::Settling(at, slot) => Ok(self.settling[at].at(slot)),
            Place::Clean(slot) => Ok(self.clean.at(slot)),
            Place::TooBig => {
                let entry = self.too_big.as_ref().map(EntryBuf::entry);
                entry.ok_or(Lsn::ZERO)
            }
            Place::Absent(lsn) => Err(lsn),
        }
    }

    /// Reads a key from the engine into the cache.
    fn fetch(&mut self, hash: u64, key: &[u8]) -> Result<Place> {
        self.stats.fetched += 1;
        let Some(entry) = read_entry(&*self.engine, self.meta.generation, key)? else {
            return Ok(Place::Absent(Lsn::ZERO));
        };
        if !self.fits(&entry) {
            self.too_big = Some(entry);
            return Ok(Place::TooBig);
        }
        self.evict();
        self.clean.insert(hash, &Draft::copy(entry.entry()));
        let slot = self.clean.find(hash, key);
        Ok(slot.map_or(Place::Absent(Lsn::ZERO), Place::Clean))
    }

    /// Removes some entries from the cache if memory is over the budget; `true` if it still is,
    /// and something can be done about it.
    pub fn evict(&mut self) -> bool {
        for _ in 0..EVICT_STEPS {
            if self.clean.len() == 0 || self.bytes() <= self.options.memory_bytes {
                return false;
            }
            let gone = self.clean.evict_step(&mut self.hand);
            self.stats.evicted += u64::from(gone);
        }
        true
    }

    /// Applies the record that ends at `lsn`, and is committed. Records come in the order of the log.
    pub fn apply(&mut self, record: &Record<'_>, lsn: Lsn) -> Result<()> {
        self.bring_forward(record, lsn, false)?;
        self.rollback.stays(lsn);
        Ok(())
    }

    /// The same for one that is not committed: it can be [taken back](Self::take_back) until it is said to be
    /// [committed](Self::committed).
    pub fn apply_ahead(&mut self, record: &Record<'_>, lsn: Lsn) -> Result<()> {
        self.bring_forward(record, lsn, true)?;
        self.bound_rollback();
        Ok(())
    }

    #[inline]
    fn bring_forward(&mut self, record: &Record<'_>, lsn: Lsn, ahead: bool) -> Result<()> {
        assert!(
            lsn > self.applied,
            "record {lsn} comes after {}",
            self.applied
        );
        match *record {
            Record::Barrier { .. } => {}
            Record::Put {
                key,
                value,
                expire_at_ms,
                created,
            } => {
                check_size(key, value)?;
                let kind = if created {
                    Kind::Created
                } else {
                    Kind::Replaced
                };
                let note = ahead.then_some((lsn, kind));
                self.change(&Draft::put(key, value, expire_at_ms, lsn), note);
                if expire_at_ms != 0 {
                    self.expiry.insert(expire_at_ms, key);
                }
                self.keys += u64::from(created);
            }
            Record::Delete { key } => {
                check_size(key, b"")?;
                let note = ahead.then_some((lsn, Kind::Deleted));
                self.change(&Draft::tombstone(key, lsn), note);
                debug_assert!(self.keys > 0, "only keys that exist are deleted");
                self.keys = self.keys.saturating_sub(1);
            }
            Record::Clear => self.clear(lsn, ahead),
        }
        self.applied = lsn;
        self.evict();
        Ok(())
    }

    fn change(&mut self, draft: &Draft<'_>, note: Option<(Lsn, Kind)>) {
        let key = draft.key();
        let hash = self.hash(key);
        let mut hint = 0;
        if !self.expiry.is_empty()
            && let Some(place) = self.locate(hash, key)
        {
            let old = self.entry(place).map_or(0, Entry::expire_at_ms);
            if old != 0 {
                self.expiry.remove(old, key, &mut self.active.undo);
                hint = old;
            }
        }
        let (table, rollback) = (&mut self.active.table, &mut self.rollback);
        let found = match note {
            None => table.insert(hash, draft),
            Some((lsn, kind)) => {
                rollback.note(lsn, kind, key, hint);
                table.replace(hash, draft, |old| rollback.replaces(old))
            }
        };
        if !found {
            self.clean.remove(hash, key);
        }
    }

    /// Nothing is looked at: the tables are dropped later, and the engine's entries are left
    /// behind in a generation that is not read any more.
    fn clear(&mut self, lsn: Lsn, ahead: bool) {
        let empty = || Table::new(self.common.clone());
        let active = std::mem::replace(&mut self.active.table, empty());
        let clean = std::mem::replace(&mut self.clean, empty());
        self.garbage.tables.push(clean);
        if ahead {
            self.note_clear(lsn, active);
        } else {
            self.garbage.tables.push(active);
        }
        if self.active.cleared.is_none() {
            self.generation += 1;
        }
        self.active.cleared = Some(lsn);
        self.keys = 0;
        self.garbage.tables.extend(self.settling.drain(..));
        self.settle_shard = 0;
        self.expiry.clear(&mut self.active.undo);
    }

    /// Up to about `limit` keys whose time has come, for somebody to delete. A key comes up
    /// again until it is deleted. To be called on replicas that may not delete as well, now and
    /// then: it tidies the index.
    pub fn expired(&mut self, now_ms: u64, limit: usize) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        for (at, key) in self.expiry.due(now_ms, limit) {
            let entry = self.get(&key)?.value;
            if entry.is_some_and(|entry| entry.expire_at_ms == at) {
                keys.push(key.into_vec());
            } else {
                self.expiry.remove(at, &key, &mut self.active.undo);
                self.note_hint(at, &key);
            }
        }
        Ok(keys)
    }

    /// Which of the keys that [`expired`](Self::expired) looks up are on disk only: to be read before.
    pub fn expired_and_cold(&self, now_ms: u64, limit: usize) -> Vec<Vec<u8>> {
        let due = self.expiry.due(now_ms, limit).into_iter();
        let cold = due.filter(|(_, key)| self.is_cold(key));
        cold.map(|(_, key)| key.into_vec()).collect()
    }

    /// To be worked off once after opening: until then, [`expired`](Self::expired) misses keys
    /// that were flushed before. `None` if there are none.
    pub fn expiry_fill(&self) -> Option<ExpiryFill> {
        let missing = self.expiry.most().is_none();
        let generation = self.meta.generation;
        missing.then(|| ExpiryFill::new(Arc::clone(&self.engine), generation, self.expiry.life()))
    }

    /// An [`ExpiryFill`] has come to its end, and all that it found was taken over.
    pub fn expiries_filled(&mut self, fill: &ExpiryFill) {
        self.expiry.filled(fill.life);
    }

    /// A hint, as one stays of a key that was changed while it was on disk only.
    #[cfg(test)]
    pub(crate) fn add_hint(&mut self, expire_at_ms: u64, key: &[u8]) {
        self.expiry.insert(expire_at_ms, key);
    }

    /// Takes over what an [`ExpiryFill`] found, unless a `Clear` has removed all of that meanwhile, or was taken
    /// back: then another fill is needed, or none.
    pub fn add_expiries(&mut self, found: Expiries) {
        if found.life == self.expiry.life() {
            self.expiry.extend(found.hints);
        }
    }
}

/// Whether the store takes such a key and value.
pub fn check_size(key: &[u8], value: &[u8]) -> Result<()> {
    if key.len() > MAX_KEY {
        return Err(StoreError::KeyTooLong(key.len()));
    }
    if value.len() > MAX_VALUE {
        return Err(StoreError::ValueTooLong(value.len()));
    }
    Ok(())
}
