//! What all of the benchmark shares: where it works, on which cores, how long, how much.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

use crate::load::{Form, Keys, Order};
use crate::results::Results;

/// How big everything is.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Seconds of a measurement.
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    /// A small run, to see that everything works.
    pub(crate) quick: bool,
}

impl Scale {
    /// So many of something, or in a quick run a hundredth.
    pub(crate) fn many(self, count: u64) -> u64 {
        if self.quick { count / 100 } else { count }
    }
}

pub(crate) struct Bench {
    pub(crate) scale: Scale,
    /// Cores of the servers, and of the clients, as `taskset` takes them.
    pub(crate) server_cores: String,
    pub(crate) client_cores: String,
    pub(crate) results: Results,
    present: BTreeSet<&'static str>,
    work: TempDir,
}

impl Bench {
    pub(crate) fn new(scale: Scale, cores: (String, String), results: Results) -> Result<Self> {
        let below = std::env::var_os("BENCH_DIR").unwrap_or_else(|| "/var/tmp".into());
        let below = PathBuf::from(below);
        sweep(&below)?;
        let work = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}.", std::process::id()))
            .tempdir_in(below)?;
        // PostgreSQL runs as a user of its own.
        std::fs::set_permissions(
            work.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        Ok(Self {
            scale,
            server_cores: cores.0,
            client_cores: cores.1,
            results,
            present: BTreeSet::new(),
            work,
        })
    }

    /// This system is there, and wanted.
    pub(crate) fn takes_part(&mut self, column: &'static str) {
        self.present.insert(column);
    }

    /// Whether it is.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.present.contains(column)
    }

    /// From now on this thread, and all that it starts, is on the clients' cores.
    pub(crate) fn keep_to_cores(&self) -> Result<()> {
        let mut set = CpuSet::new();
        for range in self.client_cores.split(',') {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            (from.parse()?..=to.parse::<usize>()?).for_each(|core| set.set(core));
        }
        Ok(sched_setaffinity(None, &set)?)
    }

    /// The directory for data.
    pub(crate) fn work(&self) -> &Path {
        self.work.path()
    }

    /// Fails if there is less room for data than that; a quick run needs little.
    pub(crate) fn room(&self, gigabytes: u64) -> Result<()> {
        let disk = rustix::fs::statvfs(self.work())?;
        let free = (disk.f_bavail * disk.f_frsize) >> 30;
        ensure!(
            self.scale.quick || free >= gigabytes,
            "{free} GiB free of {gigabytes} that are needed: set BENCH_DIR to a directory on another disk"
        );
        Ok(())
    }

    /// A million keys, in the usual order.
    pub(crate) fn keys(&self, form: Form) -> Keys {
        Keys {
            count: self.scale.many(1_000_000),
            order: Order::Uniform,
            form,
        }
    }
}

/// What directories for data begin with; the number of the process follows.
const PREFIX: &str = "bench-peers.";

/// Removes what runs that were killed have left: it may be many gigabytes.
fn sweep(below: &Path) -> Result<()> {
    for entry in std::fs::read_dir(below)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let process = rest.and_then(|rest| rest.split('.').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            std::fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Tells how far it has come.
pub(crate) fn say(text: &str) {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(Instant::now);
    eprintln!("[{:>5.1} s] {text}", start.elapsed().as_secs_f64());
}

/// Waits until there is something.
pub(crate) fn within<T>(
    seconds: u64,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(Instant::now() < end, "not in {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A program, in one of these directories or on the path.
pub(crate) fn find(name: &str, first: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let all = first.iter().chain(&path).map(|folder| folder.join(name));
    all.into_iter().find(|program| program.is_file())
}

/// Runs a program to its end, on these cores if any are named; what it wrote.
pub(crate) fn output(cores: &str, program: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = std::process::Command::new(program);
    if !cores.is_empty() {
        command = std::process::Command::new("taskset");
        command.args(["-c", cores]).arg(program);
    }
    command.args(arguments);
    let what = || format!("running {}", program.display());
    let output = command.output().with_context(what)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}\n{text}{errors}", what(), output.status);
    }
    Ok(text)
}
