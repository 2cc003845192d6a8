//! The state: a hash table of what is hot or not flushed yet, an LSM tree below it.
//!
//! It must not know the log, the protocol or the network.

pub mod record;

pub use record::Record;
