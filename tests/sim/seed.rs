//! Snapshots: what a leader gives, and how a follower begins with one.

use std::sync::Arc;

use replicated_store::replication::{Input, Peer};
use replicated_store::store::Engine as _;

use super::network::Seed;
use super::node::{Engine, Job, Process};

/// Another state with the same contents.
pub(crate) fn copy(engine: &Engine) -> Engine {
    let meta = engine.meta().expect("memory does not fail");
    let entries = engine.range(meta.generation, b"");
    let entries: Vec<_> = entries
        .map(|entry| entry.expect("memory does not fail"))
        .collect();
    let mut changes = entries
        .iter()
        .map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
    let copy = Engine::default();
    copy.ingest(&mut changes, &meta)
        .expect("memory does not fail");
    Arc::clone(&copy)
}

impl Process {
    /// The state that was flushed last, if this replica leads and has one.
    pub(crate) fn snapshot(&self, engine: &Engine) -> Option<Seed> {
        self.core.leading()?;
        if self.running.is_some() {
            return None; // the engine is further than the store knows
        }
        let meta = self.store.as_ref()?.meta();
        let at = meta.flushed;
        let kept = self.shadow.range(..=at);
        Some(Seed {
            at,
            chain: meta.chain,
            history: meta.history.clone(),
            engine: copy(engine),
            shadow: kept.map(|(end, known)| (*end, *known)).collect(),
        })
    }

    /// A snapshot was offered: goes on with the one that is being copied if it is the same, else
    /// begins the log anew.
    pub(crate) fn fetched(&mut self, peer: Peer, seed: Box<Seed>) {
        let resetting = self.jobs.iter().any(|job| matches!(job, Job::Reset(_)))
            || matches!(self.busy, Some(Job::Reset(_)));
        if self.link != Some(peer) || !self.core.wants_seed() || resetting {
            return;
        }
        let view = self.core.view();
        let same = |old: &Seed| (old.at, old.chain) == (seed.at, seed.chain);
        let goes_on = self.store.is_none()
            && self.core.oldest() == seed.at
            && view.last.lsn == view.end
            && self.parted == Some((self.tip.end, Some(self.tip.chain)))
            && self.seed.as_deref().is_some_and(same);
        if !goes_on {
            self.seed = None; // one is copied at a time
            self.jobs.push_back(Job::Reset(seed));
            return;
        }
        let history = self.core.history().clone();
        self.drive_core(Input::LogReset {
            at: view.end,
            oldest: seed.at,
            history,
        });
    }

    /// Whether what this replica holds is whole: else its promise is no evidence of anything.
    pub(crate) fn is_whole(&self) -> bool {
        self.core.view().complete
    }
}
