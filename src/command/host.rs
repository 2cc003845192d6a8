//! What commands may ask of the process that runs them.

use super::Stats;

/// The process around the state. Its answers are for people and monitoring: none decides an effect.
pub trait Host {
    /// Facts about the process, for INFO.
    fn server(&self) -> ServerInfo;
    /// The counters that [`execute`](super::execute()) keeps.
    fn stats(&self) -> &Stats;
    /// The connections, in the order of their ids.
    fn clients(&self) -> Vec<ClientInfo>;
    /// Closes these connections, but not the one that asks; how many there were.
    fn kill(&self, ids: &[u64]) -> u64;
    /// Whether clients must authenticate. Asked at HELLO, AUTH and RESET.
    fn password_required(&self) -> bool;
    /// Whether the password is right for the user; only asked if one is required.
    fn authenticate(&self, user: &[u8], password: &[u8]) -> bool;
    /// Settings with their values, beyond or instead of those that commands know themselves (`port`, ...).
    fn settings(&self) -> Vec<(&'static str, String)>;
    /// Changes a setting: `Ok(false)` if it is unknown here; an error's text follows
    /// `ERR CONFIG SET failed - `.
    fn set(&self, name: &str, value: &str) -> Result<bool, String>;
}

/// Facts about the process.
#[derive(Clone, Debug, Default)]
pub struct ServerInfo {
    /// Version of replicated-store.
    pub version: String,
    /// Identifies this run of the process: forty hexadecimal digits.
    pub run_id: String,
    /// Process id.
    pub process_id: u32,
    /// Port for clients.
    pub port: u16,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Operating system, for `os:`.
    pub os: String,
    /// Configuration file, empty for none.
    pub config_file: String,
    /// Highest `used_memory` so far.
    pub used_memory_peak: u64,
    /// Resident bytes of the process.
    pub used_memory_rss: u64,
    /// Bytes of memory of the machine or the cgroup.
    pub total_memory: u64,
    /// Connections now.
    pub connected_clients: u64,
    /// Most connections.
    pub maxclients: u64,
    /// Connections that wait, e.g. in WAIT.
    pub blocked_clients: u64,
    /// Connections accepted since the start.
    pub connections_received: u64,
    /// Connections refused since the start, as there were too many.
    pub connections_rejected: u64,
    /// Bytes read from clients.
    pub net_input_bytes: u64,
    /// Bytes written to clients.
    pub net_output_bytes: u64,
    /// Commands a second, lately.
    pub ops_per_s: u64,
    /// Keys that expired.
    pub expired_keys: u64,
    /// Milliseconds of processor time in user mode.
    pub cpu_user_ms: u64,
    /// Milliseconds of processor time in kernel mode.
    pub cpu_system_ms: u64,
    /// Seconds since 1970 of the last flush to the LSM.
    pub last_flush_s: u64,
    /// Further `section`, `field`, `value` lines, after the usual ones of that section.
    pub more: Vec<(&'static str, String, String)>,
}

/// Facts about the state, as it is when the command is executed.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The replica's part in the replication.
    pub replication: Replication,
    /// The state is still being opened or fetched.
    pub loading: bool,
    /// Bytes of memory in use by the state and buffers.
    pub used_memory: u64,
    /// Memory budget, 0 for none.
    pub maxmemory: u64,
    /// Keys with an expiry, if known.
    pub keys_with_expiry: u64,
    /// Further `section`, `field`, `value` lines, after the usual ones of that section.
    pub more: Vec<(&'static str, String, String)>,
}

/// The replica's part in the replication.
#[derive(Clone, Debug)]
pub struct Replication {
    /// Leader or follower.
    pub role: Role,
    /// Identifies the history: forty hexadecimal digits.
    pub history_id: String,
    /// The end of the log (leader), or how far it is applied (follower).
    pub offset: u64,
}

/// Leader or follower.
#[derive(Clone, Debug)]
pub enum Role {
    /// Takes writes.
    Leader {
        /// Who follows.
        followers: Vec<Follower>,
    },
    /// Follows.
    Follower {
        /// The leader's host, empty if there is none.
        host: String,
        /// The leader's port.
        port: u16,
        /// How it stands with the leader.
        link: Link,
        /// Seconds since the leader was last heard of, if ever.
        last_io_s: Option<u64>,
    },
}

/// How a follower stands with its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// No leader is known or reachable.
    Connecting,
    /// A snapshot is being fetched.
    Seeding,
    /// The log streams.
    Connected,
}

/// A follower as its leader sees it.
#[derive(Clone, Debug)]
pub struct Follower {
    /// Its host.
    pub host: String,
    /// Its port for clients.
    pub port: u16,
    /// Whether the log streams to it; else it is fetching a snapshot.
    pub online: bool,
    /// LSN up to which it has the log on disk.
    pub durable_lsn: u64,
    /// Seconds since it was last heard of.
    pub lag_s: u64,
}

/// A connection, as CLIENT LIST shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its id.
    pub id: u64,
    /// The client's address and port.
    pub address: String,
    /// Our address and port.
    pub local_address: String,
    /// Its name, by SETNAME.
    pub name: String,
    /// Its library, by SETINFO.
    pub lib_name: String,
    /// Its library's version, by SETINFO.
    pub lib_version: String,
    /// 2 or 3.
    pub protocol: i64,
    /// Queued commands; `None` outside of MULTI.
    pub queued: Option<usize>,
    /// Watched keys.
    pub watched: usize,
    /// Full name of the last command.
    pub last_command: &'static str,
    /// Seconds since it connected.
    pub age_s: u64,
    /// Seconds since its last command.
    pub idle_s: u64,
    /// Bytes that it sent and that are not executed.
    pub input_buffer: usize,
    /// Bytes of replies that it did not take yet.
    pub output_buffer: usize,
}
