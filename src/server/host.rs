//! What commands may ask of this process, for INFO, CLIENT and CONFIG. What lies under the lock they ask of the
//! view (`facts`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clients::Clients;
use super::node::Node;
use crate::command::{ClientInfo, Host, ServerInfo, Stats};

/// What does not change while the process runs.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) run_id: String,
    pub(super) port: u16,
    pub(super) started: std::time::Duration,
    pub(super) max_clients: usize,
    pub(super) total_memory: u64,
    /// Seconds since 1970 of the last flush.
    pub(super) flushed_at: Arc<AtomicU64>,
    /// Commands in the last second.
    pub(super) commands_per_s: Arc<AtomicU64>,
}

/// The host of one connection.
#[derive(Debug)]
pub(super) struct NodeHost {
    pub(super) node: Arc<Node>,
    pub(super) clients: Arc<Clients>,
    pub(super) stats: Arc<Stats>,
    pub(super) process: Arc<Process>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl NodeHost {
    pub(super) fn new(
        node: Arc<Node>,
        clients: Arc<Clients>,
        stats: Arc<Stats>,
        process: Arc<Process>,
    ) -> Self {
        Self {
            node,
            clients,
            stats,
            process,
        }
    }
}

impl Host for NodeHost {
    fn server(&self) -> ServerInfo {
        let now = self.node.now();
        let process = &self.process;
        let usage = super::process::usage();
        let forwarded = self.clients.forwarded.load(Ordering::Relaxed).to_string();
        let more = vec![("stats", "forwarded_commands".to_owned(), forwarded)];
        ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: process.run_id.clone(),
            process_id: std::process::id(),
            port: process.port,
            uptime_s: now.saturating_sub(process.started).as_secs(),
            os: "Linux".to_owned(),
            used_memory_peak: usage.peak_bytes,
            used_memory_rss: usage.resident_bytes,
            total_memory: process.total_memory,
            connected_clients: self.clients.count() as u64,
            maxclients: process.max_clients as u64,
            connections_received: self.clients.accepted.load(Ordering::Relaxed),
            connections_rejected: self.clients.rejected.load(Ordering::Relaxed),
            net_input_bytes: self.clients.received.load(Ordering::Relaxed),
            net_output_bytes: self.clients.sent.load(Ordering::Relaxed),
            cpu_user_ms: usage.user_ms,
            cpu_system_ms: usage.system_ms,
            blocked_clients: self.clients.waiting.load(Ordering::Relaxed),
            ops_per_s: process.commands_per_s.load(Ordering::Relaxed),
            expired_keys: self.node.expired.load(Ordering::Relaxed),
            last_flush_s: process.flushed_at.load(Ordering::Relaxed),
            more,
            ..ServerInfo::default()
        }
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }

    fn clients(&self) -> Vec<ClientInfo> {
        self.clients.list(self.node.now())
    }

    fn kill(&self, ids: &[u64]) -> u64 {
        self.clients.kill(ids)
    }

    fn password_required(&self) -> bool {
        false
    }

    fn authenticate(&self, _user: &[u8], _password: &[u8]) -> bool {
        true
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("port", self.process.port.to_string()),
            ("maxclients", self.process.max_clients.to_string()),
        ]
    }

    fn set(&self, _name: &str, _value: &str) -> Result<bool, String> {
        Ok(false)
    }
}
