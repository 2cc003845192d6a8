//! Valkey, or Redis: durable at every write, alone or with a replica.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Door, System, answers, info};
use crate::bench::{Bench, find, output, within};
use crate::load::{Load, Outcome};
use crate::server::{Server, free_port};

/// Where to look first.
pub(crate) fn folders() -> Vec<PathBuf> {
    let folder = std::env::var_os("VALKEY_DIR");
    folder.into_iter().map(PathBuf::from).collect()
}

/// A server program of this family, and the column of its results.
#[derive(Clone)]
pub(crate) struct Flavour {
    pub(crate) program: PathBuf,
    pub(crate) column: &'static str,
}

/// Valkey; Redis in its place where that is not there.
pub(crate) fn valkey() -> Result<Flavour> {
    let names = ["valkey-server", "redis-server"];
    let program = names.iter().find_map(|name| find(name, &folders()));
    let program =
        program.context("neither valkey-server (VALKEY_DIR) nor redis-server is there")?;
    let column = "valkey";
    Ok(Flavour { program, column })
}

/// Redis beside it, if both are there.
pub(crate) fn redis() -> Option<Flavour> {
    let program = find("redis-server", &[])?;
    find("valkey-server", &folders())?;
    let column = "redis";
    Some(Flavour { program, column })
}

impl Flavour {
    /// Name and version.
    pub(crate) fn title(&self) -> Result<String> {
        let text = output("", &self.program, &["--version"])?;
        let name = if text.starts_with("Valkey") {
            "Valkey"
        } else {
            "Redis"
        };
        let version = text.split("v=").nth(1).unwrap_or_default();
        Ok(format!(
            "{name} {}",
            version.split(' ').next().unwrap_or_default()
        ))
    }
}

/// Durable at every write; snapshots only where a replica needs one; no rewrite of the log during a run, which
/// favours it.
pub(crate) const DURABLE: &str =
    "--appendonly yes --appendfsync always --save '' --auto-aof-rewrite-percentage 0";
/// Saves a new replica a wait of five seconds.
pub(crate) const AT_ONCE: &str = "--repl-diskless-sync-delay 0";

/// One server.
pub(crate) struct Node {
    pub(crate) server: Server,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
}

impl Node {
    pub(crate) fn start(
        bench: &Bench,
        flavour: &Flavour,
        options: &str,
        follows: Option<u16>,
    ) -> Result<Self> {
        let port = free_port();
        let name = format!("{}-{port}", flavour.column);
        let folder = bench.work().join(&name);
        std::fs::create_dir_all(&folder)?;
        let mut line = format!("--port {port} --bind 127.0.0.1 --daemonize no {options} {AT_ONCE}");
        if let Some(leader) = follows {
            let _ = write!(line, " --replicaof 127.0.0.1 {leader}");
        }
        let mut arguments: Vec<String> = line
            .split_whitespace()
            .map(|word| word.trim_matches('\'').to_owned())
            .collect();
        arguments.extend(["--dir".to_owned(), folder.display().to_string()]);
        let mut server = Server::start(bench, &name, &flavour.program, &arguments)?;
        server.await_up(|| answers(port))?;
        Ok(Self {
            server,
            port,
            folder,
        })
    }

    /// It has all that its leader has, in memory.
    pub(crate) fn linked(&self) -> bool {
        info(self.port, "replication", "master_link_status").as_deref() == Some("up")
    }

    /// Its own log is whole.
    pub(crate) fn durable(&self) -> bool {
        let idle = |field| info(self.port, "persistence", field).as_deref() == Some("0");
        idle("aof_rewrite_in_progress") && idle("aof_rewrite_scheduled")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The data may be large, and the next one needs the room.
        self.server.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One, or two, as a system under load.
pub(crate) struct Valkey {
    column: &'static str,
    pub(crate) door: Door,
    _nodes: Vec<Node>,
}

impl Valkey {
    /// One server.
    pub(crate) fn alone(bench: &Bench, flavour: &Flavour, column: &'static str) -> Result<Self> {
        let node = Node::start(bench, flavour, DURABLE, None)?;
        Ok(Self {
            column,
            door: Door::new(node.port, false),
            _nodes: vec![node],
        })
    }

    /// A server and a replica of it; each batch of writes waits until both have it on disk.
    pub(crate) fn pair(bench: &Bench, flavour: &Flavour) -> Result<Self> {
        let leader = Node::start(bench, flavour, DURABLE, None)?;
        let follower = Node::start(bench, flavour, DURABLE, Some(leader.port))?;
        within(60, "the replica follows", || {
            (follower.linked() && follower.durable()).then_some(())
        })?;
        Ok(Self {
            column: flavour.column,
            door: Door::new(leader.port, true),
            _nodes: vec![leader, follower],
        })
    }
}

impl System for Valkey {
    fn column(&self) -> &'static str {
        self.column
    }

    fn run(&mut self, bench: &Bench, load: &Load) -> Result<Outcome> {
        self.door.run(bench, load)
    }
}
