//! The follower's side: connects to the leader that the core names, takes its frames, acknowledges.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::link::{self, LinkReader, LinkWriter};
use super::{SILENCE, chain_at};
use crate::log::{Frame, Log};
use crate::replication::message::Message;
use crate::replication::{Epoch, Input, Lsn, Peer, ReplicaId};
use crate::server::inner::{Inner, PeerCommand};
use crate::server::node::Node;
use crate::server::room::{self, Room};

/// A follower whose writer has this many bytes of frames to write reads no more for a while.
const MAX_QUEUED: usize = 64 << 20;
/// Wait before the next try to connect: a leader that was just named may need a moment. It doubles.
const FIRST_RETRY: Duration = Duration::from_millis(10);
/// The longest wait.
const LAST_RETRY: Duration = Duration::from_millis(200);
/// A follower that has nothing to acknowledge says so this often.
const BEAT: Duration = Duration::from_millis(200);

/// Follows whomever the core says, until `stop`.
pub(in crate::server) async fn run(
    node: Arc<Node>,
    log: Log,
    name: String,
    stop: CancellationToken,
) {
    let mut target = node.follow.subscribe();
    let (mut last, mut retry) = (None, FIRST_RETRY);
    loop {
        let leader = *target.borrow_and_update();
        if std::mem::replace(&mut last, leader) != leader {
            retry = FIRST_RETRY;
        }
        let begun = Instant::now();
        let link = async {
            match leader {
                Some(leader) => follow(&node, &log, leader, &name).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = target.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            ended = link => {
                if let Err(error) = ended {
                    tracing::info!(%error, "the connection to the leader ended");
                }
                if begun.elapsed() > LAST_RETRY * 5 {
                    retry = FIRST_RETRY;
                }
                let _ = tokio::time::timeout(retry, target.changed()).await;
                retry = (retry * 2).min(LAST_RETRY);
            }
        }
    }
}

/// Tells the core that the connection is gone, however this task ends.
struct Registered<'a> {
    node: &'a Node,
    peer: Peer,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.node.with(|inner| {
            inner.peers.remove(&self.peer);
            self.node.drive(inner, Input::Closed(self.peer));
            self.node.note_state(inner);
        });
        self.node.changed();
    }
}

async fn follow(node: &Arc<Node>, log: &Log, leader: ReplicaId, name: &str) -> io::Result<()> {
    node.with(|inner| has_room(inner))?;
    let address = node.with(|inner| {
        inner
            .members
            .get(&leader)
            .map(|member| member.peer_address.clone())
    });
    let Some(address) = address else {
        return Err(io::Error::other(format!(
            "the address of the leader {leader} is not known"
        )));
    };
    let connect = TcpStream::connect(&address);
    let stream = tokio::time::timeout(Duration::from_secs(2), connect).await??;
    let (mut reader, writer) = link::split(stream)?;
    let peer = node.new_peer();
    let (commands, inbox) = mpsc::unbounded_channel();
    let registered = Registered { node, peer };
    node.with(|inner| {
        inner.peers.insert(peer, commands);
        node.drive(inner, Input::Connected(peer));
    });
    let ended = tokio::select! {
        ended = send(node, log, peer, writer, inbox, name) => ended,
        ended = receive(node, peer, &mut reader) => ended,
    };
    drop(registered);
    ended
}

/// Tells the core whether the own log is the leader's up to that point.
async fn compare(
    node: &Node,
    log: &Log,
    peer: Peer,
    point: Lsn,
    theirs: Option<u32>,
) -> io::Result<()> {
    let ours = chain_at(node, log, point).await?;
    let equal = ours.is_some() && ours == theirs;
    if !equal {
        tracing::warn!(%point, ?ours, ?theirs, "this log is not the leader's");
    }
    let input = Input::Compared { peer, point, equal };
    node.with(|inner| node.drive(inner, input));
    Ok(())
}

