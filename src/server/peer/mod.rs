//! Connections between replicas: the leader's side accepts, the follower's side connects. These
//! tasks carry messages and frames; what they mean is the core's word.

pub(super) mod follower;
mod leader;
pub(super) mod link;
mod repair;
mod seed_copy;
mod seed_source;
pub(super) mod seed_target;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::clients::Clients;
use super::forward;
use super::host::Process;
use super::node::Node;
use super::snapshots::Snapshots;
use super::throttle::Throttle;
use crate::command::Stats;
use crate::log::{Frame, Log, LogError};
use crate::replication::Lsn;
use crate::replication::message::{Message, PROTOCOL_VERSION};
pub(super) use repair::{flush, replay};

/// A peer that says nothing for this long is gone. A leader says something more often.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// A leader that has nothing to send says so this often at least, and a tenth of a lease at most.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// However short the lease, heartbeats come no denser.
const DENSEST_HEARTBEAT: Duration = Duration::from_millis(10);

/// How often a leader that asks for leases of this length says something.
pub(super) fn heartbeat(lease: Duration) -> Duration {
    (lease / 10).clamp(DENSEST_HEARTBEAT, HEARTBEAT)
}

/// What the accepting side works with.
#[derive(Clone)]
pub(super) struct PeerContext {
    pub(super) node: Arc<Node>,
    pub(super) log: Log,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) clients: Arc<Clients>,
    pub(super) stats: Arc<Stats>,
    pub(super) process: Arc<Process>,
    /// Where seeds are sent from.
    pub(super) background: Handle,
}

/// Accepts connections of other replicas until `stop`.
pub(super) async fn listen(listener: TcpListener, context: PeerContext, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let (context, stop) = (context.clone(), stop.clone());
                tokio::spawn(async move {
                    let served = tokio::select! {
                        () = stop.cancelled() => return,
                        served = serve(stream, context) => served,
                    };
                    if let Err(error) = served {
                        tracing::info!(%address, %error, "a connection of another replica ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection of another replica");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, context: PeerContext) -> std::io::Result<()> {
    let (mut reader, writer) = link::split(stream)?;
    let first = tokio::time::timeout(SILENCE, reader.message()).await??;
    match first {
        Message::Hello { version, .. }
        | Message::SeedOpen { version, .. }
        | Message::ForwardOpen { version, .. }
            if version != PROTOCOL_VERSION =>
        {
            Err(std::io::Error::other(format!(
                "the other replica speaks version {version} of the replication protocol, \
                 this one {PROTOCOL_VERSION}: run the same release on both"
            )))
        }
        Message::Hello { .. } => leader::serve(context, reader, writer, first).await,
        Message::SeedOpen { id, resume, .. } => {
            let background = context.background.clone();
            let sending = background.spawn(async move {
                let (reader, writer) = link::adopt(reader, writer)?;
                seed_source::serve(context, reader, writer, id, resume).await
            });
            let sending = AbortOnDropHandle::new(sending);
            sending.await.map_err(std::io::Error::other)?
        }
        Message::ForwardOpen { .. } => forward::serve(context, reader, writer).await,
        other => Err(std::io::Error::other(format!(
            "unexpected first message {other:?}"
        ))),
    }
}

/// The chain of the log at this point; `None` if no frame of it ends there, or if that was freed.
pub(super) async fn chain_at(node: &Node, log: &Log, point: Lsn) -> std::io::Result<Option<u32>> {
    let known = node.with(|inner| {
        let after = inner.tail.after(point, 1);
        let next = after.and_then(|frames| frames.first().map(Frame::prev_chain));
        next.or((inner.tip.end == point).then_some(inner.tip.chain))
    });
    if known.is_some() {
        return Ok(known);
    }
    let log = log.clone();
    let located = tokio::task::spawn_blocking(move || log.locate(point)).await;
    match located.map_err(std::io::Error::other)? {
        Ok(tip) => Ok((tip.position.lsn == point).then_some(tip.chain)),
        Err(LogError::Trimmed { .. }) => Ok(None),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Tells the core that time passes.
pub(super) async fn tick(node: Arc<Node>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        node.with(|inner| node.drive(inner, crate::replication::Input::Tick));
    }
}
