//! What is asked, as data: each row compares one test with one peer, in the same run.

/// What the ratio to the peer is to be; without a peer, the value itself.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Only told.
    Told,
}

pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) test: &'static str,
    pub(crate) unit: &'static str,
    /// Column of the peer; empty if there is none.
    pub(crate) peer: &'static str,
    pub(crate) goal: Goal,
}

use Goal::{AtLeast, AtMost, Told};

const fn row(
    case: &'static str,
    test: &'static str,
    unit: &'static str,
    peer: &'static str,
    goal: Goal,
) -> Row {
    Row {
        case,
        test,
        unit,
        peer,
        goal,
    }
}

/// Cases and what they are about.
pub(crate) const CASES: [(&str, &str); 11] = [
    ("set", "Durable writes, one node"),
    ("get", "Reads, one node"),
    (
        "pair",
        "Durable writes, on the disks of two nodes (etcd: of two of three)",
    ),
    ("latency", "Latency of durable writes at half load"),
    ("mix", "Latency of reads beside durable writes"),
    ("lag", "How far a follower is behind"),
    (
        "seed",
        "A new follower with 3 million keys, and what its leader's clients notice",
    ),
    ("restart", "Start after a crash"),
    ("memory", "Memory"),
    ("large", "Data larger than memory"),
    ("scaling", "From 1 to 50 million keys"),
];

pub(crate) const SET_50: &str = "SET, 50 clients";
pub(crate) const SET_500: &str = "SET, 500 clients";
pub(crate) const SET_PIPE: &str = "SET, 50 clients, pipeline 16";
pub(crate) const GET_50: &str = "GET, 50 clients";
pub(crate) const GET_PIPE: &str = "GET, 50 clients, pipeline 16";
pub(crate) const PAIR_50: &str = "SET on two, 50 clients";
pub(crate) const PAIR_500: &str = "SET on two, 500 clients";
pub(crate) const PAIR_PIPE: &str = "SET on two, 50 clients, pipeline 16";
pub(crate) const PAIR_1: &str = "SET on two, 1 client";
pub(crate) const HALF: &str = "p99 of SET, half load";
pub(crate) const HALF_POSTGRES: &str = "p99 of SET on two, half of PostgreSQL's load";
pub(crate) const HALF_ETCD: &str = "p99 of SET on two, half of etcd's load";
pub(crate) const MIX: &str = "p99 of GET, 95 % GET and 5 % SET, half load";
pub(crate) const LAG: &str = "lag of a follower at half load, p99";
pub(crate) const SEED_KEYS: &str = "seed, idle, keys";
pub(crate) const SEED_BYTES: &str = "seed, idle, bytes";
pub(crate) const SEED_KEYS_LOAD: &str = "seed under full load, keys";
pub(crate) const SEED_BYTES_LOAD: &str = "seed under full load, bytes";
pub(crate) const DIP_RATE: &str = "SET during a seed, of the rate before it";
pub(crate) const DIP_P99: &str = "p99 of SET during a seed, of that before it";
pub(crate) const DIP_REST: &str = "SET during a seed, of the rate after it, with the follower";
pub(crate) const DIP_REST_P99: &str =
    "p99 of SET during a seed, of that after it, with the follower";
pub(crate) const RESTART: &str = "restart with 10 GB, until a write is taken";
pub(crate) const RESTART_LOADED: &str = "the same, killed under full load, no file in memory";
pub(crate) const MEMORY: &str = "memory of a key beyond its 110 bytes, as INFO tells it";
pub(crate) const RESIDENT: &str = "the same, resident";
pub(crate) const REWRITTEN: &str =
    "the same, resident, once all keys were written three more times";
pub(crate) const LARGE: &str = "GET, zipf 0.99, 50 clients, data of 4 times maxMemory";
pub(crate) const GET_10M: &str = "GET, 50 clients, 10 million keys";
pub(crate) const GET_50M: &str = "GET, 50 clients, 50 million keys";
pub(crate) const SET_10M: &str = "SET, 50 clients, 10 million keys";
pub(crate) const SET_50M: &str = "SET, 50 clients, 50 million keys";

