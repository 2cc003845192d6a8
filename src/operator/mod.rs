//! The operator: makes what a `ReplicatedStore` asks for, and is the configuration manager of the
//! replication protocol: it alone decides who leads, by compare-and-swap on the object's status.
//!
//! # Design
//!
//! [`reconcile`] is the whole of it on a page: observe, validate, plan, build, apply, report. What
//! decides is pure ([`plan`], [`build`], [`report`]); what talks ([`observe`], [`apply`],
//! [`supervisor`]) decides nothing.
//!
//! - The register is read from the API server itself, never from a cache, and written on the
//!   condition that nobody has written the object since.
//! - The supervisor holds a stream to every replica and wakes the reconcile only when something
//!   that matters has changed: an idle store causes no request.
//! - Failover does not wait for the operator that holds the lease: the others hear all replicas too,
//!   and take the lead from a leader that is gone a second later ([`standby`]).
//! - The operator never touches a replica's disk, runs nothing inside a Pod, and reads no Secret.

pub mod apply;
pub mod build;
pub mod context;
pub mod controller;
pub mod error;
pub mod http;
pub mod lead;
pub mod lease;
pub mod metrics;
pub mod observe;
pub mod plan;
pub mod reconcile;
pub mod register;
pub mod replica_client;
pub mod report;
pub mod standby;
pub mod supervisor;
pub mod validate;
pub mod view;

#[cfg(test)]
pub(crate) mod testing;
