//! End to end: the chart, the operator and real replicas on a real Kubernetes cluster.
//!
//! One file per feature. Every test has a namespace of its own, waits for conditions with deadlines
//! instead of sleeping, and shows status, events and logs when it fails; see [`support::world`].
//! `make e2e` runs them; by themselves they are ignored, as they need that cluster.
//!
//! | variable | meaning |
//! |---|---|
//! | `E2E_KUBECONFIG` | the cluster: a kind cluster of `make cluster`, whose Pods this machine reaches |
//! | `E2E_IMAGE` | the image under test, which the cluster can run |
//! | `E2E_LEASE_MS=200` | leases of stores whose leaders are lost; a second without it |
//! | `E2E_LONG=1` | faults are repeated more often, and last longer |
//! | `E2E_KEEP=1` | namespaces of tests that failed are left for a look |

#![allow(clippy::panic, reason = "it is how a test fails")]

mod support;

mod chart;
mod damage;
mod deletion;
mod durability;
mod failover;
mod identities;
mod installation;
mod lag;
mod operator;
mod outage;
mod partition;
mod restarts;
mod scaling;
mod seeding;
mod switchover;
mod validation;
mod volumes;
