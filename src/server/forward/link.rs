//! The follower's end of the connection on which commands travel: sends what lies in the queue, hands
//! the replies back. When the leader changes, a new connection takes over, and the old one stays until
//! all that it has sent is answered.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::BEAT;
use super::batch::Kind;
use super::queue::{Answer, Request};
use crate::replication::ReplicaId;
use crate::replication::message::{ForwardKind, ForwardOutcome, Message, PROTOCOL_VERSION};
use crate::server::node::Node;
use crate::server::peer::SILENCE;
use crate::server::peer::link::{self, LinkReader, LinkWriter};

/// Wait before the next try to connect; it doubles up to the longest.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// A connection that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(1);
/// Batches are written together up to about this many bytes.
const PIECE: usize = 1 << 20;
/// How often an old connection looks whether everything is answered, and asks whether anybody is there.
const DRAIN_PACE: Duration = Duration::from_millis(20);
/// An old leader that says nothing for so long while it is asked is gone: what it has not answered is of
/// unknown outcome. Else its clients would wait for as long as for a leader that is only slow.
const DRAIN_SILENCE: Duration = Duration::from_millis(200);
/// While nothing is heard of the leader, what has not been sent is kept: it would be lost with it. It is
/// looked so often whether there is another.
const HEARD_PACE: Duration = Duration::from_millis(5);

/// Keeps a connection to the leader, until `stop`.
pub(in crate::server) async fn run(node: Arc<Node>, stop: CancellationToken) {
    let mut target = node.follow.subscribe();
    let mut wait = SHORTEST_WAIT;
    loop {
        let leader = *target.borrow_and_update();
        let retired = CancellationToken::new();
        let began = Instant::now();
        let link = async {
            let Some(leader) = leader else {
                return std::future::pending().await;
            };
            let (node, retired) = (Arc::clone(&node), retired.clone());
            let ended = tokio::spawn(async move { connect(&node, leader, retired).await });
            if let Ok(Err(error)) = ended.await {
                tracing::debug!(%error, "the connection for clients' commands ended");
            }
        };
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = target.changed() => Some(changed),
            () = link => None,
        };
        retired.cancel();
        wait = match changed {
            Some(Err(_)) => return,
            Some(Ok(())) => {
                wait = SHORTEST_WAIT;
                continue;
            }
            None if began.elapsed() >= GOOD => SHORTEST_WAIT,
            None => wait,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = target.changed() => wait = SHORTEST_WAIT,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
        }
    }
}

/// What was sent and is not answered. What is left when it is dropped is of unknown outcome.
type Sent = Mutex<HashMap<u64, Request>>;

async fn connect(node: &Node, leader: ReplicaId, retired: CancellationToken) -> io::Result<()> {
    let address = node.with(|inner| {
        let member = inner.members.get(&leader);
        member.map(|member| member.peer_address.clone())
    });
    let address = address.ok_or_else(|| io::Error::other("the leader's address is not known"))?;
    let connected = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address));
    let (mut reader, mut writer) = link::split(connected.await??)?;
    let open = Message::ForwardOpen {
        version: PROTOCOL_VERSION,
        id: node.id,
    };
    writer.send(&open).await?;
    match tokio::time::timeout(SILENCE, reader.message()).await?? {
        Message::ForwardReady { id } if id == leader => {}
        other => return Err(io::Error::other(format!("not the leader: {other:?}"))),
    }
    tracing::debug!(%leader, "clients' commands have a way to the leader");
    let sent = Sent::default();
    tokio::select! {
        ended = send(node, &mut writer, &sent, &retired) => ended,
        ended = receive(&mut reader, &sent, &retired) => ended,
    }
}

async fn send(
    node: &Node,
    writer: &mut LinkWriter,
    sent: &Sent,
    retired: &CancellationToken,
) -> io::Result<()> {
    let mut beat = tokio::time::interval(BEAT);
    let mut id = 0;
    loop {
        let first = tokio::select! {
            biased;
            () = retired.cancelled() => break,
            request = node.forward.next(|| is_heard(node), HEARD_PACE) => request,
            _ = beat.tick() => {
                writer.send(&Message::ForwardBeat).await?;
                continue;
            }
        };
        let (mut next, mut bytes) = (Some(first), 0);
        while let Some(request) = next {
            id += 1;
            bytes += request.batch.raw.len();
            push(writer, id, &request)?;
            sent.lock().insert(id, request);
            next = if bytes < PIECE {
                node.forward.take()
            } else {
                None
            };
        }
        writer.flush().await?;
    }
    while !sent.lock().is_empty() {
        writer.send(&Message::ForwardBeat).await?;
        tokio::time::sleep(DRAIN_PACE).await;
    }
    Ok(())
}

/// Whether the leader may be there.
fn is_heard(node: &Node) -> bool {
    node.with(|inner| !inner.core.leader_silent())
}

fn push(writer: &mut LinkWriter, id: u64, request: &Request) -> io::Result<()> {
    let batch = &request.batch;
    let commands = |kind, watched_bytes| Message::Forward {
        id,
        resp3: batch.resp3,
        kind,
        writes: batch.writes,
        watched_bytes,
        bytes: batch.raw.len() as u32,
    };
    writer.push(&match batch.kind {
        Kind::Commands => commands(ForwardKind::Commands, 0),
        Kind::Transaction { watched_bytes } => commands(ForwardKind::Transaction, watched_bytes),
        Kind::Watch => commands(ForwardKind::Watch, 0),
        Kind::Wait {
            written,
            replicas,
            timeout_ms,
        } => Message::ForwardWait {
            id,
            written,
            replicas,
            timeout_ms,
        },
    })?;
    writer.push_raw(&batch.raw);
    Ok(())
}

async fn receive(
    reader: &mut LinkReader,
    sent: &Sent,
    retired: &CancellationToken,
) -> io::Result<()> {
    loop {
        let message = {
            let mut next = std::pin::pin!(reader.message());
            let patient = tokio::time::timeout(SILENCE, &mut next);
            match retired.run_until_cancelled(patient).await {
                Some(message) => message??,
                None => tokio::time::timeout(DRAIN_SILENCE, next).await??,
            }
        };
        let (id, outcome, bytes) = match message {
            Message::Forwarded { id, outcome, bytes } => (id, outcome, bytes),
            Message::ForwardBeat => continue,
            other => return Err(io::Error::other(format!("unexpected {other:?}"))),
        };
        let reply = reader.raw(bytes as usize).await?;
        let request = sent.lock().remove(&id);
        let request = request.ok_or_else(|| io::Error::other("an answer to nothing"))?;
        request.answer(match outcome {
            ForwardOutcome::Done { at, commands } => Answer::Done {
                at,
                commands: commands as usize,
                reply,
            },
            ForwardOutcome::Refused => Answer::Again,
            ForwardOutcome::Unknown => Answer::Unknown,
        });
    }
}
