//! A replica with 10 GB of data is killed and started again: how long until it takes a write.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fs::{Advice, fadvise};

use super::writes;
use crate::bench::{Bench, say, within};
use crate::client::{self, Control};
use crate::load::{Keys, Load, Order, SHORT};
use crate::peer::{connect, ours};
use crate::rows::{RESTART, RESTART_LOADED};

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
    let mut replica = ours::alone(bench, &[])?;
    client::fill(replica.port(), keys, VALUE)?;
    bench.results.forget(RESTART);
    bench.results.forget(RESTART_LOADED);
    let load = Load {
        value: VALUE,
        ..writes(
            bench,
            Keys {
                order: Order::Uniform,
                ..keys
            },
        )
    };
    for _ in 0..bench.scale.rounds {
        replica.kill();
        let seconds = until_a_write(bench, &mut replica, keys.count)?;
        bench.results.add(RESTART, "ours", seconds);
        kill_under(&load, &mut replica)?;
        forget_files(&replica.folder)?;
        let loaded = until_a_write(bench, &mut replica, keys.count)?;
        bench.results.add(RESTART_LOADED, "ours", loaded);
        say(&format!(
            "restart: {seconds:.2} s; after full load, from the disk: {loaded:.2} s"
        ));
    }
    Ok(())
}

/// Starts it: seconds until it takes a write. All its keys must be there.
fn until_a_write(bench: &Bench, replica: &mut ours::Replica, keys: u64) -> Result<f64> {
    let start = Instant::now();
    replica.start(bench, &["--standalone"])?;
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
    anyhow::ensure!(count >= keys, "{count} keys of {keys}");
    Ok(seconds)
}

/// Kills it while clients write as fast as they can, after the time of a measurement.
fn kill_under(load: &Load, replica: &mut ours::Replica) -> Result<()> {
    let port = replica.port();
    std::thread::scope(|scope| {
        let clients = scope.spawn(move || client::run(port, false, load, &Control::gated()));
        std::thread::sleep(Duration::from_secs_f64(load.seconds));
        let lasted = !clients.is_finished();
        replica.kill();
        anyhow::ensure!(lasted, "the load ended before the kill");
        // What it ends with is that nobody answers any more.
        clients
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))
            .map(drop)
    })
}

/// Has the kernel drop what it holds of all files below, of which everything that counts is on the disk.
fn forget_files(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            forget_files(&path)?;
        } else {
            let file = File::open(path)?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
