//! The target of a seed: fetches a snapshot of the leader while the log after it already streams in,
//! then puts it in the place of the state. What was copied before a cut is not copied again.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::SILENCE;
use super::link::{self, LinkReader, LinkWriter};
use crate::replication::Input;
use crate::replication::admin::SeedProgress;
use crate::replication::message::{Message, PROTOCOL_VERSION, SeedManifest};
use crate::seed::{Fetch, SeedPlan};
use crate::server::data_dir::DataDir;
use crate::server::inner::{Job, PeerCommand, flushed_tip};
use crate::server::node::Node;
use crate::server::state::open_store;

/// Streams that copy at the same time.
const STREAMS: usize = 2;
/// Bytes asked for at a time.
const PIECE: u32 = 1 << 20;
/// Requests under way on a stream, so that it does not wait for the network.
const DEPTH: usize = 4;
/// A new snapshot may take as long as a flush.
const MANIFEST_DEADLINE: Duration = Duration::from_secs(150);
/// Where the manifest lies in the directory of a seed.
const MANIFEST: &str = "seed.json";

/// What the task works with.
pub(in crate::server) struct SeedTarget {
    pub(in crate::server) node: Arc<Node>,
    pub(in crate::server) dir: Arc<DataDir>,
}

impl SeedTarget {
    /// Fetches a seed whenever the core wants one, until `stop`.
    pub(in crate::server) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.node.seed_wanted.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            if !self.wanted() {
                continue;
            }
            let fetched = tokio::select! {
                () = stop.cancelled() => return,
                fetched = self.fetch() => fetched,
            };
            if let Err(error) = fetched {
                tracing::warn!(%error, "the seed was cut, it goes on as soon as it can");
                self.node
                    .with(|inner| inner.message = format!("the seed was cut: {error}"));
                self.node.changed();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    fn wanted(&self) -> bool {
        self.node.with(|inner| {
            let view = inner.core.view();
            !view.complete && (view.streaming || inner.core.wants_seed())
        })
    }

    async fn fetch(&self) -> io::Result<()> {
        let (address, name) = self.source()?;
        let partial = self.partial();
        let resume = partial.as_ref().map(|(_, manifest)| manifest.id);
        let (mut reader, mut writer, manifest) = self.open(&address, resume).await?;
        let path = match partial {
            Some((path, old)) if old == manifest && self.log_goes_on(&manifest) => {
                tracing::info!(from = %name, lsn = %manifest.lsn, "goes on with a seed");
                path
            }
            _ => self.begin(&manifest, &name).await?,
        };
        let started_at = self.node.clock.wall_ms() / 1000;
        let plan = SeedPlan::new(&manifest, |file, size| {
            fs::metadata(path.join(file)).is_ok_and(|meta| meta.len() == size)
        });
        let copy = Arc::new(Copy {
            node: Arc::clone(&self.node),
            path: path.clone(),
            manifest: manifest.clone(),
            plan: Mutex::new(plan.map_err(io::Error::other)?),
            from: name,
            started_at,
            logged: AtomicU64::new(0),
        });
        copy.tell();
        let mut others = tokio::task::JoinSet::new();
        for _ in 1..STREAMS {
            let (copy, address, id) = (Arc::clone(&copy), address.clone(), manifest.id);
            others.spawn(async move {
                let (mut reader, mut writer, _) = open(&address, copy.node.id, Some(id)).await?;
                copy.stream(&mut reader, &mut writer).await
            });
        }
        copy.stream(&mut reader, &mut writer).await?;
        while let Some(ended) = others.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        writer
            .send(&Message::SeedDone {
                snapshot: manifest.id,
            })
            .await?;
        self.install(&path, &manifest).await
    }

    /// The leader's address and name.
    fn source(&self) -> io::Result<(String, String)> {
        let leader = *self.node.follow.borrow();
        let found = self.node.with(|inner| {
            let member = leader.and_then(|id| inner.members.get(&id));
            member.map(|member| (member.peer_address.clone(), member.name.clone()))
        });
        found.ok_or_else(|| io::Error::other("there is no leader to be seeded from"))
    }

    async fn open(
        &self,
        address: &str,
        resume: Option<u64>,
    ) -> io::Result<(LinkReader, LinkWriter, SeedManifest)> {
        open(address, self.node.id, resume).await
    }

    /// The directory and manifest of a seed that was begun and not finished.
    fn partial(&self) -> Option<(PathBuf, SeedManifest)> {
        let current = self.dir.current_state().ok().flatten();
        let names = self.dir.state_dirs().ok()?;
        names
            .into_iter()
            .rev()
            .filter(|name| Some(name) != current.as_ref())
            .find_map(|name| {
                let path = self.dir.path().join(name);
                let manifest = fs::read(path.join(MANIFEST)).ok()?;
                Some((path, serde_json::from_slice(&manifest).ok()?))
            })
    }

    /// Whether the log holds what follows the snapshot; if the core waits, it goes on with that log.
    fn log_goes_on(&self, manifest: &SeedManifest) -> bool {
        let node = &self.node;
        node.with(|inner| {
            let view = inner.core.view();
            let holds = inner.store.is_none()
                && inner.core.oldest() == manifest.lsn
                && view.last.lsn == view.end;
            if !holds {
                return view.streaming && inner.core.oldest() == manifest.lsn;
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
    async fn begin(&self, manifest: &SeedManifest, from: &str) -> io::Result<PathBuf> {
        if self.node.with(|inner| inner.core.view().streaming) {
            self.node.with(|inner| {
                for peer in inner.peers.values() {
                    let reason = "the seed begins anew".to_owned();
                    let _ = peer.send(PeerCommand::Close(reason));
                }
            });
            return Err(io::Error::other("the snapshot is no longer there"));
        }
        tracing::info!(%from, lsn = %manifest.lsn, bytes = manifest.total_bytes(), "a seed begins");
        let current = self.dir.current_state().map_err(io::Error::other)?;
        for name in self.dir.state_dirs().map_err(io::Error::other)? {
            if Some(&name) != current.as_ref() {
                fs::remove_dir_all(self.dir.path().join(name))?;
            }
        }
        let path = self.dir.path().join(format!("state-{:020}", manifest.id));
        fs::create_dir_all(&path)?;
        let text = serde_json::to_vec(manifest).map_err(io::Error::other)?;
        write_durably(&path.join(MANIFEST), &text)?;
        fs::File::open(&path)?.sync_all()?;
        fs::File::open(self.dir.path())?.sync_all()?;
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

    /// Puts the copied state in its place.
    async fn install(&self, path: &Path, manifest: &SeedManifest) -> io::Result<()> {
        let (dir, path, lsn) = (Arc::clone(&self.dir), path.to_owned(), manifest.lsn);
        let budget = self.node.with(|inner| inner.memory_budget);
        let opened = tokio::task::spawn_blocking(move || {
            let store = open_store(&path, budget).map_err(io::Error::other)?;
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let name = name.ok_or_else(|| io::Error::other("a state directory without a name"))?;
            dir.set_current_state(&name).map_err(io::Error::other)?;
            Ok::<_, io::Error>(store)
        });
        let store = opened.await.map_err(io::Error::other)??;
        let tip = flushed_tip(&store);
        if tip.end != lsn {
            return Err(io::Error::other(format!(
                "the copied state is at {}, not {lsn}",
                tip.end
            )));
        }
        let node = &self.node;
        node.with(|inner| {
            inner.applied = tip;
            inner.store = Some(store);
            inner.expiries_known = false;
            inner.rewinds += 1;
            inner.seed = None;
            inner.message.clear();
            node.drive(inner, Input::SeedInstalled(lsn));
            node.note_state(inner);
            node.apply.notify_all();
        });
        node.changed();
        tracing::info!(%lsn, "the seed is installed, working off the log after it");
        Ok(())
    }
}

async fn open(
    address: &str,
    id: crate::replication::ReplicaId,
    resume: Option<u64>,
) -> io::Result<(LinkReader, LinkWriter, SeedManifest)> {
    let connect = TcpStream::connect(address);
    let stream = tokio::time::timeout(Duration::from_secs(2), connect).await??;
    let (mut reader, mut writer) = link::split(stream)?;
    writer
        .send(&Message::SeedOpen {
            version: PROTOCOL_VERSION,
            id,
            resume,
        })
        .await?;
    match tokio::time::timeout(MANIFEST_DEADLINE, reader.message()).await?? {
        Message::SeedManifest(manifest) => Ok((reader, writer, manifest)),
        Message::SeedRefused { reason } => Err(io::Error::other(reason)),
        other => Err(io::Error::other(format!("unexpected message {other:?}"))),
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::File::open(path)?.sync_all()
}

/// The copying of one snapshot, by several streams.
struct Copy {
    node: Arc<Node>,
    path: PathBuf,
    manifest: SeedManifest,
    plan: Mutex<SeedPlan>,
    from: String,
    started_at: u64,
    /// Tenths of the whole that the log was told of.
    logged: AtomicU64,
}

impl Copy {
    async fn stream(&self, reader: &mut LinkReader, writer: &mut LinkWriter) -> io::Result<()> {
        loop {
            let next = self.plan.lock().take_next();
            let Some(mut fetch) = next else { return Ok(()) };
            if let Err(error) = self.file(&mut fetch, reader, writer).await {
                self.plan.lock().put_back(fetch);
                return Err(error);
            }
        }
    }

    /// Fetches one file: into a `.part` that takes the file's name once it is whole and on disk.
    async fn file(
        &self,
        fetch: &mut Fetch,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
    ) -> io::Result<()> {
        let whole = self.path.join(&fetch.name);
        let part = self.path.join(format!("{}.part", fetch.name));
        if let Some(parent) = whole.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = Arc::new(
            fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&part)?,
        );
        let mut asked = fetch.offset;
        let mut under_way = 0;
        while fetch.offset < fetch.size {
            while asked < fetch.size && under_way < DEPTH {
                let length = u64::from(PIECE).min(fetch.size - asked) as u32;
                let (snapshot, file) = (self.manifest.id, fetch.file);
                writer.push(&Message::SeedFetch {
                    snapshot,
                    file,
                    offset: asked,
                    length,
                })?;
                asked += u64::from(length);
                under_way += 1;
            }
            writer.flush().await?;
            let bytes = self.piece(fetch, reader).await?;
            under_way -= 1;
            let (file, offset, length) = (Arc::clone(&file), fetch.offset, bytes.len() as u64);
            let write = tokio::task::spawn_blocking(move || file.write_all_at(&bytes, offset));
            write.await.map_err(io::Error::other)??;
            fetch.offset += length;
            self.plan.lock().advance(length, self.node.now());
            self.tell();
        }
        let finish = move || {
            file.sync_all()?;
            fs::rename(&part, &whole)?;
            whole
                .parent()
                .map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
        };
        tokio::task::spawn_blocking(finish)
            .await
            .map_err(io::Error::other)?
    }

    async fn piece(&self, fetch: &Fetch, reader: &mut LinkReader) -> io::Result<bytes::Bytes> {
        // A throttled source may be slow to answer: what bounds this is the source's own silence.
        match tokio::time::timeout(SILENCE * 12, reader.message()).await?? {
            Message::SeedChunk {
                file,
                offset,
                crc,
                length,
            } if file == fetch.file && offset == fetch.offset && length > 0 => {
                let bytes = reader.raw(length as usize).await?;
                if crc32fast::hash(&bytes) != crc {
                    return Err(io::Error::other(format!(
                        "a piece of {} at {offset} has a wrong checksum",
                        fetch.name
                    )));
                }
                Ok(bytes)
            }
            other => Err(io::Error::other(format!("unexpected message {other:?}"))),
        }
    }

    fn tell(&self) {
        let (bytes, total_bytes, rate) = {
            let plan = self.plan.lock();
            let (bytes, total) = plan.progress();
            (bytes, total, plan.rate())
        };
        let tenths = bytes * 10 / total_bytes.max(1);
        if self.logged.swap(tenths, Ordering::Relaxed) < tenths {
            tracing::info!(
                percent = tenths * 10,
                bytes,
                total_bytes,
                rate,
                "the seed goes on"
            );
        }
        let from = self.from.clone();
        let started_at = self.started_at;
        let progress = SeedProgress {
            from,
            bytes,
            total_bytes,
            rate,
            started_at,
        };
        self.node.with(|inner| inner.seed = Some(progress));
        self.node.changed();
    }
}
