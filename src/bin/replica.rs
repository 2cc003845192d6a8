//! The replica: the database, and small tools around it.

use std::io::IsTerminal as _;
use std::num::NonZero;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use replicated_store::server::{self, RepairOptions, RunOptions, SuperviseOptions};
use replicated_store::tools::{self, CliOptions, LoadOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A replicated database that speaks the Redis protocol.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a replica.
    Run(RunOptions),
    /// Run a replica as a child process, and start it again if it crashes.
    Supervise(SuperviseOptions),
    /// Tell what is missing in a data directory, and go on without it if told to.
    Repair(RepairOptions),
    /// Send one command to a replica and print the reply.
    Cli(CliOptions),
    /// Write at a steady rate and tell how it goes.
    Load(LoadOptions),
}

/// One processor is left to the threads that write: all that clients execute passes through one lock,
/// so that more threads would mostly wait for each other.
fn main() -> anyhow::Result<ExitCode> {
    let processors = std::thread::available_parallelism().map_or(2, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors - 1).max(1))
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Run(options) => {
            tell_kubernetes("");
            let ended = server::run(options, stop_token()?).await;
            ended.inspect_err(|error| tell_kubernetes(&format!("{error:#}")))?;
        }
        Command::Supervise(options) => {
            return Ok(server::supervise(options, stop_token()?).await?.into());
        }
        Command::Repair(options) => {
            let whole = tokio::task::spawn_blocking(move || server::repair(&options)).await??;
            return Ok(ExitCode::from(u8::from(!whole)));
        }
        Command::Cli(options) => tools::cli(options).await?,
        Command::Load(options) => tools::load(options).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Why the container ends, where Kubernetes looks for it: so it is in the Pod's status, and in the store's.
fn tell_kubernetes(why: &str) {
    let path = std::path::Path::new("/dev/termination-log");
    if path.exists()
        && let Err(error) = std::fs::write(path, why)
    {
        tracing::debug!(%error, "the reason of the end cannot be told");
    }
}

/// Cancelled by the signals that ask a process to stop.
fn stop_token() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}
