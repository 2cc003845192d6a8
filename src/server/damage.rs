//! Damage on disk: it is noted by whoever reads it, told to people, and remembered over a restart. A
//! follower's state is then fetched anew (`peer::repair`), a leader's once another one leads. A damaged log
//! is cut off at its beginning, as soon as the state on disk stands behind the damage.

use super::data_dir::DataDir;
use super::inner::{Inner, Job};
use super::node::Node;
use crate::log::LogError;
use crate::replication::Lsn;
use crate::store::StoreError;

/// What is told of a leader's state that is damaged.
const LEADER: &str =
    "it is fetched anew once another replica leads, as soon as one that is whole is in step";
/// The same of a follower's.
const FOLLOWER: &str = "it is fetched anew from a replica that has a whole one";
/// The same where there is no other replica.
const ALONE: &str = "there is no other replica to fetch it from; what is damaged is answered with an error, \
                     all else is served. Restore the volume from a backup, or stop the replica and run \
                     `replica repair`, which tells what can be kept";

impl Node {
    /// The state on disk is not what was written. May be called under the lock.
    pub(super) fn suspect(&self, error: &StoreError) {
        if error.is_damage() {
            self.suspicion
                .lock()
                .get_or_insert_with(|| error.to_string());
        }
    }

    /// A part of the log is not what was written: the writer goes over to another file, and a flush
    /// makes the damaged one superfluous.
    pub(super) fn note_damaged_log(&self, error: &LogError) {
        let LogError::Damaged { at, .. } = error else {
            return;
        };
        tracing::error!(%error, "the log is damaged");
        self.with(|inner| {
            inner.log_damage = Some(*at);
            self.enqueue(inner, Job::Rotate);
        });
        self.upkeep.notify_all();
        self.changed();
    }

    /// Makes known, and durable, that the state is damaged, if somebody suspects it.
    pub(super) fn settle_suspicion(&self, dir: &DataDir) {
        let Some(what) = self.suspicion.lock().take() else {
            return;
        };
        let new = self.with(|inner| {
            let new = inner.damage.is_none();
            inner.damage.get_or_insert_with(|| what.clone());
            new
        });
        if !new {
            return;
        }
        tracing::error!(what, "the state on disk is damaged");
        if let Err(error) = dir.note_damage(&what) {
            tracing::warn!(%error, "noting the damage");
        }
        self.seed_wanted.notify_one();
        self.changed();
    }
}

/// What is wrong with what is on disk, and what to do.
pub(super) fn message(inner: &Inner) -> Option<String> {
    if let Some(what) = &inner.damage {
        let advice = match inner.core.leading() {
            _ if inner.alone => ALONE,
            Some(_) => LEADER,
            None => FOLLOWER,
        };
        return Some(format!("its state on disk is damaged ({what}): {advice}"));
    }
    inner.log_damage.map(|at| {
        format!(
            "its log is damaged after LSN {at}: what is before the next write is dropped once the \
             state is on disk, and followers that need it are seeded"
        )
    })
}

/// Whether a flush would help against damage of the log: then what is damaged is needed no more.
pub(super) fn flush_helps(inner: &Inner) -> bool {
    let flushed = inner.store.as_ref().map(|store| store.meta().flushed);
    inner.log_damage.is_some() && flushed.is_some_and(|flushed| flushed < inner.applied.end)
}

/// The log begins at `oldest` now.
pub(super) fn trimmed(inner: &mut Inner, oldest: Lsn) {
    if inner.log_damage.take_if(|at| oldest > *at).is_some() {
        tracing::info!(%oldest, "the damaged part of the log is gone");
    }
}
