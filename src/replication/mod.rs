//! The replication protocol: pure decisions, and the words that the programs exchange about them.
//!
//! [`Core::step`] takes what happened and answers what must be done. It must not know sockets,
//! files, clocks, Kubernetes or tokio: the server's shell is one driver of it, a simulation another.
//!
#![doc = include_str!("protocol.md")]

pub mod admin;
mod configure;
mod core;
mod follower;
mod handover;
mod leader;
mod lease;
pub mod message;
mod progress;
mod release;
pub mod types;
mod view;
mod words;

pub use core::Core;
pub use lease::Lease;
pub use types::{
    Addressee, Configuration, Epoch, EpochHistory, EpochStart, Lsn, Position, ReplicaId, Standing,
    StoreId, VoterSet,
};

pub use view::{CoreView, FollowerView};
pub use words::{Effect, HardState, Input, Peer, Recovered};

#[cfg(test)]
mod tests;
