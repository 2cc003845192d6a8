//! What commands that report to people and monitoring are told of the state and of the replication. It is read
//! under the lock when it is asked for: nothing of it is kept.

use super::inner::Inner;
use super::node::Node;
use crate::command::{Facts, Follower, Link, Replication, Role};
use crate::store::Store;

fn history_id(node: &Node) -> String {
    format!("{:0>40}", node.id.to_string())
}

/// What is so at the moment.
pub(super) fn facts(node: &Node, inner: &Inner) -> Facts {
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
        maxmemory: inner.memory_budget,
        loading: inner.store.is_none(),
        more: vec![
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
