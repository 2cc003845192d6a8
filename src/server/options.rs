//! The command line of `replica run`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Runs a replica.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// Directory for log and state; made if it does not exist.
    #[arg(long, env = "REPLICA_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Address for clients (Redis protocol).
    #[arg(long, env = "REPLICA_LISTEN", default_value = "127.0.0.1:6379")]
    pub listen: SocketAddr,
    /// Another address for clients, at which every answer is as the leader's own: what this replica cannot
    /// answer as the leader is handed to the leader, reads as well as writes. Default: none.
    #[arg(long, env = "REPLICA_LEADER_LISTEN")]
    pub leader_listen: Option<SocketAddr>,
    /// Address for other replicas; port 0 takes any free one.
    #[arg(long, env = "REPLICA_PEER_LISTEN", default_value = "127.0.0.1:0")]
    pub peer_listen: SocketAddr,
    /// Address for status, probes, metrics and the operator (HTTP); port 0 takes any free one.
    #[arg(long, env = "REPLICA_ADMIN_LISTEN", default_value = "127.0.0.1:0")]
    pub admin_listen: SocketAddr,
    /// Name for people; in Kubernetes the Pod's.
    #[arg(long, env = "REPLICA_NAME", default_value = "replica")]
    pub name: String,
    /// Host under which others reach this replica. Only told to clients; default: the name.
    #[arg(long, env = "REPLICA_ADVERTISE")]
    pub advertise: Option<String>,
    /// JSON file with the settings at the start; an operator changes them later.
    #[arg(long, env = "REPLICA_SETTINGS")]
    pub settings: Option<PathBuf>,
    /// Memory for the data in bytes, until an operator says otherwise; default: three quarters of what
    /// the container, or the machine, has.
    #[arg(long, env = "REPLICA_MAX_MEMORY")]
    pub max_memory: Option<u64>,
    /// Lead at once, alone and without an operator.
    #[arg(long, env = "REPLICA_STANDALONE")]
    pub standalone: bool,
    /// Seconds for which a leader that is told to stop waits until another replica leads.
    #[arg(long, env = "REPLICA_LEAVE_TIMEOUT", default_value_t = 10)]
    pub leave_timeout: u64,
    /// Set by `replica supervise`: which of its replica's processes this is.
    #[arg(long, env = "REPLICA_INCARNATION", hide = true)]
    pub incarnation: Option<u64>,
    /// Seconds from one verification of everything on disk to the next; 0 for none.
    #[arg(long, env = "REPLICA_SCRUB_INTERVAL", default_value_t = 7 * 24 * 3600)]
    pub scrub_interval: u64,
    /// Bytes a second that a verification reads.
    #[arg(long, env = "REPLICA_SCRUB_RATE", default_value_t = 16 << 20)]
    pub scrub_rate: u64,
    /// Most client connections; more are refused with an error.
    #[arg(long, env = "REPLICA_MAX_CLIENTS", default_value_t = 10_000)]
    pub max_clients: usize,
}