pub(crate) const ROWS: &[Row] = &[
    row("set", SET_50, "/s", "valkey", AtLeast(1.3)),
    row("set", SET_50, "/s", "redis", Told),
    row("set", SET_50, "/s", "postgres", AtLeast(4.0)),
    row("set", SET_50, "/s", "etcd", AtLeast(7.0)),
    row("set", SET_500, "/s", "valkey", AtLeast(1.05)),
    row("set", SET_500, "/s", "redis", Told),
    row("set", SET_500, "/s", "postgres", AtLeast(4.0)),
    row("set", SET_500, "/s", "etcd", AtLeast(7.0)),
    row("set", SET_PIPE, "/s", "valkey", AtLeast(2.0)),
    row("set", SET_PIPE, "/s", "redis", Told),
    row("get", GET_50, "/s", "valkey", AtLeast(1.0)),
    row("get", GET_50, "/s", "redis", Told),
    row("get", GET_PIPE, "/s", "valkey", AtLeast(1.2)),
    row("get", GET_PIPE, "/s", "redis", Told),
    row("pair", PAIR_50, "/s", "valkey", AtLeast(3.0)),
    row("pair", PAIR_50, "/s", "valkey-alone", AtLeast(1.0)),
    row("pair", PAIR_50, "/s", "postgres", AtLeast(6.0)),
    row("pair", PAIR_50, "/s", "etcd", AtLeast(12.0)),
    row("pair", PAIR_500, "/s", "valkey", AtLeast(2.8)),
    row("pair", PAIR_500, "/s", "valkey-alone", AtLeast(1.0)),
    row("pair", PAIR_500, "/s", "postgres", AtLeast(6.0)),
    row("pair", PAIR_500, "/s", "etcd", AtLeast(12.0)),
    row("pair", PAIR_PIPE, "/s", "valkey", AtLeast(5.0)),
    row("pair", PAIR_PIPE, "/s", "valkey-alone", AtLeast(1.0)),
    row("pair", PAIR_1, "/s", "postgres", AtLeast(1.3)),
    row("pair", PAIR_1, "/s", "etcd", AtLeast(2.5)),
    row("pair", PAIR_1, "/s", "valkey", Told),
    row("latency", HALF, "ms", "valkey", AtMost(1.0)),
    row("latency", HALF_POSTGRES, "ms", "postgres", AtMost(0.5)),
    row("latency", HALF_ETCD, "ms", "etcd", AtMost(0.5)),
    row("mix", MIX, "ms", "valkey", AtMost(0.3)),
    row("lag", LAG, "ms", "", AtMost(5.0)),
    row("seed", SEED_KEYS, "/s", "valkey", AtLeast(10.0)),
    row("seed", SEED_BYTES, "MB/s", "postgres", AtLeast(2.0)),
    row("seed", SEED_BYTES, "MB/s", "copy", AtLeast(0.8)),
    row("seed", SEED_KEYS_LOAD, "/s", "valkey", AtLeast(10.0)),
    row("seed", SEED_BYTES_LOAD, "MB/s", "postgres", AtLeast(2.0)),
    row("seed", DIP_RATE, "x", "", AtLeast(0.9)),
    row("seed", DIP_RATE, "x", "valkey", Told),
    row("seed", DIP_P99, "x", "", AtMost(1.5)),
    row("seed", DIP_P99, "x", "valkey", Told),
    row("seed", DIP_REST, "x", "", Told),
    row("seed", DIP_REST, "x", "valkey", Told),
    row("seed", DIP_REST_P99, "x", "", Told),
    row("seed", DIP_REST_P99, "x", "valkey", Told),
    row("restart", RESTART, "s", "", AtMost(3.0)),
    row("restart", RESTART_LOADED, "s", "", AtMost(3.0)),
    row("memory", MEMORY, "B", "", AtMost(32.0)),
    row("memory", MEMORY, "B", "valkey", Told),
    row("memory", RESIDENT, "B", "", AtMost(32.0)),
    row("memory", RESIDENT, "B", "valkey", Told),
    row("memory", REWRITTEN, "B", "", Told),
    row("memory", REWRITTEN, "B", "valkey", Told),
    row("large", LARGE, "/s", "memory", AtLeast(0.6)),
    row("scaling", GET_10M, "/s", "million", AtLeast(0.8)),
    row("scaling", GET_50M, "/s", "million", AtLeast(0.8)),
    row("scaling", SET_10M, "/s", "million", AtLeast(0.8)),
    row("scaling", SET_50M, "/s", "million", AtLeast(0.8)),
];

/// Whether this test asks for that column.
pub(crate) fn takes_part(test: &str, column: &str) -> bool {
    let asked = |row: &Row| row.test == test && row.peer == column;
    column == "ours" || ROWS.iter().any(asked)
}

/// What columns that are no product are called.
pub(crate) const OTHER_TITLES: [(&str, &str); 3] = [
    ("copy", "copy and fsync"),
    ("memory", "all in memory"),
    ("million", "1 million keys"),
];
