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
    /// Cancelled when no more clients are taken.
    pub(super) drain: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// They come to the leader's address.
    pub(super) strict: bool,
}

/// Accepts until clients are drained.
pub(super) async fn listen(listener: TcpListener, context: ClientContext) {
    loop {
        let accepted = tokio::select! {
            () = context.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => admit(stream, &context),
            Err(error) => {
                tracing::warn!(%error, "accepting a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A client that is gone without a word is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_mins(5);

/// Its end takes a client out of the list, however it comes about.
struct Listed {
    clients: Arc<Clients>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.clients.remove(self.id);
    }
}

/// Gives a client a task, unless there are too many.
fn admit(stream: TcpStream, context: &ClientContext) {
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    if let Err(error) = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "a connection without keepalive");
    }
    let (node, clients) = (&context.node, &context.clients);
    if clients.count() >= context.process.max_clients {
        clients.rejected.fetch_add(1, Ordering::Relaxed);
        context.tasks.spawn(refuse(stream));
        return;
    }
    let address = |address: std::io::Result<std::net::SocketAddr>| {
        address.map_or_else(|_| String::new(), |address| address.to_string())
    };
    let (remote, local) = (address(stream.peer_addr()), address(stream.local_addr()));
    let session = Session::new(clients.next_id(), remote, local, true);
    let id = session.id;
    clients.insert(&session, node.now());
    let listed = Listed {
        clients: Arc::clone(clients),
        id,
    };
    let host = NodeHost::new(
        Arc::clone(node),
        Arc::clone(clients),
        Arc::clone(&context.stats),
        Arc::clone(&context.process),
    );
    let mut connection = Connection::new(
        Arc::clone(node),
        Arc::clone(clients),
        host,
        session,
        stream,
        context.strict,
    );
    let task = context.tasks.spawn(async move {
        let _listed = listed;
        if let Err(error) = connection.serve().await {
            tracing::debug!(id, %error, "a client's connection ended");
        }
    });
    // Aborting it costs nothing until it is done; to wait for a word beside everything else would, each time.
    clients.attach(id, task.abort_handle());
}

async fn refuse(mut stream: TcpStream) {
    let _ = stream
        .write_all(b"-ERR max number of clients reached\r\n")
        .await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::server::testing;

    /// Goal: nobody waits without end for a leader that never begins, at either address.
    #[tokio::test]
    async fn who_is_held_for_long_is_told_so() {
        let node = Arc::new(testing::leader(Arc::default()));
        node.with(|inner| inner.holding = true);
        let tasks = TaskTracker::new();
        let mut streams = Vec::new();
        for strict in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut stream = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let context = ClientContext {
                node: Arc::clone(&node),
                clients: Arc::default(),
                stats: Arc::default(),
                process: Arc::new(Process {
                    run_id: String::new(),
                    port: 0,
                    started: std::time::Duration::ZERO,
                    max_clients: 1,
                    total_memory: 0,
                    flushed_at: Arc::default(),
                    commands_per_s: Arc::default(),
                }),
                drain: CancellationToken::new(),
                tasks: tasks.clone(),
                strict,
            };
            admit(listener.accept().await.unwrap().0, &context);
            stream.write_all(b"GET key\r\n").await.unwrap();
            streams.push(stream);
        }
        for mut stream in streams {
            let mut told = String::new();
            let read = stream.read_to_string(&mut told);
            let in_time = tokio::time::timeout(std::time::Duration::from_secs(30), read).await;
            in_time.expect("it is told in time").unwrap();
            assert!(told.starts_with("-CLUSTERDOWN"), "{told}");
        }
    }
}
