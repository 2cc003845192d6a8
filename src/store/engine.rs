//! What the store needs of the ordered storage below it.

use std::path::Path;

use super::error::Result;
use super::meta::Meta;

/// A change of one key as a flush writes it: the key, and the stored value or `None` to remove it.
pub type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// Keys and stored values in ascending order of the keys.
pub type Entries = Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + Send>;

/// Ordered storage of the state at the flush LSN. Keys live in generations; only those of the
/// newest one are ever read. All calls may block on the disk, and may come from any thread at once.
pub trait Engine: Send + Sync {
    /// The record of the last ingestion; the default one if there was none.
    fn meta(&self) -> Result<Meta>;

    /// Appends the stored value of the key to `into`; `false` if there is none.
    fn get(&self, generation: u32, key: &[u8], into: &mut Vec<u8>) -> Result<bool>;

    /// The entries of a generation from `from` on, as they are at the time of the call.
    fn range(&self, generation: u32, from: &[u8]) -> Entries;

    /// Some key at or after which a random place lies; roughly as often one as another.
    fn sample(&self, generation: u32, random: u64) -> Result<Option<Vec<u8>>>;

    /// Takes over changes of `meta.generation`, in ascending order of the keys, together with
    /// `meta`: durable, and all or nothing, even through a crash. Waits for compaction where too
    /// many ingestions have piled up.
    fn ingest(&self, changes: &mut dyn Iterator<Item = Change<'_>>, meta: &Meta) -> Result<()>;

    /// Generations below this one are not read any more and may be dropped.
    fn retire(&self, generation: u32);

    /// Does a bounded piece of maintenance; `false` if there was nothing to do.
    fn compact_step(&self) -> Result<bool>;

    /// Writes everything anew without what is overwritten or removed, which needs as much room as what is
    /// left takes, and gives the rest back.
    fn squeeze(&self) -> Result<()>;

    /// The engine is about to be closed: a compaction that runs fails soon.
    fn interrupt(&self);

    /// Creates the directory `dir`, on the same file system, with a complete copy of the state
    /// that shares the files. Either all of it is there, or `dir` is not.
    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint>;

    /// Reads every file of the current state and tells which ones are not what was written. `pace` is
    /// told how many bytes were read, may take its time, and ends it by `false`.
    fn verify(&self, pace: &mut dyn FnMut(u64) -> bool) -> Result<Vec<Damage>>;

    /// Figures for people and for throttling.
    fn stats(&self) -> EngineStats;
}

/// A complete copy of the flushed state in a directory of its own. Its files never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What state it is.
    pub meta: Meta,
    /// Its files, in an order in which they can be copied.
    pub files: Vec<CheckpointFile>,
}

/// A file of a [`Checkpoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFile {
    /// Path within the directory, with `/` between components.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// XXH3-128 (seed 0) of the whole file, where it is known without reading the file.
    pub xxh3: Option<u128>,
}

/// A file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Path within the directory of the state.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Figures of an [`Engine`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Bytes of the files of the current state.
    pub disk_bytes: u64,
    /// Files of the current state.
    pub files: u64,
    /// Entries in them, overwritten and removed ones included.
    pub entries: u64,
    /// Ingestions that wait for compaction: each one costs a read some time.
    pub backlog: u64,
    /// Bytes that the block cache may take: it cannot be changed while the engine is open.
    pub cache_capacity: u64,
    /// Bytes of the block cache that are in use.
    pub cache_bytes: u64,
}
