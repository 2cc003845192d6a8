//! The replication protocol: pure decisions, and the words that the programs exchange about them.
//!
//! It must not know sockets, files, clocks, Kubernetes or tokio: whatever happens comes in as an
//! input, whatever must be done goes out as an effect.

pub mod admin;
pub mod types;

pub use types::{
    Configuration, Epoch, EpochHistory, EpochStart, Lsn, Position, ReplicaId, VoterSet,
};
