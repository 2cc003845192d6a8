//! The words between the operator and a replica: JSON bodies of the replica's admin interface.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /status` | | [`ReplicaStatus`] |
//! | `GET /status/stream` | | a [`ReplicaStatus`] a line: at once, on every change (at most five a second), and several times a lease, at least every second |
//! | `GET /configuration` | | the [`Assignment`] that was handed over last |
//! | `PUT /configuration` | [`Assignment`] | 200, or 409 with the reason as text |
//! | `POST /promise` | [`PromiseRequest`] | [`PromiseAnswer`], or 409 with the reason as text if it is not meant for this replica |
//! | `POST /switchover` | [`SwitchoverRequest`] | [`PromiseAnswer`] once the target has everything and the leader has promised, or 409 with the reason as text: then it leads on |
//! | `GET /digest` | | [`Digest`] |
//! | `GET /healthz`, `GET /readyz` | | 200, or 503 with the reason as text |
//! | `GET /metrics` | | Prometheus text |
//!
//! The parent of a replica's process has an interface of its own, on another port:
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /process` | | [`ProcessStatus`] |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::types::{Addressee, Configuration, Epoch, Lsn, Position, ReplicaId, StoreId};

/// What a replica does for its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Takes writes.
    Leader,
    /// Copies the leader's log.
    #[default]
    Follower,
}

/// Where a replica stands on its way to be of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicaState {
    /// Has no leader yet, or does not reach it.
    #[default]
    Pending,
    /// Copies a snapshot of the leader.
    Seeding,
    /// Has the snapshot, or had data from before, and works off the backlog.
    CatchingUp,
    /// Follows the leader as it goes; a leader is in this state once its barrier is committed.
    Streaming,
}

/// One replica as the others must know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Identity.
    pub id: ReplicaId,
    /// Name for people: the Pod's.
    pub name: String,
    /// `host:port` of its replication listener.
    pub peer_address: String,
    /// `host:port` of its client listener, named to clients that must go there.
    pub client_address: String,
    /// It serves no client and leads nobody; it goes on copying and voting.
    #[serde(default)]
    pub fenced: bool,
}

/// What a leader does with client writes while it has fewer voters than the durability that the
/// user asks for needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shortfall {
    /// Refuses them.
    #[default]
    Block,
    /// Takes them, with fewer copies.
    Degrade,
}

/// From whom a new follower gets its snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeedSource {
    /// The leader.
    #[default]
    Leader,
    /// A follower that is in sync, if there is one.
    PreferFollower,
}

/// What the user set for the replicas. Sizes are bytes, durations milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Log kept for followers, in bytes: one that is further behind is seeded anew.
    pub log_retention: u64,
    /// A follower whose lag is above this, in bytes, is `CatchingUp` again.
    pub max_lag: u64,
    /// Bytes a second that a replica sends to all seeds together; 0 is without bound.
    pub seed_bandwidth: u64,
    /// From whom seeds are fetched.
    pub seed_source: SeedSource,
    /// Memory budget of the data, in bytes; 0 lets the replica choose three quarters of what its
    /// container, or the machine, has.
    pub max_memory: u64,
    /// Milliseconds for which a voter gives a leader its word, and after which a leader that is cut
    /// off answers nobody.
    pub lease_ms: u64,
    /// Followers that must have a write on disk before it is acknowledged, as the user wants it;
    /// what is in force is in the register.
    pub sync_replicas: u32,
    /// What to do with writes while there are fewer voters than that, and the leader.
    pub on_shortfall: Shortfall,
    /// A follower hands the writes of its clients on to the leader; if not, it refuses them.
    pub forward_writes: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log_retention: 4 << 30,
            max_lag: 16 << 20,
            seed_bandwidth: 0,
            seed_source: SeedSource::Leader,
            max_memory: 0,
            lease_ms: 1000,
            sync_replicas: 0,
            on_shortfall: Shortfall::Block,
            forward_writes: true,
        }
    }
}

/// The register as the operator hands it to a replica, with what is needed to act on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The register.
    pub configuration: Configuration,
    /// Every member of the store, learners included.
    pub members: Vec<Member>,
    /// What the user set.
    pub settings: Settings,
    /// Tells this assignment from others; [`ReplicaStatus::stamp`] repeats it.
    #[serde(default)]
    pub stamp: u64,
}

/// The members' names, to be kept on disk beside a configuration that is adopted: also, out of the earlier ones,
/// that of whom the configuration names and who is no member any more, as its disk is gone.
#[must_use]
pub fn names<'a>(
    configuration: &Configuration,
    members: impl Iterator<Item = &'a Member>,
    earlier: &BTreeMap<ReplicaId, String>,
) -> BTreeMap<ReplicaId, String> {
    let named = configuration.all_voters().chain(configuration.leader);
    let kept = named.filter_map(|id| Some((id, earlier.get(&id)?.clone())));
    let now = members.map(|member| (member.id, member.name.clone()));
    kept.chain(now).collect()
}

/// Asks a voter to promise an epoch: to take, acknowledge and grant nothing below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseRequest {
    /// The epoch to promise.
    pub epoch: Epoch,
    /// Whom it is meant for: an address may be another Pod's by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ReplicaId>,
    /// The store in whose name it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreId>,
}

impl PromiseRequest {
    /// For whom it is meant.
    pub fn addressee(&self) -> Addressee {
        Addressee {
            id: self.to,
            store: self.store,
        }
    }
}

/// Tells a replica to which claim its disk belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// Whom it is meant for.
    pub id: ReplicaId,
    /// UID of the claim.
    pub claim: String,
    /// Its disk is a copy of another one, which is still there: it is to take an id of its own.
    #[serde(default)]
    pub copy: bool,
}

/// The answer to a [`PromiseRequest`], given once the promise is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromiseAnswer {
    /// Who answers.
    pub id: ReplicaId,
    /// Whether the requested epoch is promised now; `false` if a higher one was before.
    pub granted: bool,
    /// The highest epoch promised.
    pub promised: Epoch,
    /// The highest epoch that was promised before it was asked.
    #[serde(default)]
    pub before: Option<Epoch>,
    /// The last durable record.
    pub last: Position,
    /// Highest epoch of a leader by whose word the log was cut, or thrown away for a seed.
    #[serde(default)]
    pub cut: Epoch,
    /// A leader: what it knows its followers to have had on disk.
    #[serde(default)]
    pub acknowledged: Vec<Acknowledged>,
    /// Its log was damaged, and it may have acknowledged more than it has.
    #[serde(default)]
    pub forgotten: bool,
    /// Leases to leaders of lower epochs that may still run.
    #[serde(default)]
    pub leases: Vec<LeaseLeft>,
}

/// What a leader knows a follower to have had on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// Who.
    pub id: ReplicaId,
    /// In which epoch it acknowledged that.
    pub epoch: Epoch,
    /// The last record.
    pub last: Position,
}

/// A lease that a voter has given and that may still run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseLeft {
    /// The epoch of the leader that holds it; `None` if the voter does not know, as it has
    /// restarted since.
    pub holder: Option<Epoch>,
    /// Milliseconds that it still runs, rounded up.
    pub left_ms: u64,
}

/// Asks a leader to make room for a follower: to take no more writes, wait until the follower has
/// its whole log on disk, and promise the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchoverRequest {
    /// The epoch to promise.
    pub epoch: Epoch,
    /// Who is to lead.
    pub target: ReplicaId,
    /// Milliseconds after which the leader gives up and leads on.
    pub deadline_ms: u64,
    /// The leader that it is meant for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ReplicaId>,
    /// The store in whose name it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreId>,
}

/// What the parent of a replica's process says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// [`ReplicaStatus::incarnation`] of the process that runs; `None` if none does.
    pub running: Option<u64>,
    /// Incarnations that have ended, and were reaped: the last ones.
    pub ended: Vec<u64>,
}

/// Records that a replica had to give up when it rejoined, though they may have been acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Divergent {
    /// Epoch of the last of them.
    pub epoch: Epoch,
    /// The LSN after which the logs part.
    pub after: Lsn,
    /// Bytes of records.
    pub bytes: u64,
    /// The file in the data directory that holds them; empty if there was no room for them.
    pub file: String,
}

/// How far the copying of a snapshot has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeedProgress {
    /// Name of the replica that the snapshot comes from.
    pub from: String,
    /// Bytes copied and checked.
    pub bytes: u64,
    /// Bytes of the whole snapshot.
    pub total_bytes: u64,
    /// Bytes a second over the last seconds.
    pub rate: u64,
    /// Seconds since 1970 (UTC) at which this seed began.
    pub started_at: u64,
}

/// A follower as its leader sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowerStatus {
    /// Identity.
    pub id: ReplicaId,
    /// Name for people.
    pub name: String,
    /// Whether its connection is up.
    pub connected: bool,
    /// Whether it has acknowledged something within the last [`Settings::lease_ms`].
    #[serde(default)]
    pub heard: bool,
    /// Up to here its log is durable.
    pub durable_lsn: Lsn,
    /// Up to here its state has been brought.
    pub applied_lsn: Lsn,
    /// Leader's end less the follower's applied LSN.
    pub lag_bytes: u64,
    /// Age in seconds of the oldest record that the follower has not applied, 0 if there is none.
    pub lag_seconds: f64,
}

/// Everything that a replica says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Identity: of the data directory.
    pub id: ReplicaId,
    /// Random at every start of the process.
    pub incarnation: u64,
    /// Name for people.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// What it does for clients.
    pub role: Role,
    /// Where it stands.
    pub state: ReplicaState,
    /// Whether it should get clients.
    pub ready: bool,
    /// Whether it holds no data and never did: such a replica must never lead a store that had any.
    pub empty: bool,
    /// Highest epoch promised.
    pub promised: Epoch,
    /// Highest epoch that this data directory began as leader.
    pub begun: Epoch,
    /// Version of the configuration by which it acts, 0 if it was handed over none since the start.
    pub configuration_version: u64,
    /// The configuration that its disk has adopted last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Configuration>,
    /// Epoch of the leader of whose log its own is a part now, itself included; 0 if that is not known.
    #[serde(default)]
    pub matched: Epoch,
    /// Names of the members as of then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<ReplicaId, String>,
    /// Highest epoch of a leader by whose word its log was cut, or thrown away for a seed.
    #[serde(default)]
    pub cut: Epoch,
    /// Highest version under which this leader has committed a barrier, 0 if none.
    pub established_version: u64,
    /// Leader: it may answer clients, as its barrier is committed and it holds its leases.
    #[serde(default)]
    pub answers: bool,
    /// Follower: it has heard of its leader within the last [`Settings::lease_ms`].
    #[serde(default)]
    pub leader_heard: bool,
    /// Its status stream says something at least this often, in milliseconds.
    #[serde(default = "one_second_ms")]
    pub beat_ms: u64,
    /// It has been told to stop, and waits for somebody to take the lead from it.
    #[serde(default)]
    pub leaving: bool,
    /// It serves no client, as the user wants it.
    #[serde(default)]
    pub fenced: bool,
    /// Its state on disk is not what was written: once it follows, it fetches it anew.
    #[serde(default)]
    pub damaged: bool,
    /// Its log was damaged, and it may have acknowledged more than it has: its promise does not count before it
    /// has all that a leader has.
    #[serde(default)]
    pub forgotten: bool,
    /// [`PROTOCOL_VERSION`](super::message::PROTOCOL_VERSION) that it speaks with others; 0: one of an earlier
    /// release, that does not say so. Replicas of two versions do not follow each other.
    #[serde(default)]
    pub protocol: u16,
    /// UID of the claim that its disk belongs to, if it was told: a copy of the disk says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// [`Assignment::stamp`] of what it was told last, 0 if nothing since the start. An older one
    /// that comes late takes the place of a newer one, and only this shows it.
    #[serde(default)]
    pub stamp: Option<u64>,
    /// The newest records that it had to give up, if there are any.
    #[serde(default)]
    pub divergent: Option<Divergent>,
    /// The leader that it follows, or itself.
    pub leader: Option<ReplicaId>,
    /// Epoch of that leader.
    pub epoch: Epoch,
    /// Oldest position from which the log is kept.
    pub oldest_lsn: Lsn,
    /// The last durable record.
    pub last: Position,
    /// Up to here records are committed, as far as this replica knows.
    pub commit_lsn: Lsn,
    /// Leader: bytes of committed records that no reply may rest on yet, as fewer followers than
    /// [`Settings::sync_replicas`] hold them.
    #[serde(default)]
    pub withheld_bytes: u64,
    /// Up to here the state has been brought.
    pub applied_lsn: Lsn,
    /// The followers, if this is a leader.
    pub followers: Vec<FollowerStatus>,
    /// The seed under way, if any.
    pub seed: Option<SeedProgress>,
    /// Used share of the data directory's file system, in percent.
    pub disk_used_percent: u8,
    /// How far its clock is ahead of its leader's, in milliseconds; negative where it is behind. A leader's is
    /// compared with the time that its log tells.
    #[serde(default)]
    pub clock_skew_ms: i64,
    /// For people: what is wrong, empty if nothing is.
    pub message: String,
    /// Port at which clients are answered as by the leader itself, 0 if there is none.
    #[serde(default)]
    pub leader_port: u16,
}

fn one_second_ms() -> u64 {
    1000
}

/// A fingerprint of the whole state at one LSN: equal states have equal digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// The LSN at which the state was read.
    pub lsn: Lsn,
    /// Keys in it.
    pub keys: u64,
    /// 32 hexadecimal digits over every key, value and expiry, independent of their order.
    pub digest: String,
}
