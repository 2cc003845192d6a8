//! Metrics in the Prometheus text format.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::admin::Admin;
use crate::replication::admin::Role;

/// Everything that is measured, as of now.
pub(super) fn render(admin: &Admin) -> String {
    let status = admin.status();
    let (memory, unflushed, keys, clients, budget, cache) = admin.node.with(|inner| {
        let store = inner.store.as_ref();
        (
            store.map_or(0, crate::store::Store::bytes),
            store.map_or(0, crate::store::Store::unflushed_bytes),
            store.map_or(0, crate::store::Store::len),
            admin.clients.count(),
            inner.memory_budget,
            store
                .map(crate::store::Store::cache_stats)
                .unwrap_or_default(),
        )
    });
    let mut text = String::new();
    let mut one = |name: &str, kind: &str, help: &str, value: f64| {
        let name = format!("replicated_store_{name}");
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    };
    one(
        "is_leader",
        "gauge",
        "1 on the leader.",
        f64::from(u8::from(status.role == Role::Leader)),
    );
    one(
        "ready",
        "gauge",
        "1 if clients should come here.",
        f64::from(u8::from(status.ready)),
    );
    one(
        "epoch",
        "gauge",
        "Epoch of the leader followed.",
        status.epoch.0 as f64,
    );
    one(
        "durable_lsn",
        "gauge",
        "End of the durable log, in bytes.",
        status.last.lsn.0 as f64,
    );
    one(
        "commit_lsn",
        "gauge",
        "End of what is committed, in bytes.",
        status.commit_lsn.0 as f64,
    );
    one(
        "withheld_bytes",
        "gauge",
        "Committed bytes that no reply may rest on, as too few followers hold them.",
        status.withheld_bytes as f64,
    );
    one(
        "applied_lsn",
        "gauge",
        "End of what is applied, in bytes.",
        status.applied_lsn.0 as f64,
    );
    one(
        "oldest_lsn",
        "gauge",
        "Begin of the kept log, in bytes.",
        status.oldest_lsn.0 as f64,
    );
    one(
        "keys",
        "gauge",
        "Keys, expired ones that were not deleted included.",
        keys as f64,
    );
    one(
        "memory_bytes",
        "gauge",
        "Memory that the data takes.",
        memory as f64,
    );
    one(
        "unflushed_bytes",
        "gauge",
        "Memory of what is not flushed.",
        unflushed as f64,
    );
    one(
        "memory_budget_bytes",
        "gauge",
        "Memory that the data may take.",
        budget as f64,
    );
    one(
        "evicted_entries_total",
        "counter",
        "Entries that went from memory, and are on disk.",
        cache.evicted as f64,
    );
    one(
        "disk_reads_total",
        "counter",
        "Keys that were looked up on disk.",
        (cache.warmed + cache.fetched) as f64,
    );
    one(
        "connected_clients",
        "gauge",
        "Connections of clients.",
        clients as f64,
    );
    one(
        "commands_total",
        "counter",
        "Commands executed.",
        admin.stats.commands.get() as f64,
    );
    let account = admin.node.courtesy.account();
    one(
        "write_batches_total",
        "counter",
        "Batches of commands with writes in them that were answered.",
        account.writes as f64,
    );
    one(
        "write_seconds_total",
        "counter",
        "What these took from their execution to the answer.",
        account.took.as_secs_f64(),
    );
    one(
        "background_rest_seconds_total",
        "counter",
        "How long flushes and seeds have rested so that clients hardly notice them.",
        account.rested.as_secs_f64(),
    );
    let forwarded = admin.clients.forwarded.load(Ordering::Relaxed);
    one(
        "forwarded_commands_total",
        "counter",
        "Commands of this replica's clients that the leader executed.",
        forwarded as f64,
    );
    one(
        "disk_used_percent",
        "gauge",
        "Used share of the disk.",
        f64::from(status.disk_used_percent),
    );
    let seed = status.seed.unwrap_or_default();
    one(
        "seed_bytes",
        "gauge",
        "Bytes of the seed under way that are there.",
        seed.bytes as f64,
    );
    one(
        "seed_total_bytes",
        "gauge",
        "Bytes of the seed under way.",
        seed.total_bytes as f64,
    );
    one(
        "seed_bytes_per_second",
        "gauge",
        "Rate of the seed under way.",
        seed.rate as f64,
    );
    let (seeds, damaged, scrubs) = admin.node.with(|inner| {
        let damaged = inner.damage.is_some() || inner.log_damage.is_some();
        (inner.seeds, damaged, inner.scrubs)
    });
    one(
        "damaged",
        "gauge",
        "1 if something on disk is not what was written; the status says what.",
        f64::from(u8::from(damaged)),
    );
    one(
        "scrubs_total",
        "counter",
        "How often everything on disk was verified since the start.",
        scrubs as f64,
    );
    one(
        "seeds_total",
        "counter",
        "Seeds that were begun or gone on with since the start.",
        seeds as f64,
    );
    let lapses = admin.node.with(|inner| inner.gate.lapses);
    one(
        "lease_lapses_total",
        "counter",
        "Times that this replica led and was without leases, if only for a moment.",
        lapses as f64,
    );
    let followers = [
        (
            "follower_lag_bytes",
            "Leader's end less what the follower has applied.",
        ),
        (
            "follower_lag_seconds",
            "Age of the oldest record that the follower has not applied.",
        ),
    ];
    for (index, (name, help)) in followers.iter().enumerate() {
        let name = format!("replicated_store_{name}");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for follower in &status.followers {
            let value = if index == 0 {
                follower.lag_bytes as f64
            } else {
                follower.lag_seconds
            };
            let _ = writeln!(text, "{name}{{follower=\"{}\"}} {value}", follower.name);
        }
    }
    text
}
