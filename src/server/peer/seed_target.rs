//! The target of a seed: fetches a snapshot while the log after it already streams in from the leader, then
//! puts it in the place of the state. What was copied before a cut is not copied again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::seed_copy::{self, Copy, Opened, Source};
use crate::log::Log;
use crate::replication::admin::SeedSource;
use crate::replication::message::SeedManifest;
use crate::replication::{Configuration, Input, Lsn, ReplicaId};
use crate::server::data_dir::DataDir;
use crate::server::inner::{Inner, Job, Parted, PeerCommand, flushed_tip};
use crate::server::node::Node;
use crate::server::state::open_store;
use crate::store::Store;

/// Where it is written what is being copied, in the directory of a seed.
const BEGUN: &str = "seed.json";

/// What the task works with.
pub(in crate::server) struct SeedTarget {
    pub(in crate::server) node: Arc<Node>,
    pub(in crate::server) dir: Arc<DataDir>,
    pub(in crate::server) log: Log,
    /// Ends this replica.
    pub(in crate::server) failed: CancellationToken,
}

/// A snapshot that is being copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) from: ReplicaId,
    pub(super) manifest: SeedManifest,
}

/// What a snapshot is fetched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// There is no state: the log begins anew, too.
    Seed,
    /// The state is damaged; the log is not, and is kept.
    Repair,
}

