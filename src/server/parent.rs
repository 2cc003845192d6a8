//! The parent of a replica's process: starts it, reaps it, and says at once that it has ended. That
//! is proof of its death, which spares the wait for the leases that it held. It must not know what
//! the replica does.
//!
//! It serves one page of its own, `GET /process`: a [`ProcessStatus`]. A replica that ran for a while
//! is started again where it was, which takes milliseconds; one that ends soon after its start is
//! left to Kubernetes, whose back-off and counters tell people of it.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::RunOptions;
use crate::replication::admin::ProcessStatus;

/// The parent still answers for this long after its replica has ended for good.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Incarnations that are remembered after their end.
const REMEMBERED: usize = 16;
/// Tells a replica which incarnation it is.
pub(super) const INCARNATION: &str = "REPLICA_INCARNATION";
/// Options that are the parent's own, each with a value.
const OWN: [&str; 2] = ["--process-listen", "--restart-after"];

/// Runs a replica as a child process, and starts it again if it crashes.
#[derive(Args, Clone, Debug)]
pub struct SuperviseOptions {
    /// Address at which this process tells whether its replica runs (HTTP).
    #[arg(long, env = "REPLICA_PROCESS_LISTEN", default_value = "127.0.0.1:0")]
    pub process_listen: SocketAddr,
    /// A replica that crashes after it has run for this many seconds is started again at once; one
    /// that crashes sooner ends its parent, too, with the same exit code.
    #[arg(long, env = "REPLICA_RESTART_AFTER", default_value_t = 10)]
    pub restart_after: u64,
    #[command(flatten)]
    run: RunOptions,
}

/// Runs the replica until `stop`, or until it ends for good; the exit code to end with.
pub async fn supervise(options: SuperviseOptions, stop: CancellationToken) -> anyhow::Result<u8> {
    let address = options.process_listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("listening on {address}"))?;
    tracing::info!(at = %listener.local_addr()?, data = %options.run.data_dir.display(), "watches over a replica");
    let status = Arc::new(Mutex::new(ProcessStatus::default()));
    let told = Arc::clone(&status);
    let page = get(async move || Json(told.lock().clone()));
    let serving =
        tokio::spawn(
            async move { axum::serve(listener, Router::new().route("/process", page)).await },
        );
    let long_run = Duration::from_secs(options.restart_after);
    let ended = run_again_and_again(&status, long_run, &stop).await?;
    tokio::time::sleep(LAST_WORDS).await;
    serving.abort();
    Ok(exit_code(ended))
}

async fn run_again_and_again(
    status: &Mutex<ProcessStatus>,
    long_run: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<ExitStatus> {
    loop {
        let incarnation = rand::random::<u64>() >> 12; // exact in JSON numbers everywhere
        let begun = Instant::now();
        let child = start(incarnation)?;
        status.lock().running = Some(incarnation);
        let ended = reap(child, stop).await?;
        {
            let mut status = status.lock();
            status.running = None;
            status.ended.push(incarnation);
            let surplus = status.ended.len().saturating_sub(REMEMBERED);
            status.ended.drain(..surplus);
        }
        if stop.is_cancelled() || ended.success() || begun.elapsed() < long_run {
            tracing::info!(%ended, "the replica has ended");
            return Ok(ended);
        }
        tracing::error!(%ended, "the replica has ended; starting it again");
    }
}

/// The same program with the same arguments, less those that are the parent's own.
fn start(incarnation: u64) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut arguments = std::env::args().skip_while(|argument| argument != "supervise");
    arguments.next();
    let mut command = Command::new(program);
    command.arg("run").env(INCARNATION, incarnation.to_string());
    while let Some(argument) = arguments.next() {
        let name = argument.split('=').next().unwrap_or_default();
        if !OWN.contains(&name) {
            command.arg(argument);
        } else if name == argument {
            arguments.next(); // its value
        }
    }
    command.spawn().context("starting the replica")
}

/// Waits for the end of the child; a stop is handed on to it.
async fn reap(mut child: Child, stop: &CancellationToken) -> anyhow::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid as i32));
    tokio::select! {
        ended = child.wait() => return ended.context("waiting for the replica"),
        () = stop.cancelled() => {}
    }
    if let Some(pid) = pid {
        // It may have ended meanwhile: then it is not reaped yet, and the signal is lost.
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    child.wait().await.context("waiting for the replica")
}

/// As shells have it: 128 and the signal.
fn exit_code(ended: ExitStatus) -> u8 {
    let code = ended
        .code()
        .or_else(|| ended.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Called by a replica that has a parent: it ends with it.
pub(super) fn end_with_parent() {
    let asked = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = asked {
        tracing::warn!(%error, "this replica would outlive its parent");
    }
}
