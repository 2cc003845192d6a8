//! What is: the status of a `ReplicatedStore`.
//!
//! `configuration` is the register of the replication protocol. It has its own writer, which
//! changes it by compare-and-swap only; everything else is a report and may be lost.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::Condition;
use super::schema;

/// The state of a store as the operator last saw it. Lag and positions are as of the last write:
/// the status is written when something happened or a lag crossed a bound, not all the time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicatedStoreStatus {
    /// Generation of the specification that has been acted on.
    #[schemars(schema_with = "schema::count")]
    pub observed_generation: i64,

    /// One word for the whole.
    pub phase: Phase,

    /// Replicas that exist.
    pub replicas: i32,

    /// Replicas that serve clients.
    pub ready_replicas: i32,

    /// Replicas that serve clients, of those that are wanted: `2/3`.
    pub ready: String,

    /// Selects the Pods, for autoscalers.
    pub selector: String,

    /// Container image that the replicas are given.
    pub image: String,

    /// Name of the Pod that leads; empty if none does.
    pub leader: String,

    /// Number of the leader's reign: rises at each change of leader.
    #[schemars(schema_with = "schema::count")]
    pub epoch: i64,

    /// The register: who leads and who counts. Never edit it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub configuration: Option<Register>,

    /// Bytes of log that the worst follower is behind, rounded down to 0, 4Ki, 16Ki, 64Ki and so
    /// on. Exact values are in the metrics.
    #[schemars(schema_with = "schema::count")]
    pub max_lag_bytes: i64,

    /// Seconds that the worst follower is behind (the age of the oldest record that it has not
    /// applied), rounded down to 0, 1, 5, 15, 60 or 300.
    #[schemars(schema_with = "schema::count")]
    pub max_lag_seconds: i64,

    /// What an acknowledged write survives right now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,

    /// The last time that another replica took the lead from one that was gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<LastFailover>,

    /// The replicas.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub members: Vec<Member>,

    /// Ids of replicas whose data directories are known to be gone while the register still
    /// names them.
    pub lost_replicas: Vec<String>,

    /// The names of the Pods that they had, by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lost_pods: BTreeMap<String, String>,

    /// What is true of the store, with since when and why.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One word for the whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It has not been ready yet.
    #[default]
    Creating,
    /// All is as wanted.
    Healthy,
    /// Replicas are missing or broken.
    Degraded,
    /// A new leader is being promoted.
    FailingOver,
    /// The leader hands the lead over, as it was asked to.
    SwitchingOver,
    /// Replicas are being replaced, added or removed.
    Updating,
    /// A replica copies the data of the leader.
    Seeding,
    /// The operator leaves it alone, as the specification says.
    Paused,
    /// It cannot go on without help; the conditions say which.
    Failed,
}

/// The configuration register of the replication protocol. The protocol core has a type of its own,
/// as it knows nothing of this module; a test holds the two to the same JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    /// Rises at every change.
    #[schemars(schema_with = "schema::count")]
    pub version: u64,
    /// The epoch of the leader.
    #[schemars(schema_with = "schema::count")]
    pub epoch: u64,
    /// Id of the leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Ids of the voters.
    pub voters: Vec<String>,
    /// Followers that must have a record on disk before it is acknowledged.
    #[schemars(schema_with = "schema::count")]
    pub sync: u32,
    /// Sets of voters that this one replaced and that still count.
    #[serde(default)]
    pub previous: Vec<LeadershipSet>,
    /// Milliseconds that the leader waits before it begins.
    #[schemars(schema_with = "schema::count")]
    #[serde(default)]
    pub wait_ms: u64,
    /// Id of the store: drawn when it was born empty, and kept by all of its volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// A set of voters with the durability rule that was in force for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeadershipSet {
    /// Ids of the voters.
    pub voters: Vec<String>,
    /// Followers that must have a record on disk before it is acknowledged.
    #[schemars(schema_with = "schema::count")]
    pub sync: u32,
}

/// What a replica is known to have had on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldLog {
    /// Epoch of the leader that it followed, or was, then.
    #[schemars(schema_with = "schema::count")]
    pub epoch: i64,
    /// The end of its log.
    #[schemars(schema_with = "schema::count")]
    pub lsn: i64,
    /// Epoch of the last record in it, as far as that is known.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub newest: i64,
}

