//! Deterministic simulation: the real core, log and store of several replicas over simulated
//! disks, clocks, network and clients, with faults by seed. The same seed gives the same run.
//!
//! Two operators look after them over a simulated API server. One kind decides as the shipped one
//! does (`planned`: its `plan`, `view`, `validate` and `report`); the other does whatever the text of
//! the protocol allows (`operator`). Runs have two of either, or one of each.
//!
//! `SIM_SEEDS=<count>` and `SIM_FIRST=<seed>` choose the seeds, e.g. to repeat one that failed.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by a panic

mod api;
mod bug;
mod check;
mod client;
mod clock;
mod cluster;
mod desk;
mod directed;
mod event;
mod fates;
mod faults;
mod hearing;
mod life;
mod lin;
mod look;
mod machine;
mod misplan;
mod network;
mod node;
mod operator;
mod planned;
mod planted;
mod reads;
mod restore;
mod run;
mod seed;
mod shell;
mod spoil;
mod status;
mod traffic;
mod user;
mod wire;
mod work;
mod world;
