//! What a key costs in memory beyond its own bytes: three million of 10 bytes with values of 100.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::{Bench, say};
use crate::client;
use crate::load::{Keys, Order, SHORT};
use crate::peer::valkey::{self, DURABLE, Node};
use crate::peer::{info, ours};
use crate::rows::{MEMORY, RESIDENT, REWRITTEN};
use crate::server::Server;

const PAYLOAD: f64 = 110.0;
/// So often all keys are written again, in no order: memory is freed here and there then.
const AGAIN: u32 = 3;
/// What is being flushed when a writer ends is no part of what its keys cost.
const SETTLED: Duration = Duration::from_secs(3);

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    for test in [MEMORY, RESIDENT, REWRITTEN] {
        bench.results.forget(test);
    }
    let flavour = valkey::valkey()?;
    for _ in 0..bench.scale.rounds {
        let replica = ours::alone(bench, &[])?;
        let server = replica.server.as_ref().context("it runs")?;
        one(bench, "ours", replica.port(), server)?;
        drop(replica);
        let node = Node::start(bench, &flavour, DURABLE, None)?;
        one(bench, "valkey", node.port, &node.server)?;
    }
    Ok(())
}

fn one(bench: &mut Bench, column: &str, port: u16, server: &Server) -> Result<()> {
    let keys = Keys {
        count: bench.scale.many(3_000_000),
        ..bench.keys(SHORT)
    };
    let used = || -> Result<f64> {
        Ok(info(port, "memory", "used_memory")
            .context("used_memory")?
            .trim()
            .parse()?)
    };
    let before = (used()?, server.resident()? as f64);
    client::fill(port, keys, 100)?;
    std::thread::sleep(SETTLED);
    let beyond = |now: f64, then: f64| (now - then) / keys.count as f64 - PAYLOAD;
    let told = beyond(used()?, before.0);
    let resident = beyond(server.resident()? as f64, before.1);
    bench.results.add(MEMORY, column, told);
    bench.results.add(RESIDENT, column, resident);
    say(&format!(
        "memory of a key beyond its bytes: {column} {told:.1}, resident {resident:.1}"
    ));
    for round in 0..AGAIN {
        client::write(port, keys, Order::Scattered(round), 100)?;
    }
    std::thread::sleep(SETTLED);
    let resident = beyond(server.resident()? as f64, before.1);
    bench.results.add(REWRITTEN, column, resident);
    say(&format!(
        "once all were written anew: resident {resident:.1}"
    ));
    Ok(())
}
