//! The repair of a follower whose state is damaged: another state is fetched from a replica that has a
//! whole one, brought forward by this replica's own log, and put in its place in one step. The log is kept,
//! so a voter forgets nothing that it has acknowledged, and clients never see the state go back.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::seed_copy::Copy;
use super::seed_target::{Begun, SeedTarget, make_current, open_copy};
use crate::log::Log;
use crate::replication::message::SeedManifest;
use crate::replication::{Input, Lsn};
use crate::server::applier::apply_records;
use crate::server::inner::{Tip, flushed_tip};
use crate::server::node::Node;
use crate::store::{Cut, Store};

/// The log is read in pieces of about this size.
const PIECE: usize = 1 << 20;
/// How long the log, and what is committed of it, may take to come to the snapshot's LSN.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often is looked whether they have.
const LOOK: Duration = Duration::from_millis(20);
/// Another snapshot is asked for after this, as each one may cost its source a flush.
const UNFIT_PAUSE: Duration = Duration::from_secs(5);
/// Why a snapshot is not taken.
const FOREIGN: &str = "the snapshot does not stand on this replica's log";

/// Keeps the log that a repair needs, for as long as it takes.
struct Kept<'a>(&'a Node);

impl<'a> Kept<'a> {
    /// From where the state is on: nobody knows yet which snapshot it will be.
    fn begin(node: &'a Node) -> Self {
        node.with(|inner| {
            let flushed = inner.store.as_ref().map(|store| store.meta().flushed);
            inner.repair_from = Some(flushed.unwrap_or_default());
        });
        Self(node)
    }

    /// What the snapshot holds is needed no more.
    fn since(&self, snapshot: Lsn) {
        self.0.with(|inner| inner.repair_from = Some(snapshot));
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.with(|inner| inner.repair_from = None);
    }
}

impl SeedTarget {
    /// Fetches a whole state and replaces the damaged one.
    pub(super) async fn repair(&self) -> io::Result<()> {
        let node = &self.node;
        let kept = Kept::begin(node);
        let partial = self.partial();
        let (source, opened) = self.open(partial.as_ref().map(|(_, begun)| begun)).await?;
        let begun = Begun {
            from: source.id,
            manifest: opened.manifest.clone(),
        };
        let manifest = &begun.manifest;
        tracing::warn!(from = %source.name, lsn = %manifest.lsn, "fetches its damaged state anew");
        if let Err(error) = self.stands_on_log(manifest).await {
            if let Some((path, _)) = partial {
                std::fs::remove_dir_all(path)?; // another snapshot is asked for
            }
            tokio::time::sleep(UNFIT_PAUSE).await;
            return Err(error);
        }
        kept.since(manifest.lsn);
        let path = match partial {
            Some((path, old)) if old == begun => path,
            _ => self.make_room(&begun)?,
        };
        Copy::new(Arc::clone(node), path.clone(), manifest.clone(), source)?
            .run(opened)
            .await?;
        let replaced = async {
            self.log_reaches(manifest.lsn).await?;
            self.replace(&path, manifest.lsn).await
        };
        if let Err(error) = replaced.await {
            if path.exists() {
                std::fs::remove_dir_all(&path)?; // another snapshot is tried
            }
            return Err(error);
        }
        let dir = Arc::clone(&self.dir);
        let made = tokio::task::spawn_blocking(move || make_current(&dir, &path)).await;
        if let Err(error) = made.map_err(io::Error::other).flatten() {
            // What is in use is not what a start would find: nothing may rest on it.
            tracing::error!(%error, "the new state cannot be made the current one: this replica ends");
            self.failed.cancel();
            return Err(error);
        }
        node.with(|inner| inner.damage = None);
        node.changed();
        tracing::info!("the damaged state is replaced");
        Ok(())
    }

