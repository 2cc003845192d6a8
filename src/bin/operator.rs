//! The operator: reconciles `ReplicatedStore` objects, or prints their definition.

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};
use replicated_store::api;
use replicated_store::operator::controller::{self, Options};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Operator of ReplicatedStore, a replicated database that speaks the Redis protocol.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconcile ReplicatedStore objects.
    Run(Run),
    /// Print the CustomResourceDefinition as YAML.
    Crd,
}

#[derive(Args)]
struct Run {
    /// Namespace of the stores; empty for all namespaces.
    #[arg(long, env = "NAMESPACE", default_value = "")]
    namespace: String,

    /// Container image of stores that name none, when they are created.
    #[arg(long, env = "DEFAULT_IMAGE")]
    default_image: String,

    /// Where probes and metrics are served.
    #[arg(long, env = "LISTEN_HTTP", default_value = "0.0.0.0:8081")]
    listen_http: SocketAddr,

    /// Namespace of the Lease; empty for the operator's own.
    #[arg(long, env = "LEASE_NAMESPACE", default_value = "")]
    lease_namespace: String,

    /// Name of this process among several operators: its Pod's.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pod_name: String,

    /// Whether there may be several operators, of which one is at work.
    #[arg(long, env = "LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    leader_election: bool,

    /// Form of the log. What is logged is set with RUST_LOG.
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Crd => {
            print!("{}", api::crd_yaml()?);
            Ok(())
        }
        Command::Run(run) => start(run),
    }
}

fn start(run: Run) -> Result<()> {
    log(run.log_format)?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(signals(stop.clone()));
        let options = Options {
            namespace: run.namespace,
            default_image: run.default_image,
            listen_http: run.listen_http,
            lease_namespace: run.lease_namespace,
            identity: identity(run.pod_name),
            leader_election: run.leader_election,
        };
        controller::run(options, stop).await?;
        Ok(())
    })
}

fn log(format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    }
    .map_err(|error| anyhow!("cannot set up the log: {error}"))
}

/// The Pod's name; outside of a cluster something that no other process has.
fn identity(pod_name: String) -> String {
    if pod_name.is_empty() {
        let now = jiff::Timestamp::now().as_microsecond();
        format!("operator-{}-{now:x}", std::process::id())
    } else {
        pod_name
    }
}

/// Stops at the first SIGTERM or SIGINT; a second one ends the process.
async fn signals(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("cannot listen to signals");
        return;
    };
    for last in [false, true] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if last {
            std::process::exit(1);
        }
        tracing::info!("stopping; once more to stop at once");
        stop.cancel();
    }
}
