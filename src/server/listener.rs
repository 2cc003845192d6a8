//! Accepts clients, up to a bound, and gives each a task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clients::Clients;
use super::connection::Connection;
use super::host::{NodeHost, Process};
use super::node::Node;
use crate::command::{Session, Stats};

/// What clients' tasks work with.
#[derive(Clone)]
pub(super) struct ClientContext {
    pub(super) node: Arc<Node>,
    pub(super) clients: Arc<Clients>,
    pub(super) stats: Arc<Stats>,
    pub(super) process: Arc<Process>,
    pub(super) stop: CancellationToken,
    /// Cancelled a little before `stop`: no more clients, and those that are there are finished with.
    pub(super) drain: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// Accepts until clients are drained.
pub(super) async fn listen(listener: TcpListener, context: ClientContext) {
    loop {
        let accepted = tokio::select! {
            () = context.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let tasks = context.tasks.clone();
                let context = context.clone();
                tasks.spawn(async move { serve(stream, context).await });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A client that is gone without a word is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_mins(5);

async fn serve(mut stream: TcpStream, context: ClientContext) {
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    if let Err(error) = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "a connection without keepalive");
    }
    let ClientContext {
        node,
        clients,
        stats,
        process,
        stop,
        drain,
        ..
    } = context;
    if clients.count() >= process.max_clients {
        clients.rejected.fetch_add(1, Ordering::Relaxed);
        let _ = stream
            .write_all(b"-ERR max number of clients reached\r\n")
            .await;
        return;
    }
    let address = |address: std::io::Result<std::net::SocketAddr>| {
        address.map_or_else(|_| String::new(), |address| address.to_string())
    };
    let (remote, local) = (address(stream.peer_addr()), address(stream.local_addr()));
    let session = Session::new(clients.next_id(), remote, local, true);
    let id = session.id;
    let kill = clients.insert(&session, node.now());
    let host = NodeHost::new(Arc::clone(&node), Arc::clone(&clients), stats, process);
    let mut connection = Connection::new(node, Arc::clone(&clients), host, session, stream, drain);
    tokio::select! {
        ended = connection.serve() => {
            if let Err(error) = ended {
                tracing::debug!(id, %error, "a client's connection ended");
            }
        }
        () = kill.cancelled() => {}
        () = stop.cancelled() => {}
    }
    clients.remove(id);
}
