//! A server as a child process: it ends with this value, and with this program.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::bench::{Bench, within};

pub(crate) struct Server {
    child: Child,
    end: Signal,
    log: PathBuf,
}

/// A port that nobody has, below those that the kernel gives to whoever connects.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 14_000 + (next + (std::process::id() % 9000) as u16) % 18_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Server {
    /// Starts a program on the servers' cores, with its output in a file of this name.
    pub(crate) fn start(
        bench: &Bench,
        name: &str,
        program: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        Self::start_as(bench, name, &[], Signal::KILL, program, arguments)
    }

    /// The same as somebody else, and ended by another signal than KILL. It is killed with this program,
    /// however that ends.
    pub(crate) fn start_as(
        bench: &Bench,
        name: &str,
        user: &[&str],
        end: Signal,
        program: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        let log = bench.work().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = Command::new("taskset")
            .args(["-c", &bench.server_cores, "setpriv"])
            .args([
                "--pdeathsig",
                if end == Signal::KILL { "KILL" } else { "QUIT" },
            ])
            .args(user)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, end, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is up; fails at once if it ends.
    pub(crate) fn await_up(&mut self, up: impl Fn() -> bool) -> Result<()> {
        let what = format!("a server is up, see {}", self.log.display());
        within(120, &what, || match self.check() {
            Err(ended) => Some(Err(ended)),
            Ok(()) => up().then_some(Ok(())),
        })?
    }

    /// Fails if it has ended, with the last that it wrote.
    fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(10).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            bail!("a server ended, {status}:\n{}", last.join("\n"));
        }
        Ok(())
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        let kilobytes: u64 = kilobytes.context("no VmRSS")?.parse()?;
        Ok(kilobytes * 1024)
    }

    /// Ends it; not for the first time, too.
    pub(crate) fn stop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Nothing to do about a failure: the process is gone then.
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), self.end);
        let patience = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
