//! The source of a seed: names a snapshot and sends pieces of its files as they are asked for.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::link::{LinkReader, LinkWriter};
use super::{PeerContext, SILENCE};
use crate::replication::message::{Message, SeedManifest};
use crate::replication::{Configuration, ReplicaId};
use crate::server::inner::Inner;
use crate::server::snapshots::SnapshotRequest;

/// A seed comes by so many streams.
const STREAMS: u32 = super::seed_copy::STREAMS as u32;
/// Pieces are at most this large.
const MAX_PIECE: u32 = 4 << 20;
/// A snapshot takes as long as a flush of everything that is not flushed yet.
const SNAPSHOT_DEADLINE: Duration = Duration::from_mins(2);

/// Keeps a snapshot and the log after it while this connection lives.
struct Use {
    context: PeerContext,
    manifest: SeedManifest,
    pin: u64,
    done: bool,
}

impl Use {
    fn begin(context: &PeerContext, id: u64) -> Option<Self> {
        let manifest = context.snapshots.begin(id)?;
        let pin = context.node.new_peer();
        context
            .node
            .with(|inner| inner.pins.insert(pin, manifest.lsn));
        Some(Self {
            context: context.clone(),
            manifest,
            pin,
            done: false,
        })
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.context.node.with(|inner| inner.pins.remove(&self.pin));
        self.context.snapshots.end(self.manifest.id, self.done);
    }
}

/// Serves a replica that wants a seed, or goes on with the one that it names.
pub(super) async fn serve(
    context: PeerContext,
    mut reader: LinkReader,
    mut writer: LinkWriter,
    id: ReplicaId,
    resume: Option<u64>,
) -> io::Result<()> {
    let found = resume.and_then(|id| Use::begin(&context, id));
    let used = match found {
        Some(used) => Ok(used),
        None => fresh(&context, id).await,
    };
    let mut used = match used {
        Ok(used) => used,
        Err(reason) => return writer.send(&Message::SeedRefused { reason }).await,
    };
    writer
        .send(&Message::SeedManifest(used.manifest.clone()))
        .await?;
    loop {
        match tokio::time::timeout(SILENCE * 6, reader.message()).await? {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
            Ok(Message::SeedFetch {
                snapshot,
                file,
                offset,
                length,
            }) if snapshot == used.manifest.id => {
                send(&used, &mut writer, file, offset, length).await?;
            }
            Ok(Message::SeedDone { .. }) => {
                used.done = true;
                return Ok(());
            }
            Ok(other) => return Err(io::Error::other(format!("unexpected message {other:?}"))),
        }
    }
}

/// Whether a snapshot must be of all that there is. While clients write, their flush is not hurried for a
/// newcomer: it gets more of the log instead. A voter's log begins anew at the snapshot, and must not end
/// before anything that it has acknowledged.
fn must_be_newest(configuration: &Configuration, id: ReplicaId, busy: bool) -> bool {
    !busy || configuration.all_voters().any(|voter| voter == id)
}

/// Asks the upkeep for a new snapshot.
async fn fresh(context: &PeerContext, id: ReplicaId) -> Result<Use, String> {
    let (reply, made) = oneshot::channel();
    let busy = context.node.courtesy.is_busy();
    context.node.with(|inner| {
        in_sync(inner)?;
        let newest = must_be_newest(inner.core.configuration(), id, busy);
        let at_least = newest.then(|| inner.whole());
        inner.snapshot_requests.push(SnapshotRequest {
            reply,
            by: Some(id),
            at_least,
        });
        Ok::<_, String>(())
    })?;
    context.node.upkeep.notify_all();
    let manifest = tokio::time::timeout(SNAPSHOT_DEADLINE, made)
        .await
        .map_err(|_| "no snapshot could be made in time".to_owned())?
        .map_err(|_| "the replica is stopping".to_owned())??;
    Use::begin(context, manifest.id).ok_or_else(|| "the snapshot is gone".to_owned())
}

/// Whether this replica's state is one to begin with: whole, and about as new as the leader's.
fn in_sync(inner: &Inner) -> Result<(), String> {
    let view = inner.core.view();
    let reason = match () {
        () if inner.store.is_none() => "this replica is being seeded itself",
        () if inner.damage.is_some() => "the state of this replica is damaged",
        () if inner.core.leading().is_none() && !(inner.ready && view.streaming) => {
            "this replica is not in sync with its leader"
        }
        () => return Ok(()),
    };
    Err(reason.to_owned())
}

async fn send(
    used: &Use,
    writer: &mut LinkWriter,
    file: u32,
    offset: u64,
    length: u32,
) -> io::Result<()> {
    let Some(entry) = used.manifest.files.get(file as usize) else {
        return Err(io::Error::other(format!("the snapshot has no file {file}")));
    };
    let (snapshots, id) = (Arc::clone(&used.context.snapshots), used.manifest.id);
    let (name, length) = (entry.name.clone(), length.min(MAX_PIECE) as usize);
    let begun = Instant::now();
    let read = move || snapshots.read(id, &name, offset, length);
    let bytes = tokio::task::spawn_blocking(read)
        .await
        .map_err(io::Error::other)??;
    let reading = begun.elapsed();
    let node = &used.context.node;
    let rate = node.with(|inner| inner.settings.seed_bandwidth);
    used.context.throttle.pass(bytes.len() as u64, rate).await;
    let begun = Instant::now();
    let (crc, length) = (crc32fast::hash(&bytes), bytes.len() as u32);
    writer.push(&Message::SeedChunk {
        file,
        offset,
        crc,
        length,
    })?;
    writer.push_raw(&bytes);
    writer.flush().await?;
    // All streams of a seed together have the share of one who works.
    let worked = (reading + begun.elapsed()) * STREAMS;
    let pause = node.courtesy.pause(worked, 0.0);
    tokio::time::sleep(pause).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::VoterSet;

    #[test]
    fn a_busy_leader_gives_a_voter_all_that_it_has_and_a_newcomer_what_is_flushed() {
        let configuration = Configuration {
            voters: [1, 2].map(ReplicaId).into(),
            previous: vec![VoterSet {
                voters: [1, 3].map(ReplicaId).into(),
                sync: 1,
            }],
            ..Configuration::default()
        };
        let of = |id, busy| must_be_newest(&configuration, ReplicaId(id), busy);
        assert_eq!([2, 3, 4].map(|id| of(id, true)), [true, true, false]);
        assert_eq!([2, 3, 4].map(|id| of(id, false)), [true; 3]);
    }
}
