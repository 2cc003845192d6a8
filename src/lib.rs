//! `replicated-store`: a Kubernetes operator and the replicated database that it runs.
//!
//! The map, and who may import whom (a test in `tests/it` keeps it):
//!
//! | module | what it is for | may import |
//! |---|---|---|
//! | [`api`] | the custom resource: types only | nothing of ours |
//! | [`resp`] | RESP2/3 frames, no I/O | nothing of ours |
//! | [`replication`] | the protocol core, pure; the words of the admin interface | nothing of ours |
//! | [`env`](mod@env) | clock, randomness and disk: the only place that names them | nothing of ours |
//! | [`log`] | the replicated log on disk | `env`, `replication` |
//! | [`store`] | the state: hot table, LSM below it | `env`, `replication` |
//! | [`seed`] | snapshots: list, send, receive, install | `env`, `replication`, `store` |
//! | [`command`] | one file per command family | `resp`, `store` |
//! | [`server`] | the async shell of the replica | everything but `operator` and `api` |
//! | [`tools`] | a client for people, a load of writes | `resp` |
//! | [`operator`] | reconciles `ReplicatedStore` objects | `api`, `replication` |

pub mod api;
pub mod command;
pub mod env;
pub mod log;
pub mod operator;
pub mod replication;
pub mod resp;
pub mod seed;
pub mod server;
pub mod store;
pub mod tools;
