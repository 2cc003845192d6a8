//! INFO: the process in numbers, for people and monitoring.

use super::connection::REDIS_VERSION;
use super::table::{self, NONE, flags::*};
use super::{
    Call, Facts, Handled, Host, Link, Outcome, Replication, Role, ServerInfo, Stats, rows,
};
use std::fmt::{Display, Write};

rows! { Server;
    "info", -1, LOADING | STALE, NONE, "1.0.0", info,
        "Returns information and statistics about the server.";
}

/// Writes the fields of a section.
type Section = fn(&mut Report<'_>);

/// The sections in their order, and whether they are shown when none is asked for.
const SECTIONS: [(&str, bool, Section); 12] = [
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Modules", true, |_| {}),
    ("Commandstats", false, commandstats),
    ("Errorstats", true, errorstats),
    ("Cluster", true, |report| report.line("cluster_enabled", 0)),
    ("Keyspace", true, keyspace),
];

/// What the sections are made of, and their text so far.
struct Report<'a> {
    text: String,
    server: ServerInfo,
    facts: Facts,
    stats: &'a Stats,
    now_ms: u64,
    keys: u64,
}

impl Report<'_> {
    fn line(&mut self, field: &str, value: impl Display) {
        // Writing into a string cannot fail.
        let _ = write!(self.text, "{field}:{value}\r\n");
    }

    /// Bytes, and the same for people.
    fn bytes(&mut self, field: &str, bytes: u64) {
        self.line(field, bytes);
        let (amount, unit) = match bytes {
            0..1024 => (bytes as f64, "B"),
            1024..0x10_0000 => (bytes as f64 / 1024.0, "K"),
            0x10_0000..0x4000_0000 => (bytes as f64 / f64::from(1 << 20), "M"),
            _ => (bytes as f64 / f64::from(1 << 30), "G"),
        };
        self.line(&format!("{field}_human"), format_args!("{amount:.2}{unit}"));
    }
}

fn info(call: &mut Call<'_>) -> Handled {
    let wanted = call.args.skip(1);
    let host: &dyn Host = call.host;
    let mut report = Report {
        text: String::with_capacity(4096),
        server: host.server(),
        facts: call.view.facts(),
        stats: host.stats(),
        now_ms: call.view.now_ms(),
        // INFO answers while the state is loading: then there are no keys yet.
        keys: call.view.len_hint(),
    };
    for (name, default, write) in SECTIONS {
        let shown = |word: &[u8]| {
            word.eq_ignore_ascii_case(name.as_bytes())
                || word.eq_ignore_ascii_case(b"all")
                || word.eq_ignore_ascii_case(b"everything")
                || default && word.eq_ignore_ascii_case(b"default")
        };
        if (wanted.is_empty() && default) || wanted.iter().any(shown) {
            section(&mut report, name, write);
        }
    }
    call.out.verbatim("txt", report.text.as_bytes());
    Ok(Outcome::Reply)
}

fn section(report: &mut Report<'_>, name: &str, write: Section) {
    if !report.text.is_empty() {
        report.text.push_str("\r\n");
    }
    let _ = write!(report.text, "# {name}\r\n");
    write(report);
    let more = std::mem::take(&mut report.facts.more).into_iter();
    let more = more.chain(std::mem::take(&mut report.server.more));
    let (here, elsewhere): (Vec<_>, _) = more.partition(|line| line.0.eq_ignore_ascii_case(name));
    report.facts.more = elsewhere;
    for (_, field, value) in here {
        report.line(&field, value);
    }
}

fn server(report: &mut Report<'_>) {
    let server = report.server.clone();
    report.line("redis_version", REDIS_VERSION);
    report.line("replicated_store_version", &server.version);
    report.line("redis_git_sha1", "00000000");
    report.line("redis_git_dirty", 0);
    report.line("redis_build_id", 0);
    report.line("redis_mode", "standalone");
    report.line("os", &server.os);
    report.line("arch_bits", usize::BITS);
    report.line("multiplexing_api", "epoll");
    report.line("process_id", server.process_id);
    report.line("run_id", &server.run_id);
    report.line("tcp_port", server.port);
    report.line("server_time_usec", report.now_ms * 1000);
    report.line("uptime_in_seconds", server.uptime_s);
    report.line("uptime_in_days", server.uptime_s / 86_400);
    report.line("config_file", &server.config_file);
}

fn clients(report: &mut Report<'_>) {
    report.line("connected_clients", report.server.connected_clients);
    report.line("cluster_connections", 0);
    report.line("maxclients", report.server.maxclients);
    report.line("blocked_clients", report.server.blocked_clients);
    report.line("tracking_clients", 0);
}

