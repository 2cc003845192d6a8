//! The benchmark beside others: starts peers and ours on loopback, in turn, in rounds; a table of medians,
//! spreads and ratios, and pictures. `make bench`; `cargo bench --bench peers -- --help`.
//!
//! What is asked is in `rows`, as data. A case (`case`) starts its systems (`peer`), puts loads on them
//! (`load`, `client`, `neutral`) and leaves values in the `results`, from which `report` and `picture` are made.

mod bench;
mod case;
mod client;
#[path = "../../tests/it/support/http.rs"]
mod http;
mod load;
mod machine;
mod neutral;
mod peer;
mod picture;
mod report;
mod results;
mod rounds;
mod rows;
mod server;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Parser;

use bench::{Bench, Scale, say};
use results::Results;
use rows::CASES;

#[derive(Parser)]
struct Options {
    /// Which cases: set, get, pair, latency, mix, lag, seed, restart, memory, large, scaling.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// How often each test is done.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// One short round of everything with little data, to see that it works; its numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// Where the table and the pictures go, from the root of the repository; default, and always with
    /// `--quick`: beside the values, `bench` in Cargo's target directory.
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// Peers that may take part, beside Valkey.
    #[arg(long, value_delimiter = ',', default_value = "redis,postgres,etcd")]
    peers: Vec<String>,
    /// Cores of the servers, as taskset takes them; default: the first three quarters, or all if they are
    /// fewer than four: the replicas of a pair would share one.
    #[arg(long)]
    server_cores: Option<String>,
    /// Cores of the clients; default: the last quarter, or all.
    #[arg(long)]
    client_cores: Option<String>,
    /// Forgets what earlier runs have measured in other cases.
    #[arg(long)]
    fresh: bool,
    /// Only writes table and pictures anew.
    #[arg(long)]
    report: bool,
    /// Cargo says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let target = target.join(if options.quick {
        "bench/quick"
    } else {
        "bench"
    });
    let file = target.join("results.json");
    let folder = options.pictures.as_ref().filter(|_| !options.quick);
    let folder = folder.map_or(target, |folder| root.join(folder));
    let results = if options.fresh {
        Results::default()
    } else {
        Results::read(&file)?
    };
    if options.report {
        return tell(&results, &folder);
    }
    let scale = Scale {
        seconds: if options.quick { 0.5 } else { options.seconds },
        rounds: if options.quick { 1 } else { options.rounds },
        quick: options.quick,
    };
    let mut bench = Bench::new(scale, cores(&options)?, results)?;
    bench.keep_to_cores()?;
    introduce(&mut bench, &options.peers)?;
    let mut failed = Vec::new();
    for (case, about) in chosen(&options)? {
        say(&format!("{case}: {about}"));
        let when = format!(
            "{}, {} rounds of {} s, load average before it {}",
            jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
            scale.rounds,
            scale.seconds,
            machine::load()?
        );
        // One that fails is no reason to lose hours of the others.
        if let Err(error) = case::run(&mut bench, case) {
            say(&format!("{case} failed: {error:#}"));
            failed.push(case);
            continue;
        }
        bench.results.cases.insert(case.to_owned(), when);
        bench.results.write(&file)?;
    }
    tell(&bench.results, &folder)?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Those of the servers, and of the clients.
fn cores(options: &Options) -> Result<(String, String)> {
    let count = std::thread::available_parallelism()?.get();
    let range = |from: usize, to: usize| format!("{from}-{}", to - 1);
    let first = if count < 4 { count } else { count - count / 4 };
    let servers = options.server_cores.clone();
    let clients = options.client_cores.clone();
    Ok((
        servers.unwrap_or_else(|| range(0, first)),
        clients.unwrap_or_else(|| range(first % count, count)),
    ))
}

fn tell(results: &Results, folder: &Path) -> Result<()> {
    picture::write(results, folder)?;
    let table = report::markdown(results);
    std::fs::write(folder.join("table.md"), &table)?;
    println!("{table}");
    Ok(())
}

fn chosen(options: &Options) -> Result<Vec<(&'static str, &'static str)>> {
    for name in &options.cases {
        if !CASES.iter().any(|(case, _)| case == name) {
            bail!("no such case: {name}");
        }
    }
    let all = options.cases.is_empty();
    let wanted = |case: &str| all || options.cases.iter().any(|name| name == case);
    Ok(CASES.into_iter().filter(|(case, _)| wanted(case)).collect())
}

/// Who takes part, on what.
fn introduce(bench: &mut Bench, peers: &[String]) -> Result<()> {
    use peer::{etcd, ours, postgres, valkey};
    let wanted = |column: &str| peers.iter().any(|peer| peer == column);
    let mut titles = vec![
        ("ours", ours::title()?),
        ("valkey", valkey::valkey()?.title()?),
    ];
    if wanted("redis")
        && let Some(redis) = valkey::redis()
    {
        titles.push(("redis", redis.title()?));
    }
    if wanted("postgres") {
        match postgres::title() {
            Some(title) => titles.push(("postgres", title)),
            None => say("PostgreSQL is not there (apt-get install postgresql): left out"),
        }
    }
    if wanted("etcd") {
        match etcd::title(bench) {
            Ok(title) => titles.push(("etcd", title)),
            Err(error) => say(&format!("etcd is left out: {error:#}")),
        }
    }
    for (column, title) in titles {
        bench.takes_part(column);
        bench.results.titles.insert(column.to_owned(), title);
    }
    bench.results.machine = machine::describe(bench)?;
    say(&bench.results.machine);
    Ok(())
}
