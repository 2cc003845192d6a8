//! The cases: each starts what it needs, measures, and leaves values in the results.

mod lag;
mod large;
mod latency;
mod memory;
mod restart;
mod scaling;
mod seed;
mod throughput;

use anyhow::{Result, bail};

use crate::bench::Bench;
use crate::load::{Keys, Load, Pace, SHORT};

pub(crate) fn run(bench: &mut Bench, case: &str) -> Result<()> {
    match case {
        "set" => throughput::set(bench),
        "get" => throughput::get(bench),
        "pair" => throughput::pair(bench),
        "latency" => latency::writes(bench),
        "mix" => latency::mix(bench),
        "lag" => lag::run(bench),
        "seed" => seed::run(bench),
        "restart" => restart::run(bench),
        "memory" => memory::run(bench),
        "large" => large::run(bench),
        "scaling" => scaling::run(bench),
        other => bail!("no such case: {other}"),
    }
}

/// Fifty clients that write, each as soon as its last write is answered.
fn writes(bench: &Bench, keys: Keys) -> Load {
    Load {
        clients: 50,
        pipeline: 1,
        reads: 0.0,
        keys,
        value: 100,
        pace: Pace::Closed,
        seconds: bench.scale.seconds,
        neutral: false,
    }
}

/// The same with a million short keys.
fn usual(bench: &Bench) -> Load {
    writes(bench, bench.keys(SHORT))
}
