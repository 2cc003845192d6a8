//! Copies the files of a snapshot, by several streams. A file that was cut goes on where it was; one that
//! is not what its checksum says is fetched again.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use xxhash_rust::xxh3::Xxh3Default;

use super::SILENCE;
use super::link::{self, LinkReader, LinkWriter};
use crate::replication::ReplicaId;
use crate::replication::admin::SeedProgress;
use crate::replication::message::{Message, PROTOCOL_VERSION, SeedManifest};
use crate::seed::{Fetch, Have, SeedPlan};
use crate::server::node::Node;

/// Streams that copy at the same time.
pub(super) const STREAMS: usize = 4;
/// Bytes asked for at a time; where the source is throttled, so few that none takes long.
const PIECE: u32 = 1 << 20;
const LEAST_PIECE: u64 = 64 << 10;
/// Requests under way on a stream, so that it does not wait for the network.
const DEPTH: usize = 4;
/// What is written goes to the disk in such portions: with all of a file at once, whoever else writes to the
/// same disk would have to wait for all of it.
const SYNC: usize = 8 << 20;
/// How often a file is fetched before its source is given up.
const TRIES: usize = 3;
/// A new snapshot may take as long as a flush.
const MANIFEST_DEADLINE: Duration = Duration::from_secs(150);

/// Whom a snapshot is copied from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) id: ReplicaId,
    pub(super) name: String,
    pub(super) address: String,
}

/// A connection on which a snapshot was opened.
pub(super) struct Opened {
    reader: LinkReader,
    writer: LinkWriter,
    pub(super) manifest: SeedManifest,
}

/// Asks for a snapshot: the one of this number, if the source still has it.
pub(super) async fn open(
    source: &Source,
    me: ReplicaId,
    resume: Option<u64>,
) -> io::Result<Opened> {
    let connect = TcpStream::connect(&source.address);
    let stream = tokio::time::timeout(Duration::from_secs(2), connect).await??;
    let (mut reader, mut writer) = link::split(stream)?;
    let hello = Message::SeedOpen {
        version: PROTOCOL_VERSION,
        id: me,
        resume,
    };
    writer.send(&hello).await?;
    match tokio::time::timeout(MANIFEST_DEADLINE, reader.message()).await?? {
        Message::SeedManifest(manifest) => Ok(Opened {
            reader,
            writer,
            manifest,
        }),
        Message::SeedRefused { reason } => Err(io::Error::other(reason)),
        other => Err(io::Error::other(format!("unexpected message {other:?}"))),
    }
}

/// What is there of a file in the directory of a seed.
fn have(dir: &Path, file: &str, size: u64) -> Have {
    let length = |path: PathBuf| fs::metadata(path).ok().map(|meta| meta.len());
    if length(dir.join(file)) == Some(size) {
        return Have::Whole;
    }
    Have::Part(length(part_of(dir, file)).unwrap_or(0))
}

/// Where a file is until it is whole and checked.
fn part_of(dir: &Path, file: &str) -> PathBuf {
    dir.join(format!("{file}.part"))
}

/// The copying of one snapshot.
pub(super) struct Copy {
    node: Arc<Node>,
    path: PathBuf,
    manifest: SeedManifest,
    plan: Mutex<SeedPlan>,
    source: Source,
    started_at: u64,
    /// Tenths of the whole that the log was told of.
    logged: AtomicU64,
}

impl Copy {
    pub(super) fn new(
        node: Arc<Node>,
        path: PathBuf,
        manifest: SeedManifest,
        source: Source,
    ) -> io::Result<Self> {
        let plan = SeedPlan::new(&manifest, |file, size| have(&path, file, size));
        let plan = Mutex::new(plan.map_err(io::Error::other)?);
        let started_at = node.clock.wall_ms() / 1000;
        Ok(Self {
            node,
            path,
            manifest,
            plan,
            source,
            started_at,
            logged: AtomicU64::new(0),
        })
    }

    /// Copies everything that is missing.
    pub(super) async fn run(self, first: Opened) -> io::Result<()> {
        self.tell();
        let copy = Arc::new(self);
        let Opened {
            mut reader,
            mut writer,
            ..
        } = first;
        let mut others = tokio::task::JoinSet::new();
        for _ in 1..STREAMS {
            let copy = Arc::clone(&copy);
            others.spawn(async move {
                let id = copy.manifest.id;
                let mut other = open(&copy.source, copy.node.id, Some(id)).await?;
                copy.stream(&mut other.reader, &mut other.writer).await
            });
        }
        copy.stream(&mut reader, &mut writer).await?;
        while let Some(ended) = others.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        let snapshot = copy.manifest.id;
        writer.send(&Message::SeedDone { snapshot }).await
    }

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

    /// Fetches one file: into a `.part` that takes the file's name once it is whole, checked and on disk.
    async fn file(
        &self,
        fetch: &mut Fetch,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
    ) -> io::Result<()> {
        for _ in 0..TRIES {
            let part = Part::open(&self.path, fetch).await?;
            let part = self.rest(fetch, part, reader, writer).await?;
            if part.finish(fetch).await? {
                return Ok(());
            }
            tracing::warn!(file = %fetch.name, "a file of the seed is damaged, fetches it again");
            self.plan.lock().start_over(fetch);
        }
        // It is as it should be nowhere: the next try begins with another snapshot.
        fs::remove_dir_all(&self.path)?;
        Err(io::Error::other(format!(
            "{} of the snapshot of {} is not what its checksum says",
            fetch.name, self.source.name
        )))
    }

