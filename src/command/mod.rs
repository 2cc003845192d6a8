//! The commands of the Redis protocol: one file per family, executed against a [`View`].
//!
//! It must not know the log, replication, sockets or tasks.

pub mod view;

pub use view::{EntryRef, View, ViewError};
