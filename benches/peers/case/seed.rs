//! A new follower, from the start of its process until it has everything, on its disk, and can be read:
//! idle, and while fifty clients write to the leader as fast as it goes; and what these notice of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::usual;
use crate::bench::{Bench, say, within};
use crate::client::{self, Control};
use crate::load::{Keys, Load, Outcome};
use crate::peer::ours::Store;
use crate::peer::postgres::{self, Postgres, pgbench, tool};
use crate::peer::valkey::{self, DURABLE, Node};
use crate::rows::*;

/// Seconds of a load that is there before a seed begins.
const LEAD: Duration = Duration::from_millis(500);

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let usual = usual(bench);
    let keys = Keys {
        count: bench.scale.many(3_000_000),
        ..usual.keys
    };
    let load = Load { keys, ..usual };
    for test in [
        SEED_KEYS,
        SEED_BYTES,
        SEED_KEYS_LOAD,
        SEED_BYTES_LOAD,
        DIP_RATE,
        DIP_P99,
        DIP_REST,
        DIP_REST_P99,
    ] {
        bench.results.forget(test);
    }
    let flavour = valkey::valkey()?;
    let mut store = Store::start(bench)?;
    let valkey = Node::start(bench, &flavour, DURABLE, None)?;
    for port in [store.leader().port(), valkey.port] {
        client::fill(port, keys, 100)?;
    }
    let postgres = if bench.has("postgres") {
        Some(Postgres::alone(bench, keys.count)?)
    } else {
        None
    };
    for _ in 0..bench.scale.rounds {
        for loaded in [false, true] {
            let (rate, bytes) = if loaded {
                (SEED_KEYS_LOAD, SEED_BYTES_LOAD)
            } else {
                (SEED_KEYS, SEED_BYTES)
            };
            let port = store.leader().port();
            let (size, seconds) = beside(bench, "ours", port, &load, loaded, |bench| {
                ours(bench, &mut store, keys.count)
            })?;
            bench.results.add(rate, "ours", keys.count as f64 / seconds);
            bench
                .results
                .add(bytes, "ours", size as f64 / 1e6 / seconds);
            if !loaded {
                let mut follower = store.replicas.pop().context("the follower")?;
                follower.kill(); // it goes on renaming files
                let copied = copy(&follower.folder, &bench.work().join("copy"))?;
                bench.results.add(bytes, "copy", copied);
                say(&format!("copy and fsync: {copied:.0} MB/s"));
            }
            store.replicas.truncate(1);
            store.assign()?;

            let (_follower, seconds) =
                beside(bench, "valkey", valkey.port, &load, loaded, |bench| {
                    let follower = Node::start(bench, &flavour, DURABLE, Some(valkey.port))?;
                    within(300, "the replica has everything on disk", || {
                        (follower.linked() && follower.durable()).then_some(())
                    })?;
                    Ok(follower)
                })?;
            bench
                .results
                .add(rate, "valkey", keys.count as f64 / seconds);
            if let Some(postgres) = &postgres {
                let rate = basebackup(bench, postgres, loaded.then_some(&load))?;
                bench.results.add(bytes, "postgres", rate);
            }
        }
    }
    Ok(())
}

/// Does it, under load if that is asked for; how long it took. The clients' part goes to the results.
fn beside<T>(
    bench: &mut Bench,
    column: &'static str,
    port: u16,
    load: &Load,
    loaded: bool,
    seed: impl FnOnce(&Bench) -> Result<T>,
) -> Result<(T, f64)> {
    let timed = |bench: &Bench| -> Result<(T, f64)> {
        let start = Instant::now();
        let done = seed(bench)?;
        let seconds = start.elapsed().as_secs_f64();
        say(&format!(
            "seed, under load: {loaded}: {column} {seconds:.2} s"
        ));
        Ok((done, seconds))
    };
    if !loaded {
        return timed(bench);
    }
    let before = client::run(port, false, load, &Control::timed(load.seconds))?;
    let control = Control::gated();
    let (done, during) = std::thread::scope(|scope| {
        let clients = scope.spawn(|| client::run(port, false, load, &control));
        std::thread::sleep(LEAD);
        control.measure();
        let done = timed(bench);
        control.stop();
        let during: Result<Outcome> = clients.join().ok().context("the clients")?;
        Ok::<_, anyhow::Error>((done?, during?))
    })?;
    // What there is from then on: the follower takes part of the same processors and disk.
    let after = client::run(port, false, load, &Control::timed(load.seconds))?;
    for (when, then, rate, p99) in [
        ("before", &before, DIP_RATE, DIP_P99),
        ("after", &after, DIP_REST, DIP_REST_P99),
    ] {
        let share = during.rate / then.rate;
        let longer = during.writes.p99 / then.writes.p99;
        bench.results.add(rate, column, share);
        bench.results.add(p99, column, longer);
        say(&format!(
            "its clients: {share:.2} of the rate {when} it, {longer:.2} of the p99"
        ));
    }
    for outcome in [&before, &during, &after] {
        bench.results.detail(DIP_RATE, column, outcome);
    }
    Ok(done)
}

