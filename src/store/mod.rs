//! The state: a hash table of what is hot or not flushed yet, an LSM tree below it.
//!
//! | file | what it is for |
//! |---|---|
//! | `record` | the records of the log, which [`Store::apply`] applies |
//! | `state` | [`Store`]: lookups, changes, the cache |
//! | `layer`, `flush` | changes that are not flushed, and how they become so |
//! | `rollback` | taking back what is not committed |
//! | `scan`, `expiry`, `digest` | walking over keys; finding expired ones; comparing states |
//! | `warm`, `page` | cold keys, and pages of scans, read without the lock |
//! | `table`, `shard` | the hash table, and the small ones that it is made of |
//! | `arena` | the memory in which entries lie |
//! | `entry`, `draft` | what an entry is: read, and written |
//! | `engine` | what the store needs below it: [`LsmEngine`] on disk, [`MemoryEngine`] for tests |
//! | `meta` | what a flush writes besides entries |
//!
//! `format.md` describes the bytes. A flush goes like this: [`Store::seal`] cuts, in no time, at
//! the last record applied; once that is committed, [`FlushJob::run`] writes the changes without
//! the lock; [`Store::finish_flush`] takes note; [`Store::settle`] moves the entries to the cache
//! in slices. A crash at any moment leaves the state at the old cut or at the new one.
//!
//! It must not know the log, the protocol or the network.

mod arena;
mod digest;
mod draft;
mod engine;
mod entry;
mod error;
mod expiry;
mod flush;
mod layer;
mod lsm;
mod memory;
mod meta;
mod page;
pub mod record;
mod rollback;
mod scan;
mod shard;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod warm;

pub use digest::{Digest, digest};
pub use engine::{Change, Checkpoint, CheckpointFile, Damage, Engine, EngineStats, Entries};
pub use entry::EntryRef;
pub use error::{MAX_KEY, MAX_VALUE, Result, StoreError};
pub use expiry::{Expiries, ExpiryFill};
pub use flush::{Cut, Garbage};
pub use layer::{FlushDone, FlushJob};
pub use lsm::{LsmEngine, LsmOptions, Salvaged};
pub use memory::MemoryEngine;
pub use meta::Meta;
pub use page::{Page, PageReader};
pub use record::{Record, RecordError};
pub use scan::Deadline;
pub use state::{Lookup, Store, StoreOptions, check_size};
pub use warm::{CacheStats, Warm, Warmer};
