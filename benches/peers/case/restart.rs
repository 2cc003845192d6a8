//! A replica with 10 GB of data is killed and started again: how long until it takes a write.

use std::time::Instant;

use anyhow::Result;

use crate::bench::{Bench, say, within};
use crate::client;
use crate::load::{Keys, Order, SHORT};
use crate::peer::{connect, ours};
use crate::rows::RESTART;

/// Bytes of a value: with ten million keys, 10 GB.
const VALUE: usize = 1000;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let keys = Keys {
        count: bench.scale.many(10_000_000),
        order: Order::Sequence,
        form: SHORT,
    };
    // The data, what a compaction writes anew, and the log.
    bench.room(28)?;
    let options = ["--standalone"];
    let mut replica = ours::alone(bench, &[])?;
    client::fill(replica.port(), keys, VALUE)?;
    bench.results.forget(RESTART);
    for _ in 0..bench.scale.rounds {
        replica.kill();
        let start = Instant::now();
        replica.start(bench, &options)?;
        let port = replica.port();
        within(300, "a write is taken", || {
            let mut connection = connect(port).ok()?;
            redis::cmd("SET")
                .arg("after")
                .arg("restart")
                .query::<()>(&mut connection)
                .ok()
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let mut connection = connect(port)?;
        let count: u64 = redis::cmd("DBSIZE").query(&mut connection)?;
        anyhow::ensure!(count >= keys.count, "{count} keys of {}", keys.count);
        bench.results.add(RESTART, "ours", seconds);
        say(&format!("restart: {seconds:.2} s"));
    }
    Ok(())
}
