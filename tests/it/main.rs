//! Integration tests: real replicas as processes on loopback, without Kubernetes.
//!
//! | variable | meaning |
//! |---|---|
//! | `TEST_SEED=N` | random choices are those of a run that printed this |
//! | `IT_KILLS=1h` | how long [`kills`] is to take |
//! | `IT_SOAK=2h` | how long [`soak`] is to take |
//! | `IT_REPLICA=path` | the program under test, so that a long run is not disturbed by a build |

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by a panic

mod chart;
mod clients;
mod crash;
mod crd;
mod damage;
mod faulty_disk;
mod forwarding;
mod full_disk;
mod gate;
mod handover;
mod keys;
mod kills;
mod leader_address;
mod lost_log;
mod memory;
mod parent;
mod replication;
mod seeding;
mod shortfall;
mod soak;
mod spoiled;
mod stalled_disk;
mod stepping_down;
mod steps;
mod support;
mod tidy;
mod upgrade;
