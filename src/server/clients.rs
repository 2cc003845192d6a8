//! The clients that are connected: for CLIENT LIST and KILL, counters, and the bound on their number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::command::{ClientInfo, Session};

#[derive(Debug)]
struct Client {
    info: ClientInfo,
    since: std::time::Duration,
    kill: CancellationToken,
}

/// The connected clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    connected: Mutex<BTreeMap<u64, Client>>,
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

    /// Notes a new connection at monotonic time `now`; the token is cancelled when it shall close.
    pub(super) fn insert(&self, session: &Session, now: std::time::Duration) -> CancellationToken {
        let kill = CancellationToken::new();
        let client = Client {
            info: session.describe(),
            since: now,
            kill: kill.clone(),
        };
        self.connected.lock().insert(session.id, client);
        kill
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
        let connected = self.connected.lock();
        let found = ids.iter().filter_map(|id| connected.get(id));
        found.map(|client| client.kill.cancel()).count() as u64
    }
}
