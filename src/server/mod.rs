//! The async shell of the replica: sockets, threads and files around the pure cores. It decides
//! nothing about replication and knows nothing of Kubernetes.
//!
//! | file | what it is for |
//! |---|---|
//! | `node`, `inner`, `tell`, `gate`, `waiting` | everything under the one lock; drives the protocol core; who is told; who may be answered |
//! | `shown`, `uncommitted`, `time` | states that go back or are replaced, and what is shown then; by which time keys expire |
//! | `writer`, `applier`, `upkeep`, `scrub` | the threads: log; follower's state; flushes and compaction; verification |
//! | `listener`, `connection`, `view`, `host`, `facts`, `clients` | clients |
//! | `hold`, `walk` | what a command waits for before it is executed: cold keys, the flush, all keys |
//! | `forward` | hands writes of a follower's clients to the leader |
//! | `peer` | other replicas: leader's side, follower's side, seeds |
//! | `background`, `courtesy`, `shift` | threads that yield to clients; how much of their time they may take |
//! | `admin`, `status`, `metrics` | the operator and people |
//! | `state`, `data_dir`, `snapshots`, `divergent`, `damage`, `room` | what is on disk, and whether more fits |
//! | `recover`, `repair`, `salvage` | what is there at a start, and what becomes of what is not; `replica repair` |
//! | `parent` | the process that starts a replica, and reaps it |

mod admin;
mod ahead;
mod applier;
mod background;
mod clients;
mod connection;
mod courtesy;
mod damage;
mod data_dir;
mod divergent;
mod expiry;
mod facts;
mod forward;
mod gate;
mod gather;
mod hold;
mod host;
mod inner;
mod lag;
mod leave;
mod listener;
mod metrics;
mod node;
mod options;
mod parent;
mod peer;
mod process;
mod promises;
mod recover;
mod repair;
#[cfg(test)]
mod rig;
mod room;
mod run;
mod salvage;
mod scrub;
mod shift;
mod shown;
mod snapshots;
mod state;
mod status;
mod tail;
mod tell;
#[cfg(test)]
mod testing;
mod throttle;
mod time;
mod uncommitted;
mod upkeep;
mod view;
mod waiting;
mod walk;
mod writer;

pub use options::RunOptions;
pub use parent::{SuperviseOptions, supervise};
pub use repair::{RepairOptions, repair};
pub use run::run;