fn memory(report: &mut Report<'_>) {
    report.bytes("used_memory", report.facts.used_memory);
    report.bytes("used_memory_rss", report.server.used_memory_rss);
    report.bytes("used_memory_peak", report.server.used_memory_peak);
    report.bytes("total_system_memory", report.server.total_memory);
    report.bytes("maxmemory", report.facts.maxmemory);
    // Beyond the budget entries go to disk; none is lost.
    report.line("maxmemory_policy", "noeviction");
    let used = report.facts.used_memory.max(1) as f64;
    let ratio = report.server.used_memory_rss as f64 / used;
    report.line("mem_fragmentation_ratio", format_args!("{ratio:.2}"));
}

fn persistence(report: &mut Report<'_>) {
    report.line("loading", u8::from(report.facts.loading));
    report.line("async_loading", 0);
    report.line("rdb_changes_since_last_save", 0);
    report.line("rdb_bgsave_in_progress", 0);
    report.line("rdb_last_save_time", report.server.last_flush_s);
    report.line("rdb_last_bgsave_status", "ok");
    // The log: always on, and synced before a write is answered.
    report.line("aof_enabled", 1);
    report.line("aof_rewrite_in_progress", 0);
    report.line("aof_last_write_status", "ok");
}

fn stats(report: &mut Report<'_>) {
    let stats = report.stats;
    report.line(
        "total_connections_received",
        report.server.connections_received,
    );
    report.line("total_commands_processed", stats.commands.get());
    report.line("instantaneous_ops_per_sec", report.server.ops_per_s);
    report.line("total_net_input_bytes", report.server.net_input_bytes);
    report.line("total_net_output_bytes", report.server.net_output_bytes);
    report.line("rejected_connections", report.server.connections_rejected);
    report.line("expired_keys", report.server.expired_keys);
    report.line("evicted_keys", 0);
    report.line("keyspace_hits", stats.hits.get());
    report.line("keyspace_misses", stats.misses.get());
    report.line("pubsub_channels", 0);
    report.line("pubsub_patterns", 0);
    report.line("total_error_replies", stats.errors.get());
}

fn replication(report: &mut Report<'_>) {
    let Replication {
        role,
        history_id,
        offset,
    } = report.facts.replication.clone();
    match role {
        Role::Leader { followers } => {
            report.line("role", "master");
            report.line("connected_slaves", followers.len());
            for (number, follower) in followers.iter().enumerate() {
                let state = if follower.online {
                    "online"
                } else {
                    "send_bulk"
                };
                report.line(
                    &format!("slave{number}"),
                    format_args!(
                        "ip={},port={},state={state},offset={},lag={}",
                        follower.host, follower.port, follower.durable_lsn, follower.lag_s
                    ),
                );
            }
        }
        Role::Follower {
            host,
            port,
            link,
            last_io_s,
        } => {
            report.line("role", "slave");
            report.line("master_host", host);
            report.line("master_port", port);
            let up = link != Link::Connecting;
            report.line("master_link_status", if up { "up" } else { "down" });
            let last_io = last_io_s.map_or(-1, |seconds| seconds as i64);
            report.line("master_last_io_seconds_ago", last_io);
            report.line("master_sync_in_progress", u8::from(link == Link::Seeding));
            report.line("slave_read_repl_offset", offset);
            report.line("slave_repl_offset", offset);
            report.line("slave_priority", 100);
            report.line("slave_read_only", 1);
            report.line("connected_slaves", 0);
        }
    }
    report.line("master_failover_state", "no-failover");
    report.line("master_replid", history_id);
    report.line("master_repl_offset", offset);
    report.line("second_repl_offset", -1);
}

fn cpu(report: &mut Report<'_>) {
    let seconds = |ms: u64| format!("{}.{:03}000", ms / 1000, ms % 1000);
    report.line("used_cpu_sys", seconds(report.server.cpu_system_ms));
    report.line("used_cpu_user", seconds(report.server.cpu_user_ms));
}

fn commandstats(report: &mut Report<'_>) {
    let stats = report.stats;
    for (command, stats) in table::all().iter().zip(&stats.by_command) {
        let (calls, rejected) = (stats.calls.get(), stats.rejected.get());
        if calls + rejected > 0 {
            // Single commands are not timed: reading the clock costs as much as most of them.
            let _ = write!(
                report.text,
                "cmdstat_{}:calls={calls},usec=0,usec_per_call=0.00,rejected_calls={rejected},\
                 failed_calls={}\r\n",
                command.name,
                stats.failed.get()
            );
        }
    }
}

fn errorstats(report: &mut Report<'_>) {
    for (code, count) in report.stats.by_error.lock().iter() {
        let _ = write!(report.text, "errorstat_{code}:count={count}\r\n");
    }
}

fn keyspace(report: &mut Report<'_>) {
    let keys = report.keys;
    if keys > 0 {
        let expires = report.facts.keys_with_expiry;
        report.line(
            "db0",
            format_args!("keys={keys},expires={expires},avg_ttl=0"),
        );
    }
}
