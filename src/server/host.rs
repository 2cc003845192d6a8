//! What commands may ask of this process: facts for INFO, ROLE, CLIENT and CONFIG.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::clients::Clients;
use super::inner::Inner;
use super::node::Node;
use crate::command::{ClientInfo, Follower, Host, Link, Replication, Role, ServerInfo, Stats};
use crate::resp::Args;
use crate::store::Store;

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
    /// Keys that expired and were deleted by this replica as leader.
    pub(super) expired: Arc<AtomicU64>,
    /// Commands in the last second.
    pub(super) commands_per_s: Arc<AtomicU64>,
}

/// What is read under the lock just before a command asks.
#[derive(Clone, Debug)]
struct Facts {
    replication: Replication,
    used_memory: u64,
    max_memory: u64,
    keys_with_expiry: u64,
    loading: bool,
    lines: Vec<(&'static str, String, String)>,
}

/// The host of one connection.
#[derive(Debug)]
pub(super) struct NodeHost {
    pub(super) node: Arc<Node>,
    pub(super) clients: Arc<Clients>,
    pub(super) stats: Arc<Stats>,
    pub(super) process: Arc<Process>,
    facts: Mutex<Option<Facts>>,
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
            facts: Mutex::new(None),
        }
    }

    /// Whether the command may ask for facts that lie under the lock: commands run under it, so
    /// these facts must be fetched before.
    pub(super) fn asks(args: Args<'_>) -> bool {
        let Some(name) = args.get(0) else {
            return false;
        };
        let asking: [&[u8]; 6] = [b"info", b"role", b"hello", b"exec", b"config", b"memory"];
        matches!(name.len(), 4..=6) && asking.iter().any(|other| name.eq_ignore_ascii_case(other))
    }

    /// Fetches the facts.
    pub(super) fn refresh(&self, inner: &Inner) {
        *self.facts.lock() = Some(facts(&self.node, inner));
    }

    fn facts(&self) -> Facts {
        let known = self.facts.lock().clone();
        known.unwrap_or_else(|| Facts {
            replication: Replication {
                role: Role::Leader {
                    followers: Vec::new(),
                },
                history_id: history_id(&self.node),
                offset: 0,
            },
            used_memory: 0,
            max_memory: 0,
            keys_with_expiry: 0,
            loading: false,
            lines: Vec::new(),
        })
    }
}

fn history_id(node: &Node) -> String {
    format!("{:0>40}", node.id.to_string())
}

fn facts(node: &Node, inner: &Inner) -> Facts {
    let view = inner.core.view();
    let address = |id| {
        let member = inner.members.get(&id);
        let address = member
            .map(|member| member.client_address.as_str())
            .unwrap_or_default();
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
        (host.to_owned(), port.parse().unwrap_or(0))
    };
    let role = if inner.accepting {
        let now = node.now();
        let followers = view.followers.iter().map(|follower| {
            let (host, port) = address(follower.id);
            let lag = inner.lag.age(follower.applied, inner.tip.end, now);
            Follower {
                host,
                port,
                online: true,
                durable_lsn: follower.durable.0,
                lag_s: lag.as_secs(),
            }
        });
        Role::Leader {
            followers: followers.collect(),
        }
    } else {
        let (host, port) = view.leader.map(address).unwrap_or_default();
        let link = match (inner.seed.is_some(), view.streaming) {
            (true, _) => Link::Seeding,
            (false, true) => Link::Connected,
            (false, false) => Link::Connecting,
        };
        Role::Follower {
            host,
            port,
            link,
            last_io_s: view.streaming.then_some(0),
        }
    };
    let offset = if inner.accepting {
        inner.end()
    } else {
        inner.applied.end
    };
    let line = |name: &str, value: String| ("replication", name.to_owned(), value);
    let memory = inner.store.as_ref().map(memory).unwrap_or_default();
    Facts {
        replication: Replication {
            role,
            history_id: history_id(node),
            offset: offset.0,
        },
        used_memory: memory.bytes,
        keys_with_expiry: inner.store.as_ref().map_or(0, Store::expiring),
        max_memory: inner.memory_budget,
        loading: inner.store.is_none(),
        lines: vec![
            line("replica_id", node.id.to_string()),
            line("epoch", view.epoch.to_string()),
            line("durable_lsn", view.last.lsn.to_string()),
            line("commit_lsn", view.commit.to_string()),
            line("released_lsn", view.released.to_string()),
            line("applied_lsn", inner.applied.end.to_string()),
        ]
        .into_iter()
        .chain(memory.lines)
        .collect(),
    }
}

/// What the data takes in memory.
#[derive(Default)]
struct Memory {
    bytes: u64,
    lines: Vec<(&'static str, String, String)>,
}

fn memory(store: &Store) -> Memory {
    let (engine, cache) = (store.engine().stats(), store.cache_stats());
    let numbers = [
        ("memory", "memory_entries", store.bytes() as u64),
        ("memory", "memory_unflushed", store.unflushed_bytes() as u64),
        ("memory", "memory_block_cache", engine.cache_bytes),
        ("memory", "data_on_disk", engine.disk_bytes),
        // They left the memory and are on disk: nothing to do with `evicted_keys`, which are lost.
        ("stats", "entries_evicted_to_disk", cache.evicted),
        (
            "stats",
            "entries_read_from_disk",
            cache.warmed + cache.fetched,
        ),
    ];
    let line = |(section, name, value): (&'static str, &str, u64)| {
        (section, name.to_owned(), value.to_string())
    };
    Memory {
        bytes: store.bytes() as u64 + engine.cache_bytes,
        lines: numbers.into_iter().map(line).collect(),
    }
}

impl Host for NodeHost {
    fn server(&self) -> ServerInfo {
        let facts = self.facts();
        let now = self.node.now();
        let process = &self.process;
        let usage = super::process::usage();
        let forwarded = self.clients.forwarded.load(Ordering::Relaxed).to_string();
        let mut more = facts.lines;
        more.push(("stats", "forwarded_commands".to_owned(), forwarded));
        ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: process.run_id.clone(),
            process_id: std::process::id(),
            port: process.port,
            uptime_s: now.saturating_sub(process.started).as_secs(),
            os: "Linux".to_owned(),
            loading: facts.loading,
            used_memory: facts.used_memory,
            used_memory_peak: usage.peak_bytes,
            used_memory_rss: usage.resident_bytes,
            total_memory: process.total_memory,
            maxmemory: facts.max_memory,
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
            keys_with_expiry: facts.keys_with_expiry,
            expired_keys: process.expired.load(Ordering::Relaxed),
            last_flush_s: process.flushed_at.load(Ordering::Relaxed),
            more,
            ..ServerInfo::default()
        }
    }

    fn replication(&self) -> Replication {
        self.facts().replication
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
        let facts = self.facts();
        vec![
            ("port", self.process.port.to_string()),
            ("maxclients", self.process.max_clients.to_string()),
            ("maxmemory", facts.max_memory.to_string()),
        ]
    }

    fn set(&self, _name: &str, _value: &str) -> Result<bool, String> {
        Ok(false)
    }
}
