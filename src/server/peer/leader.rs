//! The leader's side of a follower's connection: frames go out as they are sealed, acknowledgements
//! come in.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::link::{LinkReader, LinkWriter};
use super::{PeerContext, SILENCE, chain_at, heartbeat};
use crate::log::{Frame, Log};
use crate::replication::message::Message;
use crate::replication::{Input, Lsn, Peer, ReplicaId};
use crate::server::inner::{PeerCommand, Progress};
use crate::server::node::Node;
use crate::server::upkeep::keep_from;

/// Frames are sent in pieces of about this size.
const PIECE: usize = 1 << 20;
/// The share of its time in which a newcomer is sent the log that it lacks, however busy clients are: it must
/// come nearer.
const CATCHING_UP: f64 = 0.25;

/// Serves a follower whose `Hello` was read.
pub(super) async fn serve(
    context: PeerContext,
    mut reader: LinkReader,
    writer: LinkWriter,
    hello: Message,
) -> io::Result<()> {
    let Message::Hello { id, ref name, .. } = hello else {
        return Ok(());
    };
    let node = Arc::clone(&context.node);
    let peer = node.new_peer();
    let (commands, inbox) = mpsc::unbounded_channel();
    node.with(|inner| {
        inner.peers.insert(peer, commands);
        inner.follower_names.insert(id, name.clone());
        node.drive(inner, Input::Received(peer, hello.clone()));
    });
    node.changed();
    tracing::info!(follower = %name, %id, "a follower connected");
    let sender = Sender {
        id,
        node: Arc::clone(&node),
        log: context.log,
        writer,
        inbox,
        progress: node.progress.subscribe(),
        at: None,
        commit_sent: Lsn::ZERO,
    };
    let ended = tokio::select! {
        ended = sender.run() => ended,
        ended = receive(&node, peer, id, &mut reader) => ended,
    };
    node.with(|inner| {
        inner.peers.remove(&peer);
        node.drive(inner, Input::Closed(peer));
    });
    node.changed();
    ended
}

async fn receive(
    node: &Node,
    peer: Peer,
    id: ReplicaId,
    reader: &mut LinkReader,
) -> io::Result<()> {
    loop {
        let message = tokio::time::timeout(SILENCE * 6, reader.message()).await??;
        node.with(|inner| {
            if let Message::Ack {
                durable, applied, ..
            } = &message
            {
                inner.durable_of.insert(id, *durable);
                inner.applied_of.insert(id, *applied);
            }
            node.drive(inner, Input::Received(peer, message));
        });
        node.follower_progress.send_modify(|count| *count += 1);
    }
}

/// Sends what the core says, and frames once it said from where.
struct Sender {
    id: ReplicaId,
    node: Arc<Node>,
    log: Log,
    writer: LinkWriter,
    inbox: mpsc::UnboundedReceiver<PeerCommand>,
    progress: watch::Receiver<Progress>,
    /// Everything up to here was sent; `None` before the handshake is over.
    at: Option<Lsn>,
    commit_sent: Lsn,
}

impl Sender {
    async fn run(mut self) -> io::Result<()> {
        let mut beat_at = Instant::now();
        loop {
            let streaming = self.at.is_some();
            let beat = tokio::time::sleep_until(beat_at);
            tokio::select! {
                biased;
                command = self.inbox.recv() => self.obey(command).await?,
                () = beat, if streaming => {
                    self.heartbeat().await?;
                    self.stream().await?;
                    let lease = self.node.with(|inner| inner.core.lease());
                    beat_at = Instant::now() + heartbeat(lease);
                }
                changed = self.progress.changed(), if streaming => {
                    changed.map_err(io::Error::other)?;
                    self.progress.mark_unchanged();
                    self.stream().await?;
                }
            }
        }
    }