/// A follower of ours; the bytes that were copied for it.
fn ours(bench: &Bench, store: &mut Store, keys: u64) -> Result<u64> {
    store.add(bench)?;
    store.assign()?;
    let follower = &store.replicas[1];
    let mut bytes = 0;
    within(300, "the follower is ready", || {
        let status = follower.status().ok()?;
        bytes = status
            .seed
            .map_or(bytes, |seed| bytes.max(seed.total_bytes));
        status.ready.then_some(())
    })?;
    let mut connection = crate::peer::connect(follower.port())?;
    let count: u64 = redis::cmd("DBSIZE").query(&mut connection)?;
    ensure!(count >= keys, "the follower has {count} keys of {keys}");
    if bytes == 0 {
        // It was too fast to be seen.
        bytes = bytes_below(&follower.folder)?;
    }
    Ok(bytes)
}

/// pg_basebackup as it comes (it fsyncs what it has written); MB a second.
fn basebackup(bench: &Bench, postgres: &Postgres, load: Option<&Load>) -> Result<f64> {
    let target = postgres::Node::folder(bench)?;
    let folder = target.folder.display().to_string();
    let port = postgres.leader.port.to_string();
    let take = || -> Result<f64> {
        let start = Instant::now();
        let options = "-h 127.0.0.1 -U postgres -X stream -c fast";
        let options: Vec<&str> = options
            .split(' ')
            .chain(["-p", &port, "-D", &folder])
            .collect();
        tool("pg_basebackup", &options)?;
        let seconds = start.elapsed().as_secs_f64();
        say(&format!(
            "seed, under load: {}: pg_basebackup {seconds:.2} s",
            load.is_some()
        ));
        Ok(seconds)
    };
    let seconds = match load {
        None => take()?,
        Some(load) => std::thread::scope(|scope| {
            // Long enough to outlast it.
            let seconds = if bench.scale.quick { 3.0 } else { 15.0 };
            let load = Load { seconds, ..*load };
            let clients = scope.spawn(move || pgbench(bench, postgres.leader.port, &load));
            std::thread::sleep(LEAD);
            let taken = take();
            clients.join().ok().context("the clients")??;
            taken
        })?,
    };
    Ok(bytes_below(&target.folder)? as f64 / 1e6 / seconds)
}

fn files_below(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// What the files take on disk: some are made larger than what is in them.
fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in files_below(folder)? {
        // One that was deleted meanwhile counts nothing.
        if let Ok(data) = std::fs::metadata(file) {
            let blocks = std::os::unix::fs::MetadataExt::blocks(&data) * 512;
            bytes += blocks.min(data.len());
        }
    }
    Ok(bytes)
}

/// Copies all files and fsyncs each; MB a second.
fn copy(from: &Path, to: &Path) -> Result<f64> {
    std::fs::create_dir_all(to)?;
    let files = files_below(from)?;
    let start = Instant::now();
    let mut bytes = 0;
    for (index, file) in files.iter().enumerate() {
        let copy = to.join(index.to_string());
        bytes += std::fs::copy(file, &copy)?;
        std::fs::File::open(&copy)?.sync_all()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    std::fs::remove_dir_all(to)?;
    Ok(bytes as f64 / 1e6 / seconds)
}