    /// Whether this replica's log goes on from the snapshot, as far as it can be told before the copy.
    async fn stands_on_log(&self, manifest: &SeedManifest) -> io::Result<()> {
        let log = self.log.clone();
        let (lsn, chain) = (manifest.lsn, manifest.chain);
        let looked = tokio::task::spawn_blocking(move || {
            if log.oldest() > lsn {
                let text = format!("the log begins at {}, after the snapshot", log.oldest());
                return Err(io::Error::other(text));
            }
            match log.locate(lsn).map_err(io::Error::other)? {
                found if found.position.lsn == lsn && found.chain != chain => {
                    Err(io::Error::other(FOREIGN))
                }
                _ => Ok(()),
            }
        });
        looked.await.map_err(io::Error::other)?
    }

    /// Waits until this replica's own log has what the snapshot stands on.
    async fn log_reaches(&self, lsn: Lsn) -> io::Result<()> {
        let mut progress = self.node.progress.subscribe();
        let reached = async {
            while self.log.tip().position.lsn < lsn {
                // What is durable is told a moment after what has come.
                let _ = tokio::time::timeout(LOOK, progress.changed()).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await;
        in_time.map_err(|_| io::Error::other("the log does not come to the snapshot"))
    }

    /// Brings the copied state forward and puts it in the place of the damaged one.
    async fn replace(&self, path: &Path, lsn: Lsn) -> io::Result<()> {
        let (node, dir, log) = (
            Arc::clone(&self.node),
            Arc::clone(&self.dir),
            self.log.clone(),
        );
        let path = path.to_owned();
        let replaced = tokio::task::spawn_blocking(move || {
            let budget = node.with(|inner| inner.memory_budget);
            let mut store = open_copy(&dir, &path, budget, lsn)?;
            let mut tip = flushed_tip(&store);
            let found = log.locate(tip.end).map_err(io::Error::other)?;
            if found.position.lsn != tip.end || found.chain != tip.chain {
                return Err(io::Error::other(FOREIGN));
            }
            let begun = Instant::now();
            loop {
                match swap(&node, store, tip)? {
                    // Dropped here, without the lock.
                    Swap::Done(_old) => return Ok(()),
                    Swap::Behind(back, to) => {
                        store = *back;
                        replay(&mut store, &log, &mut tip, to)?;
                    }
                    Swap::Ahead(_) if begun.elapsed() > PATIENCE => {
                        let text = "the leader does not say that the snapshot is committed";
                        return Err(io::Error::other(text));
                    }
                    Swap::Ahead(back) => {
                        store = *back;
                        std::thread::sleep(LOOK);
                    }
                }
            }
        });
        replaced.await.map_err(io::Error::other)?
    }
}

/// Brings a store that nobody else sees forward, flushing as it grows: all of it is committed.
pub(in crate::server) fn replay(
    store: &mut Store,
    log: &Log,
    tip: &mut Tip,
    to: Lsn,
) -> io::Result<()> {
    while tip.end < to {
        let frames = log.read_from(tip.end, PIECE).map_err(io::Error::other)?;
        for frame in frames.iter().take_while(|frame| frame.end() <= to) {
            apply_records(store, frame, false).map_err(io::Error::other)?;
            *tip = Tip {
                end: frame.end(),
                chain: frame.chain(),
            };
        }
        if store.should_flush() {
            flush(store, log, *tip).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

pub(in crate::server) fn flush(
    store: &mut Store,
    log: &Log,
    tip: Tip,
) -> Result<(), crate::store::StoreError> {
    let mut history = log.history();
    history.truncate(tip.end);
    let cut = Cut {
        history,
        chain: tip.chain,
    };
    if let Some(job) = store.seal(cut) {
        store.finish_flush(job.run()?)?;
        while store.settle() {}
        drop(store.take_garbage());
    }
    Ok(())
}

/// Where a new state stands beside the one that it is to replace.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    /// It may take its place.
    Fits,
    /// Clients have seen what it does not have.
    Behind,
    /// It has what is not known to be committed yet.
    Ahead,
    /// It is of another history.
    Foreign,
}

/// Compares the end of the new state, `tip`, with what is `shown`: nothing, where the old state could not be
/// opened. Clients never see a state go back, but may see it go forward over what is committed.
fn stand(shown: Option<Tip>, tip: Tip, commit: Lsn) -> Stand {
    match shown {
        Some(shown) if shown.end > tip.end => Stand::Behind,
        Some(shown) if shown.end == tip.end && shown.chain != tip.chain => Stand::Foreign,
        Some(shown) if shown.end == tip.end => Stand::Fits,
        _ if tip.end > commit => Stand::Ahead,
        _ => Stand::Fits,
    }
}

enum Swap {
    /// The old store, if there was one.
    Done(Option<Box<Store>>),
    /// The state has gone on meanwhile, up to there.
    Behind(Box<Store>, Lsn),
    /// This replica does not know yet that all of it is committed.
    Ahead(Box<Store>),
}

/// Puts the store in the place of the damaged one, if it shows the same, or more.
fn swap(node: &Node, store: Store, tip: Tip) -> io::Result<Swap> {
    node.with(|inner| {
        if inner.accepting || inner.core.leading().is_some() {
            return Err(io::Error::other("this replica leads by now"));
        }
        if inner.damage.is_none() || !inner.core.view().complete {
            return Err(io::Error::other("there is no state to repair"));
        }
        let shown = inner.store.is_some().then_some(inner.applied);
        match stand(shown, tip, inner.core.commit()) {
            Stand::Fits => {}
            Stand::Behind => return Ok(Swap::Behind(Box::new(store), inner.applied.end)),
            Stand::Ahead => return Ok(Swap::Ahead(Box::new(store))),
            Stand::Foreign => return Err(io::Error::other(FOREIGN)),
        }
        let flushed = store.meta().flushed;
        let old = inner.place(Some(store), tip);
        if let Some(old) = &old {
            old.engine().interrupt();
        }
        // What was read of the old one says nothing of this one.
        node.suspicion.lock().take();
        inner.seed = None;
        inner.message.clear();
        node.drive(inner, Input::Flushed(flushed));
        if shown != Some(tip) {
            inner.gate.applied(tip.end, &mut inner.to_wake);
            node.drive(inner, Input::Applied(tip.end));
            node.apply.notify_all();
        }
        node.judge(inner);
        node.acknowledge.notify_one();
        Ok(Swap::Done(old.map(Box::new)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::rig::Rig;

    #[test]
    fn a_repair_keeps_the_log_from_its_snapshot_on_and_no_longer_than_it_takes() {
        let rig = Rig::leading();
        let kept_from = || rig.node.with(|inner| inner.repair_from);
        let kept = Kept::begin(&rig.node);
        assert_eq!(kept_from(), Some(Lsn::ZERO));
        kept.since(Lsn(100));
        assert_eq!(kept_from(), Some(Lsn(100)));
        drop(kept);
        assert_eq!(kept_from(), None);
    }

    #[test]
    fn a_state_takes_the_place_of_another_only_where_it_shows_as_much_of_the_same_history() {
        let tip = |end, chain| Tip {
            end: Lsn(end),
            chain,
        };
        let at = |shown| stand(shown, tip(100, 7), Lsn(90));
        assert_eq!(at(Some(tip(100, 7))), Stand::Fits);
        assert_eq!(at(Some(tip(100, 8))), Stand::Foreign);
        assert_eq!(at(Some(tip(101, 8))), Stand::Behind);
        // To replay what is not there would be to spin.
        assert_eq!(at(Some(tip(80, 7))), Stand::Ahead);
        assert_eq!(at(None), Stand::Ahead);
        let later = |shown| stand(shown, tip(100, 7), Lsn(100));
        assert_eq!(later(Some(tip(80, 7))), Stand::Fits);
        assert_eq!(later(None), Stand::Fits);
    }
}
