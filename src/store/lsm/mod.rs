//! The [`Engine`] on disk: `lsm-tree`, used only through sorted ingestion.
//!
//! What we rely on, read in the source of the pinned version 3.1.10:
//!
//! - An ingestion writes its tables, syncs them and their directory, and then installs a manifest
//!   by renaming `current`: all or nothing. Its tables shadow older ones, by order of the runs
//!   and by a sequence number that the tree draws from our private counter. After opening, the
//!   counter must be set above the highest number on disk; it has nothing to do with LSNs.
//! - Every install draws a number. Reads at old numbers can panic once manifests were collected:
//!   we read the tables directly and always the newest, see [`view`].
//! - The tree holds versions, and so their files and manifests (`v<N>`), until some compaction
//!   with a high watermark collects them: [`LsmEngine::refresh`] does it after each install. Our
//!   watermark is above everything, so compaction keeps one version of a key; views that are
//!   being read hold their files themselves.
//! - The manifest counts the runs of a level in a `u8`: [`Engine::ingest`] compacts first where
//!   runs have piled up.
//! - Files of a failed ingestion or compaction stay until the next opening: [`LsmEngine::sweep`]
//!   removes them, or a full disk would get fuller with each try.
//! - An installation may fail after the renaming, as it syncs once more: the tree then shows the
//!   manifest before the one that `current` names, whose files must not be swept, and would write
//!   the next one over it. [`LsmEngine::settled`] finds that out, and the engine writes no more.
//! - Opening does not check the manifest against its checksum: [`verify`] does. Without a `current` it begins
//!   an empty tree beside the tables that are there: [`manifest`] has a copy.
//! - There is no lock file: whoever opens the directory has to make sure to be the only one.
//! - `clear`, key-value separation and FIFO compaction had bugs and are not used.

mod checkpoint;
mod keys;
mod manifest;
mod pace;
mod portion;
mod salvage;
mod verify;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lsm_tree::compaction::Leveled;
use lsm_tree::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use lsm_tree::{AbstractTree, AnyTree, Cache, Config, SeqNo, SequenceNumberCounter, Tree};
use parking_lot::{Mutex, RwLock};

use super::engine::{Change, Checkpoint, Damage, Engine, EngineStats, Entries};
use super::error::{Result, StoreError};
use super::meta::Meta;
use manifest::Prints;
use pace::{Filters, Pace};
use portion::Portion;
use view::View;

pub use salvage::Salvaged;

/// Runs in level 0 from which an ingestion waits for compaction. Each costs a read one more look
/// at a bloom filter; 255 would overflow the manifest.
const MAX_BACKLOG: usize = 20;

/// Where damage keeps compaction from its work, an ingestion goes on without it up to so many.
const MOST_BACKLOG: usize = 200;

/// Compaction and collection keep nothing for readers at older sequence numbers: there are none.
const WATERMARK: SeqNo = SeqNo::MAX >> 1;

/// Of a key in the filters: one in a thousand absent keys costs the reading of a block, which takes more
/// memory, in the cache, than the filters do.
const FILTER_BITS: f32 = 14.0;

/// Settings of an [`LsmEngine`].
#[derive(Clone, Copy, Debug)]
pub struct LsmOptions {
    /// Bytes of the cache of blocks read from disk.
    pub cache_bytes: u64,
    /// Bytes of a table that compaction writes.
    pub table_bytes: u64,
    /// Tables in level 0 at which they are merged into level 1.
    pub l0_tables: u8,
}

impl Default for LsmOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            table_bytes: 64 << 20,
            l0_tables: 4,
        }
    }
}

/// An LSM tree in a directory.
pub struct LsmEngine {
    dir: PathBuf,
    tree: Tree,
    cache: Arc<Cache>,
    strategy: Arc<Leveled>,
    view: RwLock<Arc<View>>,
    /// Views that may still be read, newest last. Kept here so that only maintenance is ever the
    /// last to let go of a table, which removes its file.
    views: Mutex<Vec<Arc<View>>>,
    ingesting: Mutex<()>,
    compacting: Mutex<Compacting>,
    ingested: AtomicU64,
    /// What the tables look like from outside.
    prints: Mutex<Prints>,
    /// What is on disk may not be what the tree shows, see [`StoreError::Unsettled`].
    unsettled: AtomicBool,
    pace: Arc<Pace>,
    table_bytes: u64,
}