impl SeedTarget {
    /// Fetches a seed whenever the core wants one, and a new state for one that is damaged, until `stop`.
    pub(in crate::server) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.node.seed_wanted.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            let Some(wanted) = self.node.with(|inner| wanted(inner)) else {
                continue;
            };
            let fetch = async {
                match wanted {
                    Wanted::Seed => self.fetch().await,
                    Wanted::Repair => self.repair().await,
                }
            };
            let Some(fetched) = stop.run_until_cancelled(fetch).await else {
                return;
            };
            if let Err(error) = fetched {
                tracing::warn!(%error, "the seed was cut, it goes on as soon as it can");
                self.node.with(|inner| {
                    inner.message = format!("the seed was cut: {error}");
                    if wanted == Wanted::Repair {
                        inner.seed = None;
                    }
                });
                self.node.changed();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    async fn fetch(&self) -> io::Result<()> {
        // The log of a voter begins anew at a new snapshot only: an older one ends before what it has
        // acknowledged since.
        let partial = self.partial();
        let partial = partial.filter(|(_, begun)| self.log_holds(&begun.manifest));
        let (source, opened) = self.open(partial.as_ref().map(|(_, begun)| begun)).await?;
        let begun = Begun {
            from: source.id,
            manifest: opened.manifest.clone(),
        };
        let path = match partial {
            Some((path, old)) if old == begun => {
                if !self.log_goes_on(&begun.manifest) {
                    let text = "the log does not go on from the snapshot any more";
                    return Err(io::Error::other(text));
                }
                tracing::info!(from = %source.name, lsn = %begun.manifest.lsn, "goes on with a seed");
                path
            }
            _ => self.begin(&begun, &source.name).await?,
        };
        let (node, manifest) = (Arc::clone(&self.node), begun.manifest.clone());
        Copy::new(node, path.clone(), manifest, source)?
            .run(opened)
            .await?;
        self.install(&path, &begun.manifest).await
    }

    /// Opens a snapshot: the one that was begun, if its source still has it, or else one of the first
    /// source that gives one.
    pub(super) async fn open(&self, begun: Option<&Begun>) -> io::Result<(Source, Opened)> {
        let mut failed = io::Error::other("there is no leader to be seeded from");
        for source in self.node.with(|inner| sources(inner, self.node.id, begun)) {
            let resume = begun.filter(|begun| begun.from == source.id);
            let resume = resume.map(|begun| begun.manifest.id);
            match seed_copy::open(&source, self.node.id, resume).await {
                Ok(opened) => return Ok((source, opened)),
                Err(error) => {
                    tracing::info!(from = %source.name, %error, "gives no snapshot");
                    failed = error;
                }
            }
        }
        Err(failed)
    }

    /// The directory of a seed that was begun and not finished.
    pub(super) fn partial(&self) -> Option<(PathBuf, Begun)> {
        let current = self.dir.current_state();
        let names = self.dir.state_dirs().ok()?;
        names
            .into_iter()
            .rev()
            .filter(|name| Some(name) != current.as_ref())
            .find_map(|name| {
                let path = self.dir.path().join(name);
                let begun = fs::read(path.join(BEGUN)).ok()?;
                Some((path, serde_json::from_slice(&begun).ok()?))
            })
    }

    /// Whether the log holds what follows the snapshot, and nothing that the leader's log does not.
    fn log_holds(&self, manifest: &SeedManifest) -> bool {
        self.node.with(|inner| holds(inner, manifest))
    }

    /// The same; if the core waits, it goes on with that log.
    fn log_goes_on(&self, manifest: &SeedManifest) -> bool {
        let node = &self.node;
        node.with(|inner| {
            let view = inner.core.view();
            if !holds(inner, manifest) {
                return false;
            }
            if !view.streaming {
                let history = inner.core.history().clone();
                let input = Input::LogReset {
                    at: view.end,
                    oldest: manifest.lsn,
                    history,
                };
                node.drive(inner, input);
            }
            true
        })
    }

    /// Begins anew: a directory for the files, and the log from the snapshot's LSN on.
    async fn begin(&self, begun: &Begun, from: &str) -> io::Result<PathBuf> {
        if self.node.with(|inner| inner.core.view().streaming) {
            self.node.with(|inner| {
                for peer in inner.peers.values() {
                    let reason = "the seed begins anew".to_owned();
                    let _ = peer.send(PeerCommand::Close(reason));
                }
            });
            return Err(io::Error::other("the snapshot is no longer there"));
        }
        let manifest = &begun.manifest;
        tracing::info!(%from, lsn = %manifest.lsn, bytes = manifest.total_bytes(), "a seed begins");
        let path = self.make_room(begun)?;
        let (done, reset) = oneshot::channel();
        let job = Job::Reset {
            at: manifest.lsn,
            history: manifest.history.clone(),
            chain: manifest.chain,
            done,
        };
        self.node.with(|inner| self.node.enqueue(inner, job));
        reset.await.map_err(io::Error::other)?;
        Ok(path)
    }

    /// Makes a directory for the files, and removes those of earlier tries.
    pub(super) fn make_room(&self, begun: &Begun) -> io::Result<PathBuf> {
        let current = self.dir.current_state();
        for name in self.dir.state_dirs().map_err(io::Error::other)? {
            if Some(&name) != current.as_ref() {
                fs::remove_dir_all(self.dir.path().join(name))?;
            }
        }
        let name = format!("state-{:020}", begun.manifest.id);
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path)?;
        let text = serde_json::to_vec(begun).map_err(io::Error::other)?;
        write_durably(&path.join(BEGUN), &text)?;
        fs::File::open(&path)?.sync_all()?;
        fs::File::open(self.dir.path())?.sync_all()?;
        Ok(path)
    }

    /// Puts the copied state in its place.
    async fn install(&self, path: &Path, manifest: &SeedManifest) -> io::Result<()> {
        let (dir, path, lsn) = (Arc::clone(&self.dir), path.to_owned(), manifest.lsn);
        let budget = self.node.with(|inner| inner.memory_budget);
        let opened = tokio::task::spawn_blocking(move || {
            let store = open_copy(&dir, &path, budget, lsn)?;
            make_current(&dir, &path)?;
            Ok::<_, io::Error>(store)
        });
        let store = opened.await.map_err(io::Error::other)??;
        let tip = flushed_tip(&store);
        let node = &self.node;
        let old = node.with(|inner| {
            let old = inner.place(Some(store), tip);
            inner.damage = None;
            // What was read of an old one says nothing of this one.
            node.suspicion.lock().take();
            inner.seed = None;
            inner.message.clear();
            node.drive(inner, Input::SeedInstalled(lsn));
            // Where nothing follows, nothing else would say so before the leader speaks again.
            node.judge(inner);
            node.acknowledge.notify_one();
            node.apply.notify_all();
            old
        });
        drop(old);
        node.changed();
        tracing::info!(%lsn, "the seed is installed, working off the log after it");
        Ok(())
    }
}

