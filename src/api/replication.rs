//! What the user wants of replication: durability, failover, who leads.

// `KubeSchema` repeats each type inside a function, where its `pub` reaches nobody.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// How followers follow, and what an acknowledged write survives.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    /// When a write is acknowledged. Asynchronous (the default): as soon as it is on the leader's
    /// disk; a failover may lose the newest writes. Synchronous: as soon as it is also on the
    /// disks of syncReplicas followers; a failover loses nothing. It can be changed at any time.
    #[serde(default)]
    pub mode: ReplicationMode,

    /// Followers that must have a write on disk before it is acknowledged, whichever they are: 1
    /// to 8. Default 1. It counts only while mode is Synchronous.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 8").message(
        "replication.syncReplicas must be between 1 and 8; set replication.mode to Asynchronous to wait for no follower"
    ))]
    pub sync_replicas: i32,

    /// What becomes of writes while fewer than syncReplicas followers are in step. Block (the
    /// default): they are refused with an error that says why, those under way and reads of what
    /// they wrote wait for followers, and other reads go on. Degrade: they are taken with fewer
    /// copies, and the condition DurabilityMet says since when. It counts only while mode is
    /// Synchronous.
    #[serde(default)]
    pub on_shortfall: OnShortfall,

    /// Whether a follower hands the writes of its clients on to the leader, and at the Service
    /// NAME-leader the reads, too. Default true. If false, it refuses them with -READONLY and the
    /// leader's name, and NAME-leader leads to the leader alone, but follows it later.
    #[serde(default = "yes")]
    pub forward_writes: bool,

    /// A follower that is more bytes of log behind than this is not Ready until it has caught up,
    /// so that nobody reads what is old. Default 16Mi.
    #[serde(default = "sixteen_mebibytes")]
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = Rule::new(
        "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('64Ki')) >= 0"
    ).message("replication.maxLag must be a quantity of at least 64Ki, for example 16Mi"))]
    pub max_lag: Quantity,

    /// Bytes of log that are kept for followers: one that is further behind is seeded anew, so a
    /// follower that is away never fills the disk. Default: a quarter of storage.size, at most
    /// 4Gi. At most half of storage.size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = Rule::new(
        "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('16Mi')) >= 0"
    ).message("replication.logRetention must be a quantity of at least 16Mi, for example 4Gi"))]
    pub log_retention: Option<Quantity>,
}

fn one() -> i32 {
    1
}

fn yes() -> bool {
    true
}

fn sixteen_mebibytes() -> Quantity {
    Quantity("16Mi".to_owned())
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            mode: ReplicationMode::default(),
            sync_replicas: one(),
            on_shortfall: OnShortfall::default(),
            forward_writes: yes(),
            max_lag: sixteen_mebibytes(),
            log_retention: None,
        }
    }
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReplicationMode {
    /// As soon as it is on the leader's disk.
    #[default]
    Asynchronous,
    /// As soon as it is also on the disks of so many followers.
    Synchronous,
}

/// What becomes of writes while too few followers are in step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnShortfall {
    /// They are refused.
    #[default]
    Block,
    /// They are taken, with fewer copies.
    Degrade,
}

/// When another replica takes the lead from one that is gone.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// Automatic (the default): as soon as the leader is known to be gone. Manual: only when
    /// leader.target names another replica.
    #[serde(default)]
    pub mode: FailoverMode,

    /// A leader that is cut off stops answering within this time, and followers that have not
    /// heard of it for so long say so. Shorter finds a lost node sooner; longer rides out
    /// a bad network. From 100ms to 60s. Default 1s.
    #[serde(default = "one_second")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        "self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') && duration(self) >= duration('100ms') && duration(self) <= duration('60s')"
    ).message("failover.leaseDuration must be a duration from 100ms to 60s, for example 1s"))]
    pub lease_duration: String,

    /// How long a leader that nobody hears must have been silent for the operator before another
    /// one is promoted. A leader whose process is known to have ended is replaced at once. From 0s
    /// to 1h. Default 0s.
    #[serde(default = "no_time")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        "self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') && duration(self) <= duration('1h')"
    ).message("failover.delay must be a duration from 0s to 1h, for example 10s"))]
    pub delay: String,
}

fn one_second() -> String {
    "1s".to_owned()
}

fn no_time() -> String {
    "0s".to_owned()
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            mode: FailoverMode::default(),
            lease_duration: one_second(),
            delay: no_time(),
        }
    }
}

/// Who decides that another replica leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailoverMode {
    /// The operator.
    #[default]
    Automatic,
    /// The user, by leader.target.
    Manual,
}

/// Who should lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leadership {
    /// Name of the Pod that should lead, such as orders-1: the lead is handed over to it as soon
    /// as it is in step, without losing a write. Empty (the default): no preference.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub target: String,
}