async fn send(
    node: &Node,
    log: &Log,
    peer: Peer,
    mut writer: LinkWriter,
    mut inbox: mpsc::UnboundedReceiver<PeerCommand>,
    name: &str,
) -> io::Result<()> {
    let mut beat = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            biased;
            command = inbox.recv() => match command {
                Some(PeerCommand::Send(Message::Hello { version, id, promised, store, .. })) => {
                    let name = name.to_owned();
                    writer.send(&Message::Hello { version, id, name, promised, store }).await?;
                }
                Some(PeerCommand::Send(message)) => writer.send(&message).await?,
                Some(PeerCommand::Compare(point, chain)) => compare(node, log, peer, point, chain).await?,
                Some(PeerCommand::Stream(_) | PeerCommand::Resume(_) | PeerCommand::Seed(_)) => {}
                Some(PeerCommand::Close(reason)) => return Err(io::Error::other(reason)),
                None => return Err(io::Error::other("the replica is stopping")),
            },
            () = node.acknowledge.notified() => acknowledge(node, &mut writer).await?,
            _ = beat.tick() => acknowledge(node, &mut writer).await?,
        }
    }
}

async fn acknowledge(node: &Node, writer: &mut LinkWriter) -> io::Result<()> {
    let acknowledgement = node.with(|inner| inner.core.acknowledgement());
    match acknowledgement {
        Some((_, message)) => writer.send(&message).await,
        None => Ok(()),
    }
}

async fn receive(node: &Node, peer: Peer, reader: &mut LinkReader) -> io::Result<()> {
    loop {
        let message = tokio::time::timeout(SILENCE, reader.message()).await??;
        let heartbeat = matches!(message, Message::Heartbeat { .. });
        let frames = match &message {
            Message::Append { frame_bytes, .. } => {
                let raw = reader.raw(*frame_bytes as usize).await?;
                decode(raw).map_err(io::Error::other)?
            }
            _ => Vec::new(),
        };
        while node.with(|inner| inner.queued) > MAX_QUEUED {
            let relief = node.relief.notified();
            let _ = tokio::time::timeout(Duration::from_millis(50), relief).await;
        }
        node.with(|inner| {
            if !frames.is_empty() {
                has_room(inner)?;
                take(node, inner, peer, frames)?;
            }
            if let Message::Append {
                keep_from, time_ms, ..
            }
            | Message::Heartbeat {
                keep_from, time_ms, ..
            } = &message
            {
                inner.keep_from = *keep_from;
                let (wall_ms, now) = (node.clock.wall_ms(), node.now());
                inner.time.hear_leader(*time_ms, wall_ms, now);
            }
            node.drive(inner, Input::Received(peer, message));
            node.judge(inner);
            Ok::<_, io::Error>(())
        })?;
        if heartbeat {
            node.acknowledge.notify_one(); // the lease must not wait for the disk
        }
    }
}

/// A write of the log that fails ends the process: with no room for it nothing is taken.
fn has_room(inner: &Inner) -> io::Result<()> {
    match room::room(inner) {
        Room::None => Err(io::Error::other(
            "the disk is full: takes no more of the log",
        )),
        Room::Enough | Room::Little => Ok(()),
    }
}

fn decode(mut raw: bytes::Bytes) -> Result<Vec<Frame>, crate::log::FrameError> {
    let mut frames = Vec::new();
    while !raw.is_empty() {
        let (frame, used) = Frame::decode(&raw)?;
        frames.push(frame);
        let _ = raw.split_to(used);
    }
    Ok(frames)
}

/// Offers frames to the core; they must continue the log in position and in checksum.
fn take(node: &Node, inner: &mut Inner, peer: Peer, frames: Vec<Frame>) -> io::Result<()> {
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
        return Ok(());
    };
    let chained = frames.windows(2).all(|pair| {
        pair.first().map(Frame::chain) == pair.last().map(Frame::prev_chain)
            && pair.first().map(Frame::end) == pair.last().map(Frame::start)
    });
    if first.start() == inner.tip.end && (!chained || first.prev_chain() != inner.tip.chain) {
        return Err(io::Error::other(format!(
            "the frames after {} do not continue this log: their checksum chain differs",
            first.start()
        )));
    }
    let mut epochs: Vec<(Epoch, Lsn)> = Vec::new();
    for frame in &frames {
        if epochs
            .last()
            .is_none_or(|(epoch, _)| *epoch != frame.epoch())
        {
            epochs.push((frame.epoch(), frame.start()));
        }
    }
    let input = Input::Frames {
        peer,
        start: first.start(),
        epochs,
        end: last.end(),
    };
    inner.incoming = Some(frames);
    node.drive(inner, input);
    Ok(())
}
