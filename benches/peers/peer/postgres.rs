//! PostgreSQL: upserts of a table of a key and a value, by pgbench with prepared statements; alone, or with
//! a synchronous standby.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::System;
use crate::bench::{Bench, find, output, within};
use crate::load::{Latency, Load, Outcome, Pace, histogram};
use crate::server::{Server, free_port};

/// Durable as it comes; room, and time, enough that no checkpoint falls into a run, which favours it.
pub(crate) const OPTIONS: &str = "-c synchronous_commit=on -c fsync=on -c full_page_writes=on -c shared_buffers=512MB \
     -c max_wal_size=16GB -c checkpoint_timeout=30min -c max_connections=600 -c unix_socket_directories=";

fn program(name: &str) -> Option<PathBuf> {
    // Debian keeps the server's programs away from the path.
    let all = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let folders = all.flatten().map(|version| version.path().join("bin"));
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    folders.reverse();
    find(name, &folders)
}

/// Name and version, if it is there.
pub(crate) fn title() -> Option<String> {
    program("pgbench")?;
    let text = output("", &program("postgres")?, &["--version"]).ok()?;
    let version = text.split_whitespace().nth(2)?;
    Some(format!("PostgreSQL {version}"))
}

/// It does not run as root.
fn user() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &[
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--clear-groups",
        ]
    } else {
        &[]
    }
}

/// Runs one of its programs as the user of the server.
pub(crate) fn tool(name: &str, arguments: &[&str]) -> Result<String> {
    let program = program(name).with_context(|| format!("{name} is not there"))?;
    let program = program.to_string_lossy();
    let all = [user(), &[&program], arguments].concat();
    output("", Path::new("setpriv"), &all)
}

pub(crate) struct Node {
    server: Option<Server>,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
}

impl Node {
    /// A directory that is the server's.
    pub(crate) fn folder(bench: &Bench) -> Result<Self> {
        let port = free_port();
        let folder = bench.work().join(format!("postgres-{port}"));
        // It refuses one that others may read.
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        if !user().is_empty() {
            let done = Command::new("chown")
                .arg("postgres")
                .arg(&folder)
                .status()?;
            ensure!(done.success(), "chown failed");
        }
        Ok(Self {
            server: None,
            port,
            folder,
        })
    }

    pub(crate) fn start(bench: &Bench) -> Result<Self> {
        let mut node = Self::folder(bench)?;
        let folder = node.folder.display().to_string();
        let options = "--no-sync --encoding UTF8 --locale C --auth trust --username postgres";
        let options: Vec<&str> = options.split(' ').chain(["-D", &folder]).collect();
        tool("initdb", &options)?;
        node.run(bench)?;
        Ok(node)
    }

    /// A copy of a server's data, followed from then on.
    pub(crate) fn standby(bench: &Bench, leader: &Self) -> Result<Self> {
        let mut node = Self::folder(bench)?;
        let to = format!(
            "host=127.0.0.1 port={} user=postgres application_name=standby",
            leader.port
        );
        let folder = node.folder.display().to_string();
        let options = "-R -X stream -c fast -C -S standby";
        let options: Vec<&str> = options
            .split(' ')
            .chain(["-D", &folder, "-d", &to])
            .collect();
        tool("pg_basebackup", &options)?;
        node.run(bench)?;
        Ok(node)
    }

    fn run(&mut self, bench: &Bench) -> Result<()> {
        let line = format!("-p {} -h 127.0.0.1 {OPTIONS}", self.port);
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        arguments.extend(["-D".to_owned(), self.folder.display().to_string()]);
        let program = program("postgres").context("postgres is not there")?;
        let name = format!("postgres-{}", self.port);
        let mut server =
            Server::start_as(bench, &name, user(), Signal::QUIT, &program, &arguments)?;
        server.await_up(|| self.sql("SELECT 1").is_ok())?;
        self.server = Some(server);
        Ok(())
    }

