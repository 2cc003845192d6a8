//! Integration tests: real replicas as processes on loopback, without Kubernetes.

mod crash;
mod replication;
mod seeding;
mod support;
mod tidy;