/// One replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of the Pod.
    pub name: String,
    /// Id of the data directory; empty until it is known.
    #[serde(default)]
    pub id: String,
    /// What it does for clients.
    #[serde(default)]
    pub role: MemberRole,
    /// Where it stands.
    #[serde(default)]
    pub state: MemberState,
    /// Whether it serves clients.
    #[serde(default)]
    pub ready: bool,
    /// Whether it counts for promotions.
    #[serde(default)]
    pub voter: bool,
    /// Epoch of the leader that it follows, or is.
    #[schemars(schema_with = "schema::count")]
    #[serde(default)]
    pub epoch: i64,
    /// Position in the log, in bytes, up to which its disk has the records.
    #[schemars(schema_with = "schema::count")]
    #[serde(default)]
    pub durable_lsn: i64,
    /// Position in the log, in bytes, up to which its state shows the records.
    #[schemars(schema_with = "schema::count")]
    #[serde(default)]
    pub applied_lsn: i64,
    /// Bytes of log that it is behind, rounded as in `maxLagBytes`.
    #[schemars(schema_with = "schema::count")]
    #[serde(default)]
    pub lag_bytes: i64,
    /// Seconds that it is behind, rounded as in `maxLagSeconds`.
    #[schemars(schema_with = "schema::count")]
    #[serde(default)]
    pub lag_seconds: i64,
    /// The copying of the leader's data, while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    pub seed: Option<SeedStatus>,
    /// The newest records that it had to give up, if there are any: an earlier leader had
    /// acknowledged them, and the one that took the lead from it did not have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    pub divergent: Option<DivergentTail>,
    /// The most that it is known to have had on disk. A volume that comes back with less, and that no
    /// later leader had cut, was put back to what it was before: it does not count until it has caught up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    pub held: Option<HeldLog>,
    /// Name of the node.
    #[serde(default)]
    pub node: String,
    /// Version of the program.
    #[serde(default)]
    pub version: String,
    /// Used share of the volume in percent, rounded down to a multiple of 5.
    #[schemars(schema_with = "schema::count")]
    #[serde(default)]
    pub disk_used_percent: i64,
    /// When the operator last heard of it, as of the last write of the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    #[serde(default)]
    pub last_seen_time: Option<Timestamp>,
    /// What is wrong with it; empty if nothing is.
    #[serde(default)]
    pub message: String,
}

/// What a replica does for its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberRole {
    /// Takes writes.
    Leader,
    /// Copies the leader's log.
    #[default]
    Follower,
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberState {
    /// It has no leader yet, or is not there yet.
    #[default]
    Pending,
    /// It copies the leader's data.
    Seeding,
    /// It works off the log that it has missed.
    CatchingUp,
    /// It follows as the leader goes; or it is the leader, and leads.
    Streaming,
    /// The operator does not reach it.
    Unreachable,
    /// It serves no client, as the specification says.
    Fenced,
    /// It ends again and again, and cannot go on by itself; its message says why.
    Failed,
}

/// What an acknowledged write survives right now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Durability {
    /// The loss of how many replicas, their disks included, an acknowledged write survives.
    pub acknowledged_survives: Survives,
    /// Bytes of acknowledged writes that would be lost if the leader were lost now, rounded as in
    /// `maxLagBytes`; absent if nobody could take the lead from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub failover_would_lose_bytes: Option<i64>,
}

/// The loss of how many replicas an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Survives {
    /// Of none for certain: only the leader must have it.
    #[default]
    LeaderOnly,
    /// Of any one.
    OneReplica,
    /// Of any two.
    TwoReplicas,
    /// Of any three.
    ThreeReplicas,
    /// Of any four.
    FourReplicas,
}

/// A change of leader that was not planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailover {
    /// When the register was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub time: Option<Timestamp>,
    /// One CamelCase word: why.
    pub reason: String,
    /// The Pod that led before.
    pub from: String,
    /// Id of its data directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from_id: String,
    /// The Pod that leads since.
    pub to: String,
    /// The epoch that began.
    #[schemars(schema_with = "schema::count")]
    pub epoch: i64,
    /// Milliseconds from the moment at which the old leader was last heard to lead until the new one
    /// answered; absent if either was not heard, as `message` says then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub outage_milliseconds: Option<i64>,
    /// Bytes of log that the old leader had and the new one has not: 0 unless replication is
    /// asynchronous. Absent while nobody knows what the old leader had last; that is known when it
    /// comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub lost_bytes: Option<i64>,
    /// What the old leader was heard to have had of that, while `lostBytes` is not known: it may have had,
    /// and acknowledged, more. The same as `lostBytes` once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub lost_bytes_at_least: Option<i64>,
    /// What is not known of it, and why; empty if everything is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Who was asked, and why it was chosen or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub candidates: Vec<Candidate>,
}

/// A replica that could have led.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Name of the Pod.
    pub name: String,
    /// Epoch of its last record.
    #[schemars(schema_with = "schema::count")]
    #[serde(default)]
    pub epoch: i64,
    /// Position of its last record in the log, in bytes.
    #[schemars(schema_with = "schema::count")]
    #[serde(default)]
    pub lsn: i64,
    /// What became of it.
    pub verdict: Verdict,
}

/// Why a replica was chosen, or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// It leads.
    Elected,
    /// Its log ends before that of the one that leads.
    Behind,
    /// Its log is as good as that of the one that leads.
    AsGood,
    /// It does not hold any data.
    Empty,
    /// It is fenced, or on its way out, or cut off from the others.
    Unfit,
    /// Taking it into account would have meant to wait for a lease, and was not needed.
    NotNeeded,
    /// Its volume was put back to what it was before, and holds less than it once had.
    PutBack,
    /// It did not answer in time.
    #[default]
    Silent,
}

/// Records that a replica had to give up when it rejoined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DivergentTail {
    /// Bytes of records.
    #[schemars(schema_with = "schema::count")]
    pub bytes: i64,
    /// The file in its data directory that holds them.
    pub file: String,
}

/// The copying of the leader's data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SeedStatus {
    /// The Pod that the data comes from.
    pub from: String,
    /// How much of it is there, in percent.
    #[schemars(schema_with = "schema::count")]
    pub percent: i64,
    /// Bytes that are there.
    #[schemars(schema_with = "schema::count")]
    pub bytes: i64,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub started_at: Option<Timestamp>,
}
