//! Integration tests: real replicas as processes on loopback, without Kubernetes.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by a panic

mod chart;
mod crash;
mod crd;
mod damage;
mod forwarding;
mod full_disk;
mod gate;
mod handover;
mod kills;
mod memory;
mod parent;
mod replication;
mod seeding;
mod soak;
mod stalled_disk;
mod support;
mod tidy;
