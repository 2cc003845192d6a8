//! Deterministic simulation: the real core, log and store of several replicas over simulated
//! disks, clocks, network, clients and operators, with faults by seed. The same seed gives the same
//! run.
//!
//! `SIM_SEEDS=<count>` and `SIM_FIRST=<seed>` choose the seeds, e.g. to repeat one that failed.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by a panic

mod api;
mod bug;
mod check;
mod client;
mod clock;
mod faults;
mod lin;
mod network;
mod node;
mod operator;
mod planted;
mod run;
mod seed;
mod shell;
mod spoil;
mod traffic;
mod work;
mod world;