    async fn obey(&mut self, command: Option<PeerCommand>) -> io::Result<()> {
        match command {
            Some(PeerCommand::Send(message)) => self.writer.send(&message).await,
            Some(PeerCommand::Stream(from)) => {
                self.at = Some(from);
                self.stream().await
            }
            Some(PeerCommand::Resume(point)) => {
                let chain = chain_at(&self.node, &self.log, point).await?;
                self.writer.send(&Message::Resume { point, chain }).await
            }
            Some(PeerCommand::Seed(point)) => {
                let chain = chain_at(&self.node, &self.log, point).await?;
                self.writer.send(&Message::Seed { point, chain }).await
            }
            Some(PeerCommand::Compare(..)) => Ok(()), // a follower's
            Some(PeerCommand::Close(reason)) => Err(io::Error::other(reason)),
            None => Err(io::Error::other("the replica is stopping")),
        }
    }

    /// Sends everything there is, and the commit LSN if it moved.
    async fn stream(&mut self) -> io::Result<()> {
        while let Some(from) = self.at {
            let begun = Instant::now();
            let Fetched { frames, stored } = fetch(&self.node, &self.log, from).await?;
            let Some(last) = frames.last() else { break };
            let bytes: usize = frames.iter().map(Frame::wire_len).sum();
            let message = self.news(Some(bytes as u32));
            self.writer.push(&message)?;
            for frame in &frames {
                self.writer.push_raw(&frame.header());
                self.writer.push_raw(&frame.payload());
            }
            self.at = Some(last.end());
            self.writer.flush().await?;
            if stored && !self.votes() {
                let pause = self.node.courtesy.pause(begun.elapsed(), CATCHING_UP);
                tokio::time::sleep(pause).await;
            }
            if let Ok(command) = self.inbox.try_recv() {
                Box::pin(self.obey(Some(command))).await?;
            }
        }
        if self.node.progress.borrow().released > self.commit_sent {
            self.heartbeat().await?;
        }
        Ok(())
    }

    /// Writes may be waiting for a voter, and for nobody else.
    fn votes(&self) -> bool {
        self.node.with(|inner| {
            let mut voters = inner.core.configuration().all_voters();
            voters.any(|voter| voter == self.id)
        })
    }

    async fn heartbeat(&mut self) -> io::Result<()> {
        let message = self.news(None);
        self.writer.send(&message).await
    }

    fn news(&mut self, frame_bytes: Option<u32>) -> Message {
        let node = &self.node;
        let sent_at = node.now().as_micros() as u64;
        let (commit, end, keep_from, lease, time_ms) = node.with(|inner| {
            let time_ms = node.judged_ms(inner);
            (
                inner.core.released(),
                inner.tip.end,
                keep_from(inner, node.id),
                inner.core.lease(),
                time_ms,
            )
        });
        let lease_ms = lease.as_millis() as u32;
        self.commit_sent = commit;
        match frame_bytes {
            Some(frame_bytes) => Message::Append {
                commit,
                end,
                keep_from,
                sent_at,
                lease_ms,
                time_ms,
                frame_bytes,
            },
            None => Message::Heartbeat {
                commit,
                end,
                keep_from,
                sent_at,
                lease_ms,
                time_ms,
            },
        }
    }
}

/// Frames that follow, and whether they were read from the log's files.
struct Fetched {
    frames: Vec<Frame>,
    stored: bool,
}

async fn fetch(node: &Node, log: &Log, from: Lsn) -> io::Result<Fetched> {
    let frames = node.with(|inner| {
        let at_end = || (inner.tip.end == from).then(Vec::new);
        inner.tail.after(from, PIECE).or_else(at_end)
    });
    if let Some(frames) = frames {
        let stored = false;
        return Ok(Fetched { frames, stored });
    }
    let log = log.clone();
    let read = tokio::task::spawn_blocking(move || log.read_from(from, PIECE)).await;
    let frames = read.map_err(io::Error::other)?.map_err(io::Error::other)?;
    let stored = true;
    Ok(Fetched { frames, stored })
}