    /// Runs a statement; its output without headings.
    pub(crate) fn sql(&self, statement: &str) -> Result<String> {
        let port = self.port.to_string();
        let arguments = [
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &port,
            "-XAtqc",
            statement,
        ];
        let program = program("psql").context("psql is not there")?;
        output("", &program, &arguments)
    }

    /// Makes the table, with so many rows.
    pub(crate) fn fill(&self, rows: u64) -> Result<()> {
        self.sql("CREATE TABLE kv (k text PRIMARY KEY, v text)")?;
        self.sql(&format!(
            "INSERT INTO kv SELECT 'k' || (100000000 + i), repeat('x', 100) FROM generate_series(0, {rows} - 1) i"
        ))?;
        self.sql("VACUUM ANALYZE kv")?;
        self.sql("CHECKPOINT").map(|_| ())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The data may be large, and the next one needs the room.
        self.server = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) struct Postgres {
    pub(crate) leader: Node,
    _standby: Option<Node>,
}

impl Postgres {
    pub(crate) fn alone(bench: &Bench, rows: u64) -> Result<Self> {
        let leader = Node::start(bench)?;
        leader.fill(rows)?;
        Ok(Self {
            leader,
            _standby: None,
        })
    }

    pub(crate) fn pair(bench: &Bench, rows: u64) -> Result<Self> {
        let leader = Node::start(bench)?;
        leader.fill(rows)?;
        let standby = Node::standby(bench, &leader)?;
        leader.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")?;
        leader.sql("SELECT pg_reload_conf()")?;
        within(60, "the standby is synchronous", || {
            let state = leader
                .sql("SELECT sync_state FROM pg_stat_replication")
                .ok()?;
            (state.trim() == "sync").then_some(())
        })?;
        Ok(Self {
            leader,
            _standby: Some(standby),
        })
    }
}

/// An open load is a Poisson process here, too, and latency counts from the time that was planned.
pub(crate) fn pgbench(bench: &Bench, port: u16, load: &Load) -> Result<Outcome> {
    let logs = tempfile::tempdir_in(bench.work())?;
    let script = logs.path().join("script");
    let last = 100_000_000 + load.keys.count - 1;
    let value = "x".repeat(load.value);
    let text = format!(
        "\\set k random(100000000, {last})\nINSERT INTO kv VALUES ('k' || :k, '{value}') ON CONFLICT (k) DO UPDATE SET v = excluded.v;\n"
    );
    std::fs::write(&script, text)?;
    let line = format!(
        "-h 127.0.0.1 -U postgres -p {port} -n -M prepared -c {} -j {} -T {} -l --log-prefix {}/log -f {}",
        load.clients,
        load.clients.min(2),
        // Many clients take long to begin with.
        load.seconds.ceil().max(load.clients as f64 / 100.0),
        logs.path().display(),
        script.display()
    );
    let mut arguments: Vec<&str> = line.split(' ').collect();
    let rate = match load.pace {
        Pace::Closed => None,
        Pace::Open(rate) => Some(format!("--rate={rate}")),
    };
    arguments.extend(rate.as_deref());
    arguments.push("postgres");
    let program = program("pgbench").context("pgbench is not there")?;
    let text = output(&bench.client_cores, &program, &arguments)?;
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|line| line.split(' ').next());
    let mut took = histogram()?;
    for file in std::fs::read_dir(logs.path())? {
        let file = file?.path();
        if file != script {
            for line in std::fs::read_to_string(file)?.lines() {
                let micros = line.split(' ').nth(2).context("a line of pgbench's log")?;
                took.saturating_record(micros.parse()?);
            }
        }
    }
    Ok(Outcome {
        rate: rate
            .with_context(|| format!("no rate in:\n{text}"))?
            .parse()?,
        writes: Latency::of(&took),
        reads: Latency::default(),
    })
}

impl System for Postgres {
    fn column(&self) -> &'static str {
        "postgres"
    }

    fn run(&mut self, bench: &Bench, load: &Load) -> Result<Outcome> {
        pgbench(bench, self.leader.port, load)
    }
}