fn holds(inner: &Inner, manifest: &SeedManifest) -> bool {
    let view = inner.core.view();
    let end = Parted {
        point: inner.tip.end,
        chain: Some(inner.tip.chain),
    };
    let quiet = inner.store.is_none() && view.last.lsn == view.end && inner.parted_at == Some(end);
    inner.core.oldest() == manifest.lsn && (view.streaming || quiet)
}

fn wanted(inner: &Inner) -> Option<Wanted> {
    let view = inner.core.view();
    if !view.complete {
        let wanted = view.streaming || inner.core.wants_seed();
        return wanted.then_some(Wanted::Seed);
    }
    let repair = inner.damage.is_some() && view.streaming;
    repair.then_some(Wanted::Repair)
}

/// Who may be asked for a snapshot, in this order.
fn sources(inner: &Inner, me: ReplicaId, begun: Option<&Begun>) -> Vec<Source> {
    let source = |id: ReplicaId| {
        let member = inner.members.get(&id)?;
        Some(Source {
            id,
            name: member.name.clone(),
            address: member.peer_address.clone(),
        })
    };
    let mut followers = Vec::new();
    if inner.settings.seed_source == SeedSource::PreferFollower {
        let others = inner.members.keys().copied();
        followers = spare(inner.core.configuration(), me, others);
    }
    followers.retain(|id| Some(*id) != inner.core.view().leader);
    followers.shuffle(&mut rand::rng());
    // First the one whose snapshot was begun.
    followers.sort_by_key(|id| begun.is_none_or(|begun| begun.from != *id));
    let ids = followers.into_iter().chain(inner.core.view().leader);
    ids.filter_map(source).collect()
}

/// The members that may be asked in the leader's place. A voter, also one of a set that is being replaced, asks
/// the leader alone: its log begins anew at the snapshot, and must not end before anything that it has
/// acknowledged.
fn spare(
    configuration: &Configuration,
    me: ReplicaId,
    members: impl Iterator<Item = ReplicaId>,
) -> Vec<ReplicaId> {
    if configuration.all_voters().any(|voter| voter == me) {
        return Vec::new();
    }
    members.filter(|id| *id != me).collect()
}

/// Opens a state that was copied; one that cannot be used goes, so that the next try begins anew.
pub(super) fn open_copy(dir: &DataDir, path: &Path, budget: u64, lsn: Lsn) -> io::Result<Store> {
    let opened = open_store(dir, path, budget).map_err(io::Error::other);
    let opened = opened.and_then(|store| match store.meta().flushed {
        at if at == lsn => Ok(store),
        at => Err(io::Error::other(format!(
            "the copied state is at {at}, not {lsn}"
        ))),
    });
    if opened.is_err() && path.exists() {
        fs::remove_dir_all(path)?;
    }
    opened
}

/// Makes the state in `path` the current one, durably.
pub(super) fn make_current(dir: &DataDir, path: &Path) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let name = name.ok_or_else(|| io::Error::other("a state directory without a name"))?;
    dir.set_current_state(&name).map_err(io::Error::other)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::VoterSet;

    #[test]
    fn a_voter_also_of_a_set_that_is_being_replaced_asks_the_leader_alone() {
        let set = |ids: &[u128]| VoterSet {
            voters: ids.iter().copied().map(ReplicaId).collect(),
            sync: 1,
        };
        let configuration = Configuration {
            voters: set(&[1, 2]).voters,
            previous: vec![set(&[1, 3])],
            ..Configuration::default()
        };
        let of = |me| {
            let members = (1..=4).map(ReplicaId);
            spare(&configuration, ReplicaId(me), members).len()
        };
        assert_eq!([of(1), of(2), of(3), of(4)], [0, 0, 0, 3]);
    }
}