    /// Fetches what is missing of a file.
    async fn rest(
        &self,
        fetch: &mut Fetch,
        mut part: Part,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
    ) -> io::Result<Part> {
        let piece_bytes = match self.node.with(|inner| inner.settings.seed_bandwidth) {
            0 => u64::from(PIECE),
            rate => (rate / 8).clamp(LEAST_PIECE, PIECE.into()),
        };
        let mut asked = fetch.offset;
        let mut under_way = 0;
        while fetch.offset < fetch.size {
            while asked < fetch.size && under_way < DEPTH {
                let length = piece_bytes.min(fetch.size - asked) as u32;
                writer.push(&Message::SeedFetch {
                    snapshot: self.manifest.id,
                    file: fetch.file,
                    offset: asked,
                    length,
                })?;
                asked += u64::from(length);
                under_way += 1;
            }
            writer.flush().await?;
            let bytes = piece(fetch, reader).await?;
            under_way -= 1;
            let length = bytes.len() as u64;
            part = part.write(bytes, fetch.offset).await?;
            fetch.offset += length;
            self.plan.lock().advance(length, self.node.now());
            self.tell();
        }
        Ok(part)
    }

    fn tell(&self) {
        let (bytes, total_bytes, rate) = {
            let plan = self.plan.lock();
            let (bytes, total) = plan.progress();
            (bytes, total, plan.rate())
        };
        let tenths = bytes * 10 / total_bytes.max(1);
        if self.logged.swap(tenths, Ordering::Relaxed) < tenths {
            let percent = tenths * 10;
            tracing::info!(percent, bytes, total_bytes, rate, "the seed goes on");
        }
        let progress = SeedProgress {
            from: self.source.name.clone(),
            bytes,
            total_bytes,
            rate,
            started_at: self.started_at,
        };
        self.node.with(|inner| inner.seed = Some(progress));
        self.node.changed();
    }
}

async fn piece(fetch: &Fetch, reader: &mut LinkReader) -> io::Result<bytes::Bytes> {
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

/// A file that is being fetched, and the checksum of what is there of it.
struct Part {
    file: fs::File,
    path: PathBuf,
    whole: PathBuf,
    hasher: Box<Xxh3Default>,
    /// Bytes that are not on the disk yet.
    unsynced: usize,
}

impl Part {
    /// Opens what is there up to the offset, and reads it for the checksum.
    async fn open(dir: &Path, fetch: &Fetch) -> io::Result<Self> {
        let (path, whole) = (part_of(dir, &fetch.name), dir.join(&fetch.name));
        let offset = fetch.offset;
        blocking(move || {
            if let Some(parent) = whole.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut options = fs::OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true);
            let file = options.open(&path)?;
            file.set_len(offset)?;
            let mut hasher = Box::new(Xxh3Default::new());
            let mut piece = vec![0; PIECE as usize];
            let mut reader = &file;
            loop {
                match reader.read(&mut piece)? {
                    0 => break,
                    read => hasher.update(piece.get(..read).unwrap_or_default()),
                }
            }
            Ok(Self {
                file,
                path,
                whole,
                hasher,
                unsynced: 0,
            })
        })
        .await
    }

    async fn write(mut self, bytes: bytes::Bytes, offset: u64) -> io::Result<Self> {
        blocking(move || {
            self.file.write_all_at(&bytes, offset)?;
            self.hasher.update(&bytes);
            self.unsynced += bytes.len();
            if self.unsynced >= SYNC {
                self.file.sync_data()?;
                self.unsynced = 0;
            }
            Ok(self)
        })
        .await
    }

    /// Gives the file its name, durably; `false` if it is not what its checksum says.
    async fn finish(self, fetch: &Fetch) -> io::Result<bool> {
        let right = fetch.xxh3.is_none_or(|sum| self.hasher.digest128() == sum);
        if !right {
            return Ok(false);
        }
        blocking(move || {
            self.file.sync_all()?;
            fs::rename(&self.path, &self.whole)?;
            let parent = self.whole.parent();
            parent.map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())?;
            Ok(true)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_128;

    fn fetch(content: &[u8], offset: u64) -> Fetch {
        Fetch {
            file: 0,
            name: "tables/1".to_owned(),
            size: content.len() as u64,
            offset,
            xxh3: Some(xxh3_128(content)),
        }
    }

    /// A file that was cut goes on; what is there of it is part of the checksum.
    #[tokio::test]
    async fn a_file_goes_on_where_it_was_cut_and_is_checked_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let content = b"the whole content of the file";
        let part = Part::open(dir.path(), &fetch(content, 0)).await.unwrap();
        let bytes = bytes::Bytes::from_static(&content[..9]);
        drop(part.write(bytes, 0).await.unwrap());
        assert_eq!(have(dir.path(), "tables/1", 29), Have::Part(9));

        let resumed = fetch(content, 9);
        let part = Part::open(dir.path(), &resumed).await.unwrap();
        let part = part.write(bytes::Bytes::from_static(&content[9..]), 9);
        assert!(part.await.unwrap().finish(&resumed).await.unwrap());
        assert_eq!(have(dir.path(), "tables/1", 29), Have::Whole);

        // What was there was damaged in the meantime.
        fs::write(part_of(dir.path(), "tables/1"), b"The whole").unwrap();
        let part = Part::open(dir.path(), &resumed).await.unwrap();
        let part = part.write(bytes::Bytes::from_static(&content[9..]), 9);
        assert!(!part.await.unwrap().finish(&resumed).await.unwrap());
    }
}
