//! Reads of data that is four times `maxMemory`, beside the same with all of it in memory. The files are
//! in the kernel's page cache as far as that has room.

use anyhow::{Context, Result};

use super::usual;
use crate::bench::{Bench, say};
use crate::client::{self, Control};
use crate::load::{Keys, Load, Order, SHORT};
use crate::peer::{info, ours};
use crate::rows::LARGE;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let keys = Keys {
        count: bench.scale.many(10_000_000),
        order: Order::Zipf,
        form: SHORT,
    };
    let whole = ours::alone(bench, &[])?;
    client::fill(whole.port(), keys, 100)?;
    let taken = info(whole.port(), "memory", "used_memory").context("used_memory")?;
    let memory = taken.trim().parse::<u64>()? / 4;
    let part = ours::alone(bench, &["--max-memory", &memory.to_string()])?;
    client::fill(part.port(), keys, 100)?;
    say(&format!("data of {taken} bytes, maxMemory {memory}"));
    let load = Load {
        reads: 1.0,
        keys,
        ..usual(bench)
    };
    let both = [("ours", part.port()), ("memory", whole.port())];
    let run = |port| client::run(port, false, &load, &Control::timed(load.seconds));
    // Unmeasured: what is read most comes into memory.
    for (_, port) in both {
        run(port)?;
    }
    bench.results.forget(LARGE);
    for round in 0..bench.scale.rounds {
        let mut order = both;
        if round % 2 == 1 {
            order.reverse();
        }
        for (column, port) in order {
            let outcome = run(port)?;
            bench.results.add(LARGE, column, outcome.rate);
            bench.results.detail(LARGE, column, &outcome);
            say(&format!("{LARGE}: {column} {:.0}", outcome.rate));
        }
    }
    Ok(())
}
