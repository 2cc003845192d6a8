//! The clients that are connected: for CLIENT LIST and KILL, counters, and the bound on their number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::command::{ClientInfo, Session};

#[derive(Debug)]
struct Client {
    info: ClientInfo,
    since: std::time::Duration,
    /// It shall close, its task or not.
    killed: bool,
    task: Option<AbortHandle>,
    /// Of its task, which waits for input.
    waker: Option<Waker>,
}

impl Client {
    fn kill(&mut self) {
        self.killed = true;
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The connected clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    connected: Mutex<BTreeMap<u64, Client>>,
    /// What was begun is finished, and nothing more is read. Tasks look at this, and are woken when it comes:
    /// a token that can be waited for would be registered and removed again, under a lock, with every read.
    draining: AtomicBool,
    next: AtomicU64,
    /// Bytes written to clients.
    pub(super) sent: AtomicU64,
    /// Bytes read from clients.
    pub(super) received: AtomicU64,
    /// Commands of clients that the leader executed for them.
    pub(super) forwarded: AtomicU64,
    /// Clients that wait in WAIT.
    pub(super) waiting: AtomicU64,
    /// Connections accepted since the start.
    pub(super) accepted: AtomicU64,
    /// Connections refused since the start, as there were too many.
    pub(super) rejected: AtomicU64,
}

impl Clients {
    /// A new connection's id.
    pub(super) fn next_id(&self) -> u64 {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes a new connection at monotonic time `now`.
    pub(super) fn insert(&self, session: &Session, now: std::time::Duration) {
        let client = Client {
            info: session.describe(),
            since: now,
            killed: false,
            task: None,
            waker: None,
        };
        self.connected.lock().insert(session.id, client);
    }

    /// Notes the task of a connection, which is ended if it should have been by now.
    pub(super) fn attach(&self, id: u64, task: AbortHandle) {
        if let Some(client) = self.connected.lock().get_mut(&id) {
            if client.killed {
                task.abort();
            }
            client.task = Some(task);
        }
    }

    /// Notes whom to wake when clients are drained.
    pub(super) fn watch(&self, id: u64, waker: Waker) {
        if let Some(client) = self.connected.lock().get_mut(&id) {
            client.waker = Some(waker);
        }
    }

    /// Whether nothing more is to be read.
    pub(super) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Has all connections finish what was begun, and close.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let mut connected = self.connected.lock();
        let wakers = connected
            .values_mut()
            .filter_map(|client| client.waker.take());
        wakers.for_each(Waker::wake);
    }

    /// Notes what changed in a session.
    pub(super) fn update(&self, session: &Session) {
        if let Some(client) = self.connected.lock().get_mut(&session.id) {
            client.info = session.describe();
        }
    }

    /// Notes that a connection is gone.
    pub(super) fn remove(&self, id: u64) {
        self.connected.lock().remove(&id);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.connected.lock().len()
    }

    /// Everyone, by id.
    pub(super) fn list(&self, now: std::time::Duration) -> Vec<ClientInfo> {
        let connected = self.connected.lock();
        let with_age = connected.values().map(|client| ClientInfo {
            age_s: now.saturating_sub(client.since).as_secs(),
            ..client.info.clone()
        });
        with_age.collect()
    }

    /// Closes these; how many there were.
    pub(super) fn kill(&self, ids: &[u64]) -> u64 {
        let mut connected = self.connected.lock();
        let mut found = 0;
        for id in ids {
            if let Some(client) = connected.get_mut(id) {
                client.kill();
                found += 1;
            }
        }
        found
    }

    /// Closes all.
    pub(super) fn kill_all(&self) {
        self.connected.lock().values_mut().for_each(Client::kill);
    }
}

/// Counts a client that waits for as long as it does, however that ends.
pub(super) struct Waiting<'a>(&'a Clients);

impl<'a> Waiting<'a> {
    pub(super) fn begin(clients: &'a Clients) -> Self {
        clients.waiting.fetch_add(1, Ordering::Relaxed);
        Self(clients)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
