//! etcd, alone or three of them, under its own benchmark tool.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::System;
use crate::bench::{Bench, find, output, say};
use crate::http::request;
use crate::load::{Latency, Load, Outcome, Pace};
use crate::neutral::Counted;
use crate::server::{Server, free_port};

/// The newest version of the tool that a module offers.
const TOOL: &str = "go.etcd.io/etcd/v3/tools/benchmark";
const TOOL_VERSION: &str = "v3.6.8";
/// Its quota would be 2 GiB.
pub(crate) const OPTIONS: &str = "--quota-backend-bytes 8589934592 --log-level error";

fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    Some(cache.or_else(home)?.join("replicated-store"))
}

/// etcd; else the cluster's programs, which are one that looks at its name.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("ETCD").map(PathBuf::from);
    named.or_else(|| find("etcd", &[])).or_else(|| {
        let builds = std::fs::read_dir(cache()?.join("kubernetes")).ok()?;
        let programs = builds
            .flatten()
            .map(|build| build.path().join("kubernetes"));
        programs.into_iter().find(|program| program.is_file())
    })
}

/// Its benchmark tool, built where it is not there yet. It is a part of a module that cannot be installed as
/// such (`replace`), but can be required by another one.
fn tool() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("ETCD_BENCHMARK") {
        return Ok(named.into());
    }
    let folder = cache()
        .context("no home")?
        .join(format!("etcd-benchmark-{TOOL_VERSION}"));
    let tool = folder.join("benchmark");
    if !tool.is_file() {
        say("building etcd's benchmark tool");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("go.mod"), "module bench\n\ngo 1.24\n")?;
        let go = |arguments: &[&str]| -> Result<()> {
            let mut go = Command::new("go");
            let output = go.args(arguments).current_dir(&folder).output()?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "go {arguments:?}: {errors}");
            Ok(())
        };
        go(&["get", &format!("{TOOL}@{TOOL_VERSION}")])?;
        go(&["build", "-o", "benchmark", TOOL])?;
    }
    Ok(tool)
}

/// Name and version, if server and tool are there.
pub(crate) fn title(bench: &Bench) -> Result<String> {
    let program = link(bench)?;
    tool()?;
    let text = output("", &program, &["--version"])?;
    let version = text.split_whitespace().nth(2).context("no version")?;
    Ok(format!("etcd {version}"))
}

/// The program under its own name.
fn link(bench: &Bench) -> Result<PathBuf> {
    let link = bench.work().join("etcd");
    if !link.exists() {
        let program = program().context("etcd is not there: ETCD=, or make cluster")?;
        std::os::unix::fs::symlink(program.canonicalize()?, &link)?;
    }
    Ok(link)
}

pub(crate) struct Etcd {
    ports: Vec<u16>,
    folders: Vec<PathBuf>,
    servers: Vec<Server>,
    tool: PathBuf,
    counted: Counted,
}

impl Etcd {
    pub(crate) fn start(bench: &Bench, nodes: usize) -> Result<Self> {
        let program = link(bench)?;
        let ports: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let peers: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all: Vec<String> = peers
            .iter()
            .map(|&peer| format!("n{peer}={}", url(peer)))
            .collect();
        let mut etcd = Self {
            ports: ports.clone(),
            folders: Vec::new(),
            servers: Vec::new(),
            tool: tool()?,
            counted: Counted::default(),
        };
        for (&port, &peer) in ports.iter().zip(&peers) {
            let name = format!("etcd-{port}");
            let folder = bench.work().join(&name);
            let (port, peer, all) = (url(port), url(peer), all.join(","));
            let id = peer.rsplit(':').next().unwrap_or_default();
            let line = format!(
                "--name n{id} --initial-cluster {all} --initial-cluster-state new {OPTIONS} --listen-peer-urls {peer} \
                 --initial-advertise-peer-urls {peer} --listen-client-urls {port} --advertise-client-urls {port}"
            );
            let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            arguments.extend(["--data-dir".to_owned(), folder.display().to_string()]);
            etcd.servers
                .push(Server::start(bench, &name, &program, &arguments)?);
            etcd.folders.push(folder);
        }
        for (server, port) in etcd.servers.iter_mut().zip(ports) {
            server.await_up(|| healthy(port))?;
        }
        Ok(etcd)
    }

    fn put(&self, bench: &Bench, load: &Load, requests: usize) -> Result<Outcome> {
        let endpoints: Vec<String> = self
            .ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let connections = load.clients.min(100);
        let mut line = format!(
            "--endpoints={} --target-leader --conns={connections} --clients={} put --key-size=10 --val-size={} \
             --key-space-size={} --total={requests}",
            endpoints.join(","),
            load.clients,
            load.value,
            load.keys.count
        );
        if let Pace::Open(rate) = load.pace {
            let _ = write!(line, " --rate={}", rate.ceil());
        }
        let arguments: Vec<&str> = line.split_whitespace().collect();
        parse(&output(&bench.client_cores, &self.tool, &arguments)?)
    }
}

/// It has a leader, too.
fn healthy(port: u16) -> bool {
    let answer = request(&format!("127.0.0.1:{port}"), "GET", "/health", "");
    answer.is_ok_and(|(_, text)| text.contains("\"true\""))
}

fn parse(text: &str) -> Result<Outcome> {
    let after = |mark: &str| -> Result<f64> {
        let rest = text
            .split(mark)
            .nth(1)
            .with_context(|| format!("no {mark:?} in:\n{text}"))?;
        let number = rest.split_whitespace().next().context("no number")?;
        Ok(number.parse()?)
    };
    if text.contains("Error distribution") {
        bail!("etcd answered with errors:\n{text}");
    }
    Ok(Outcome {
        rate: after("Requests/sec:")?,
        writes: Latency {
            p50: after(" 50% in ")? * 1000.0,
            p99: after(" 99% in ")? * 1000.0,
            max: after("Slowest:")? * 1000.0,
        },
        reads: Latency::default(),
    })
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.servers.clear();
        for folder in &self.folders {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

impl System for Etcd {
    fn column(&self) -> &'static str {
        "etcd"
    }

    fn run(&mut self, bench: &Bench, load: &Load) -> Result<Outcome> {
        let mut counted = std::mem::take(&mut self.counted);
        let limited = match load.pace {
            Pace::Closed => counted.run(load, |requests| self.put(bench, load, requests)),
            Pace::Open(rate) => self.put(bench, load, (rate * load.seconds) as usize),
        };
        self.counted = counted;
        limited
    }
}

/// Path of the tool for the report.
pub(crate) fn tool_title() -> String {
    format!("{} {TOOL_VERSION}", Path::new(TOOL).display())
}
