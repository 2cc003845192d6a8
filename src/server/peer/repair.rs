//! The repair of a follower whose state is damaged: another state is fetched from a replica that has a
//! whole one, brought forward by this replica's own log, and put in its place in one step. The log is kept,
//! so a voter forgets nothing that it has acknowledged, and clients never see the state go back.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::seed_copy::Copy;
use super::seed_target::{Begun, SeedTarget, make_current, open_copy};
use crate::log::Log;
use crate::replication::{Input, Lsn};
use crate::server::applier::apply_records;
use crate::server::inner::{Tip, flushed_tip};
use crate::server::node::Node;
use crate::store::{Cut, Store};

/// The log is read in pieces of about this size.
const PIECE: usize = 1 << 20;
/// How long the log may take to come to the snapshot's LSN.
const PATIENCE: Duration = Duration::from_mins(1);

/// Keeps the log from where the state is, for as long as the repair takes.
struct Kept<'a>(&'a Node);

impl<'a> Kept<'a> {
    fn begin(node: &'a Node) -> Self {
        node.with(|inner| {
            let flushed = inner.store.as_ref().map(|store| store.meta().flushed);
            inner.repair_from = flushed;
        });
        Self(node)
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
        let _kept = Kept::begin(node);
        let partial = self.partial();
        let (source, opened) = self.open(partial.as_ref().map(|(_, begun)| begun)).await?;
        let begun = Begun {
            from: source.id,
            manifest: opened.manifest.clone(),
        };
        let manifest = &begun.manifest;
        tracing::warn!(from = %source.name, lsn = %manifest.lsn, "fetches its damaged state anew");
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

    /// Waits until this replica's own log has what the snapshot stands on.
    async fn log_reaches(&self, lsn: Lsn) -> io::Result<()> {
        let mut progress = self.node.progress.subscribe();
        let reached = async {
            while self.log.tip().position.lsn < lsn {
                // What is durable is told a moment after what has come.
                let _ = tokio::time::timeout(Duration::from_millis(20), progress.changed()).await;
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
                return Err(io::Error::other(
                    "the snapshot does not stand on this replica's log",
                ));
            }
            loop {
                let to = node.with(|inner| inner.applied.end);
                replay(&mut store, &log, &mut tip, to)?;
                match swap(&node, store, tip)? {
                    // Dropped here, without the lock.
                    Swap::Done(_old) => return Ok(()),
                    Swap::Behind(back) => store = *back,
                }
            }
        });
        replaced.await.map_err(io::Error::other)?
    }
}

/// Brings a store that nobody else sees forward, flushing as it grows: all of it is committed.
fn replay(store: &mut Store, log: &Log, tip: &mut Tip, to: Lsn) -> io::Result<()> {
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

fn flush(store: &mut Store, log: &Log, tip: Tip) -> Result<(), crate::store::StoreError> {
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

enum Swap {
    /// The old store.
    Done(Option<Box<Store>>),
    /// The state has gone on meanwhile.
    Behind(Box<Store>),
}

/// Puts the store in the place of the damaged one, if it shows the same.
fn swap(node: &Node, store: Store, tip: Tip) -> io::Result<Swap> {
    node.with(|inner| {
        if inner.accepting || inner.core.leading().is_some() {
            return Err(io::Error::other("this replica leads by now"));
        }
        if inner.applied.end != tip.end {
            return Ok(Swap::Behind(Box::new(store)));
        }
        let flushed = store.meta().flushed;
        if inner.store.is_none() {
            return Err(io::Error::other("there is no state to repair"));
        }
        let old = inner.place(Some(store), tip);
        inner.seed = None;
        inner.message.clear();
        node.drive(inner, Input::Flushed(flushed));
        node.judge(inner);
        Ok(Swap::Done(old.map(Box::new)))
    })
}