/// The numbers of the tables in a directory: each is its file's name.
fn table_ids(tables: &Path) -> std::io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    for file in std::fs::read_dir(tables)? {
        let name = file?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(ids)
}

/// Keeps a copy of the newest manifest; it is of use only where that is damaged.
fn keep_manifest(dir: &Path, view: &View, prints: &mut Prints) {
    if let Err(error) = manifest::keep(dir, view, prints) {
        tracing::warn!(%error, "the copy of the manifest could not be written");
    }
}

/// Makes durable what is there, before it is believed: an earlier process may have ended when that failed, and what
/// it had written may be in the cache alone.
fn settle(dir: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            settle(&entry.path())?;
        } else {
            std::fs::File::open(entry.path())?.sync_all()?;
        }
    }
    std::fs::File::open(dir)?.sync_all()
}

/// State of the one compaction at a time.
#[derive(Debug, Default)]
struct Compacting {
    /// Generations below this one were dropped as far as whole tables go.
    dropped: u32,
}

impl LsmEngine {
    /// Opens the directory, creating it if it does not exist. The caller sees to it that nobody
    /// else has it open.
    pub fn open(dir: &Path, options: &LsmOptions) -> Result<Self> {
        let counter = SequenceNumberCounter::default();
        let visible = SequenceNumberCounter::default();
        let cache = Arc::new(Cache::with_capacity_bytes(options.cache_bytes));
        let pace = Arc::new(Pace::default());
        let config = Config::new(dir, counter.clone(), visible.clone())
            .use_cache(Arc::clone(&cache))
            .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(
                BloomConstructionPolicy::BitsPerKey(FILTER_BITS),
            )))
            .with_compaction_filter_factory(Some(Arc::new(Filters {
                pace: Arc::clone(&pace),
                dir: dir.to_owned(),
            })));
        settle(dir)?;
        verify::before_opening(dir)?;
        let mut prints = manifest::check_tables(dir)?;
        // What is named and is not there is damage, whatever the tree calls it.
        let opened = config.open().map_err(|error| match error {
            lsm_tree::Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
                StoreError::Corrupt(format!("a file is missing: {error}"))
            }
            lsm_tree::Error::Unrecoverable => StoreError::Corrupt(
                "its tables are not those that its manifest names, or one of them is cut"
                    .to_owned(),
            ),
            error => error.into(),
        })?;
        let AnyTree::Standard(tree) = opened else {
            return Err(StoreError::Corrupt("not a standard tree".to_owned()));
        };
        let next = tree
            .get_highest_persisted_seqno()
            .map_or(0, |seen| seen + 1);
        counter.set(next);
        visible.set(next);
        let strategy = Leveled::default()
            .with_table_target_size(options.table_bytes)
            .with_l0_threshold(options.l0_tables);
        let view = Arc::new(View::of(&tree));
        pace.backlog.store(view.backlog as u64, Ordering::Relaxed);
        keep_manifest(dir, &view, &mut prints);
        Ok(Self {
            dir: dir.to_owned(),
            prints: Mutex::new(prints),
            views: Mutex::new(vec![Arc::clone(&view)]),
            view: RwLock::new(view),
            tree,
            cache,
            strategy: Arc::new(strategy),
            ingesting: Mutex::default(),
            compacting: Mutex::default(),
            ingested: AtomicU64::new(0),
            unsettled: AtomicBool::new(false),
            pace,
            table_bytes: options.table_bytes,
        })
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// Reads see what the tree holds now, and files that nobody sees any more go.
    fn refresh(&self) -> Arc<View> {
        let path = &self.tree.tree_config().path;
        let collected = self
            .tree
            .get_version_history_lock()
            .maintenance(path, WATERMARK);
        if let Err(error) = collected {
            tracing::warn!(%error, "old manifests could not be removed");
        }
        let mut views = self.views.lock();
        let view = Arc::new(View::of(&self.tree));
        self.pace
            .backlog
            .store(view.backlog as u64, Ordering::Relaxed);
        let newer = views.last().is_none_or(|last| last.id != view.id);
        views.push(Arc::clone(&view));
        *self.view.write() = Arc::clone(&view);
        views.retain(|view| Arc::strong_count(view) > 1);
        if newer {
            keep_manifest(&self.dir, &view, &mut self.prints.lock());
        }
        view
    }

    fn write(&self, changes: &mut dyn Iterator<Item = Change<'_>>, meta: &Meta) -> Result<()> {
        let tree = AnyTree::Standard(self.tree.clone());
        let mut ingestion = tree.ingestion()?;
        ingestion.write(keys::META, meta.encode()?)?;
        let mut portion = Portion::default();
        for (key, stored) in changes {
            portion.add(key.len() + stored.map_or(0, <[u8]>::len), &self.dir)?;
            let key = keys::entry(meta.generation, key);
            match stored {
                Some(stored) => ingestion.write(key, stored)?,
                None => ingestion.write_tombstone(key)?,
            }
        }
        ingestion.finish()?;
        Ok(())
    }

    /// Waits for compaction where too many ingestions have piled up.
    fn make_way(&self) -> Result<()> {
        loop {
            let backlog = self.view().backlog;
            if backlog < MAX_BACKLOG {
                break;
            }
            match self.compact_step() {
                Err(_) if self.pace.interrupted.load(Ordering::Relaxed) => break,
                Err(error) if error.is_damage() && backlog < MOST_BACKLOG => break,
                more => {
                    if !more? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes the files that a failure left behind. Nobody may ingest or compact meanwhile.
    fn sweep(&self) -> Result<()> {
        self.refresh();
        let views = self.views.lock();
        let used = |id: u64| {
            let mut tables = views.iter().flat_map(|view| view.tables());
            tables.any(|table| table.id() == id)
        };
        let tables = self.dir.join("tables");
        for id in table_ids(&tables)?.into_iter().filter(|id| !used(*id)) {
            std::fs::remove_file(tables.join(id.to_string()))?;
        }
        Ok(())
    }

    /// Hands the error of a write on, or says that it left in doubt what is on disk.
    fn settled<T>(&self, result: Result<T>) -> Result<T> {
        let Err(error) = result else {
            return result;
        };
        let mut before = None;
        loop {
            let current = std::fs::read(self.dir.join("current")).ok();
            let named = current.and_then(|bytes| verify::named_by(&bytes));
            let shown = self.tree.current_version().id();
            if named == Some(shown) {
                return Err(error);
            }
            if before == Some((named, shown)) {
                self.unsettled.store(true, Ordering::Release);
                return Err(StoreError::Unsettled(error.to_string()));
            }
            before = Some((named, shown));
            // It is held during an installation: one that was half done is through.
            drop(self.tree.get_version_history_lock());
        }
    }

    fn may_write(&self) -> Result<()> {
        if self.unsettled.load(Ordering::Acquire) {
            let why = "since a write that failed".to_owned();
            return Err(StoreError::Unsettled(why));
        }
        Ok(())
    }

    /// Sweeps after an error, and hands the error on.
    fn swept<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            if matches!(error, StoreError::Unsettled(_)) {
                return result;
            }
            // What an interruption leaves behind goes with the next opening.
            if self.pace.interrupted.load(Ordering::Relaxed) {
                return result;
            }
            tracing::warn!(%error, "the LSM tree failed to write");
            if let Err(error) = self.sweep() {
                tracing::warn!(%error, "files of the failed write could not be removed");
            }
        }
        result
    }

    /// Drops the tables that hold nothing but retired generations.
    fn drop_retired(&self, state: &mut Compacting) -> Result<bool> {
        let retired = self.pace.retired.load(Ordering::Acquire);
        if state.dropped >= retired {
            return Ok(false);
        }
        self.tree.drop_range::<Vec<u8>, _>(keys::below(retired))?;
        state.dropped = retired;
        Ok(true)
    }

    fn compact(&self, state: &mut Compacting) -> Result<bool> {
        if self.drop_retired(state)? {
            return Ok(true);
        }
        let ingested = || self.ingested.load(Ordering::Acquire);
        let before = (self.tree.current_version().id(), ingested());
        self.tree.compact(self.strategy.clone(), WATERMARK)?;
        let after = (self.tree.current_version().id(), ingested());
        // Every install makes a version: those that no ingestion made are ours.
        Ok(after.0 - before.0 > after.1 - before.1)
    }
}

impl Engine for LsmEngine {
    fn meta(&self) -> Result<Meta> {
        match self.view().get(keys::META)? {
            Some(bytes) => Meta::decode(&bytes),
            None => Ok(Meta::default()),
        }
    }

    fn get(&self, generation: u32, key: &[u8], into: &mut Vec<u8>) -> Result<bool> {
        let found = self.view().get(&keys::entry(generation, key))?;
        if let Some(stored) = &found {
            into.reserve_exact(stored.len());
            into.extend_from_slice(stored);
        }
        Ok(found.is_some())
    }

    fn range(&self, generation: u32, from: &[u8]) -> Entries {
        let from = keys::entry(generation, from);
        self.view().range(from, &keys::end(generation))
    }

    fn sample(&self, generation: u32, random: u64) -> Result<Option<Vec<u8>>> {
        let (first, end) = (keys::entry(generation, b""), keys::end(generation));
        let view = self.view();
        let Some(place) = view.random_place(&first, &end, random) else {
            return Ok(None);
        };
        // A few steps on, lest the key after a gap comes up all the time.
        let steps = random as usize % 16;
        let mut after = view
            .clone()
            .range(place.max(first.clone()), &end)
            .take(steps + 1);
        let mut found = None;
        for item in &mut after {
            found = Some(item?.0);
        }
        if found.is_none() {
            found = view
                .range(first, &end)
                .next()
                .transpose()?
                .map(|item| item.0);
        }
        Ok(found)
    }

    fn ingest(&self, changes: &mut dyn Iterator<Item = Change<'_>>, meta: &Meta) -> Result<()> {
        let _one_at_a_time = self.ingesting.lock();
        self.make_way()?;
        self.may_write()?;
        let result = self.settled(self.write(changes, meta));
        if result.is_ok() {
            self.ingested.fetch_add(1, Ordering::AcqRel);
            self.refresh();
            return Ok(());
        }
        let _no_compaction = self.compacting.lock();
        self.swept(result)
    }

    fn retire(&self, generation: u32) {
        self.pace.retired.fetch_max(generation, Ordering::AcqRel);
    }

    fn compact_step(&self) -> Result<bool> {
        let result = {
            let mut state = self.compacting.lock();
            self.may_write()?;
            self.settled(self.compact(&mut state))
        };
        if result.is_ok() {
            self.refresh();
            return result;
        }
        // The same order of locks as in an ingestion, which may be what called us.
        let Some(_no_ingestion) = self.ingesting.try_lock() else {
            return result;
        };
        let _no_compaction = self.compacting.lock();
        self.swept(result)
    }

    fn squeeze(&self) -> Result<()> {
        let result = {
            let _alone = self.compacting.lock();
            self.may_write()?;
            self.pace.urgent.store(true, Ordering::Relaxed);
            let done = self.tree.major_compact(self.table_bytes, WATERMARK);
            self.pace.urgent.store(false, Ordering::Relaxed);
            self.settled(done.map_err(StoreError::from))
        };
        if result.is_err() {
            let _no_ingestion = self.ingesting.lock();
            let _no_compaction = self.compacting.lock();
            return self.swept(result);
        }
        self.refresh();
        Ok(())
    }

    fn interrupt(&self) {
        self.pace.interrupted.store(true, Ordering::Relaxed);
    }

    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint> {
        checkpoint::create(|| self.refresh(), &self.dir, dir)
    }

    fn verify(&self, pace: &mut dyn FnMut(u64) -> bool) -> Result<Vec<Damage>> {
        verify::verify(&self.dir, || self.refresh(), pace)
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            cache_bytes: self.cache.size(),
            cache_capacity: self.cache.capacity(),
            ..self.view().stats()
        }
    }
}

#[cfg(test)]
mod tests;
