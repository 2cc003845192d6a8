//! What the user wants: the specification of a `ReplicatedStore`.

// `KubeSchema` repeats each type inside a function, where its `pub` reaches nobody.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replication::{Failover, Leadership, Replication};
use super::schema;
use super::status::ReplicatedStoreStatus;

// The doc comments of fields are what `kubectl explain` shows.
/// What the store should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "replicatedstore.io",
    version = "v1alpha1",
    kind = "ReplicatedStore",
    plural = "replicatedstores",
    shortname = "rstore",
    category = "databases",
    namespaced,
    status = "ReplicatedStoreStatus",
    derive = "PartialEq",
    doc = "A replicated database that speaks the Redis protocol: one leader takes the writes, followers copy it.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.ready",
        description = "Replicas that serve clients, of those that are wanted"
    ),
    printcolumn(
        name = "Leader",
        type_ = "string",
        json_path = ".status.leader",
        description = "The Pod that takes the writes"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Lag",
        type_ = "integer",
        json_path = ".status.maxLagSeconds",
        description = "Seconds that the worst follower is behind"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Epoch",
        type_ = "integer",
        json_path = ".status.epoch",
        description = "How often the leader has changed",
        priority = 1
    ),
    printcolumn(
        name = "Lag-Bytes",
        type_ = "integer",
        json_path = ".status.maxLagBytes",
        description = "Bytes of log that the worst follower is behind",
        priority = 1
    ),
    printcolumn(
        name = "Durability",
        type_ = "string",
        json_path = ".status.durability.acknowledgedSurvives",
        description = "The loss of how many replicas an acknowledged write survives",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "Why it is ready, or why not",
        priority = 1
    ),
    validation = Rule::new(
        "size(self.metadata.name) <= 48 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    )
    .message(
        "metadata.name becomes part of the names of Services and Pods: use at most 48 lower case letters, digits and '-', with a letter first and no '-' last"
    ),
    validation = Rule::new(
        "self.spec.leader.target == '' || (self.spec.leader.target.startsWith(self.metadata.name) && self.spec.leader.target.substring(size(self.metadata.name)).matches('^-[0-8]$') && int(self.spec.leader.target.substring(size(self.metadata.name) + 1)) < self.spec.replicas)"
    )
    .message(
        "leader.target must be the name of one of the store's Pods, <name>-0 to <name>-<replicas less one>; leave it empty for no preference"
    ).field_path(".spec.leader.target"),
    validation = Rule::new(
        "!has(self.spec.fenced) || self.spec.fenced.all(pod, pod.startsWith(self.metadata.name) && pod.substring(size(self.metadata.name)).matches('^-[0-8]$'))"
    )
    .message(
        "fenced must list names of the store's Pods, <name>-0 to <name>-8"
    ).field_path(".spec.fenced"),
    validation = Rule::new(
        "!has(self.spec.bootstrap) || !has(self.spec.bootstrap.acceptLoss) || self.spec.bootstrap.acceptLoss.all(pod, pod.startsWith(self.metadata.name) && pod.substring(size(self.metadata.name)).matches('^-[0-8]$'))"
    )
    .message(
        "bootstrap.acceptLoss must list names of the store's Pods, <name>-0 to <name>-8"
    ).field_path(".spec.bootstrap")
)]
#[x_kube(validation = Rule::new(
    "!has(self.replication.logRetention) || !isQuantity(string(self.replication.logRetention)) || !isQuantity(string(self.storage.size)) || quantity(string(self.replication.logRetention)).add(quantity(string(self.replication.logRetention))).compareTo(quantity(string(self.storage.size))) <= 0"
).message(
    "replication.logRetention must be at most half of storage.size, or the log could fill the disk: lower it, or leave it out for a quarter of the disk"
).field_path(".replication.logRetention"))]
#[x_kube(validation = Rule::new(
    "!has(self.replication.logRetention) || !isQuantity(string(self.replication.logRetention)) || !isQuantity(string(self.replication.maxLag)) || quantity(string(self.replication.maxLag)).compareTo(quantity(string(self.replication.logRetention))) <= 0"
).message(
    "replication.maxLag must be at most replication.logRetention: a follower that is further behind than the log reaches is seeded anew, so lower maxLag or raise logRetention"
).field_path(".replication.maxLag"))]
#[x_kube(validation = Rule::new(
    "!(type(self.config.maxMemory) == string && self.config.maxMemory.endsWith('%') && self.config.maxMemory != '75%') || (has(self.pod.resources) && has(self.pod.resources.limits) && 'memory' in self.pod.resources.limits)"
).message(
    "config.maxMemory as a percentage other than 75% is a share of pod.resources.limits.memory: set that limit, or give maxMemory as a quantity such as 2Gi"
).field_path(".config.maxMemory"))]
#[x_kube(validation = Rule::new(
    "type(self.config.maxMemory) == string && self.config.maxMemory.endsWith('%') || !isQuantity(string(self.config.maxMemory)) || !has(self.pod.resources) || !has(self.pod.resources.limits) || !('memory' in self.pod.resources.limits) || !isQuantity(string(self.pod.resources.limits['memory'])) || quantity(string(self.config.maxMemory)).isLessThan(quantity(string(self.pod.resources.limits['memory'])))"
).message(
    "config.maxMemory must be below pod.resources.limits.memory, or the container is killed before the store notices: lower maxMemory or raise the limit"
).field_path(".config.maxMemory"))]
#[x_kube(validation = Rule::new(
    "self.replication.mode != 'Synchronous' || self.replication.onShortfall == 'Degrade' || self.replication.syncReplicas < self.replicas"
).message(
    "replication.syncReplicas must be below replicas, as the leader is one of them and no write would ever be taken: lower it, raise replicas, or set replication.onShortfall to Degrade"
).field_path(".replication.syncReplicas"))]
#[x_kube(validation = Rule::new(
    "self.leader.target == '' || !has(self.fenced) || !(self.leader.target in self.fenced)"
).message(
    "leader.target must not be in fenced, as a fenced replica leads nobody: take it out of one of them"
).field_path(".leader.target"))]
#[serde(rename_all = "camelCase")]
pub struct ReplicatedStoreSpec {
    /// Replicas, leader and followers together: 1 to 9. Default 3.
    #[serde(default = "three")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 9").message(
        "replicas must be between 1 and 9, leader and followers together; use 3 for a store that survives the loss of one"
    ))]
    pub replicas: i32,

    /// Container image of the replicas. Empty (the default): the release of the operator that
    /// created the store; an upgrade of the operator does not change it. Set it to upgrade the
    /// replicas, which are then replaced one at a time, the leader last; emptied again, it stays
    /// what it was.
    #[serde(default)]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(
        "self == '' || (self.matches('^[a-z0-9][a-zA-Z0-9._:/@-]*$') && !self.contains('://'))"
    ).message(
        "image must be a container image such as registry.example/replicated-store:0.1.0, without a scheme and without spaces; leave it empty for the operator's own release"
    ))]
    pub image: String,

    /// The operator changes nothing but the status while this is true: no promotion, no scaling,
    /// no update. The replicas go on by themselves. Default false.
    #[serde(default)]
    pub paused: bool,

    /// The volume of each replica.
    pub storage: Storage,

    /// How followers follow, and what an acknowledged write survives.
    #[serde(default)]
    pub replication: Replication,

    /// When another replica takes the lead from one that is gone.
    #[serde(default)]
    pub failover: Failover,

    /// Who should lead.
    #[serde(default)]
    pub leader: Leadership,

    /// Names of Pods, such as orders-1, that serve no client and lead nobody: for a replica that
    /// is suspected to be wrong, without taking away its copy. They go on copying and voting. A
    /// leader that is fenced hands the lead over. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9), inner(length(max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub fenced: Vec<String>,

    /// How the store goes on where it cannot know by itself what it may lose.
    #[serde(default, skip_serializing_if = "Bootstrap::is_default")]
    pub bootstrap: Bootstrap,

    /// How a new follower gets its data.
    #[serde(default)]
    pub seeding: Seeding,

    /// Settings of the database.
    #[serde(default)]
    pub config: StoreConfig,

    /// The Pods that replicas run in. A change replaces them one at a time, the leader last.
    #[serde(default)]
    pub pod: PodTemplate,
}

fn three() -> i32 {
    3
}

/// How the store goes on where it cannot know by itself what it may lose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// Names of Pods, such as orders-1, whose loss is accepted; the status says which ones are missed and,
    /// where that is known, how many bytes it may cost. One that is silent for 30 s and not Ready is no longer
    /// waited for: a leader is chosen without it where there is no other way, and writes that only it has are
    /// lost. One whose volume was put back to an older copy, or whose log was damaged, counts again, with what
    /// it has. Where volumes of two stores came together, these are left out. No other one that is there is
    /// given up. No volume is deleted. Empty the list afterwards: an old entry may decide a later case.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9), inner(length(max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub accept_loss: Vec<String>,
}

impl Bootstrap {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The volume of each replica.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.storageClassName == oldSelf.storageClassName").message(
    "storage.storageClassName cannot be changed, as volumes cannot move between classes: create another store with the class that you want and copy the data"
).field_path(".storageClassName"))]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size of each replica's volume in bytes, for example 20Gi: data and log. At least 256Mi. It
    /// cannot be changed in this release.
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = Rule::new(
        "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('256Mi')) >= 0"
    ).message("storage.size must be a quantity of at least 256Mi, for example 20Gi"))]
    #[x_kube(validation = Rule::new(
        "self == oldSelf || (isQuantity(string(self)) && isQuantity(string(oldSelf)) && quantity(string(self)).compareTo(quantity(string(oldSelf))) == 0)"
    ).message(
        "storage.size cannot be changed in this release, volumes are not resized: set it back, or create another store of the size that you want and copy the data"
    ))]
    pub size: Quantity,

    /// Storage class of the volumes. Empty (the default): the cluster's default class. It cannot
    /// be changed.
    #[serde(default)]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(
        "self == '' || self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')"
    ).message(
        "storage.storageClassName must be the name of a StorageClass (see kubectl get storageclass); leave it empty for the default one"
    ))]
    pub storage_class_name: String,

    /// What becomes of the volumes.
    #[serde(default)]
    pub retention: Retention,
}

/// What becomes of volumes that are no longer in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// When the store is deleted. Retain (the default): the volumes stay, and a store created
    /// again under the same name has the data.
    #[serde(default)]
    pub when_deleted: RetentionPolicy,

    /// When replicas are scaled away. Retain (the default): a replica that is scaled in again
    /// goes on from its old data.
    #[serde(default)]
    pub when_scaled: RetentionPolicy,
}

/// Whether a volume stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetentionPolicy {
    /// The volume stays.
    #[default]
    Retain,
    /// The volume is deleted, and the data with it.
    Delete,
}

/// How a new follower gets its data.
#[derive(KubeSchema, Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seeding {
    /// Bytes a second that a replica sends to all new followers together, for example 100Mi.
    /// Empty (the default): no bound.
    #[serde(default = "empty_quantity")]
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = Rule::new(
        "self == '' || (isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('64Ki')) >= 0)"
    ).message(
        "seeding.maxBandwidth must be a quantity of bytes a second of at least 64Ki, for example 100Mi (not 100MB/s); leave it empty for no bound"
    ))]
    pub max_bandwidth: Quantity,

    /// Who sends the data. Default Leader.
    #[serde(default)]
    pub source: SeedSource,
}

/// Who sends a new follower its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SeedSource {
    /// The leader.
    #[default]
    Leader,
    /// A follower that is in sync, so that the leader is spared; the leader if there is none.
    PreferFollower,
}

fn empty_quantity() -> Quantity {
    Quantity(String::new())
}

/// Settings of the database. A change restarts nothing.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreConfig {
    /// Memory for the data: a share of the container's memory limit such as 75% (the default), or
    /// bytes such as 2Gi.
    #[serde(default = "three_quarters")]
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = Rule::new(
        "type(self) == string && self.endsWith('%') ? self.matches('^([1-9]|[1-8][0-9]|9[0-5])%$') : isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('64Mi')) >= 0"
    ).message(
        "config.maxMemory must be a percentage from 1% to 95%, or a quantity of at least 64Mi such as 2Gi"
    ))]
    pub max_memory: Quantity,
}

fn three_quarters() -> Quantity {
    Quantity("75%".to_owned())
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            max_memory: three_quarters(),
        }
    }
}

/// The Pods that replicas run in.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(
    "!has(self.resources) || !has(self.resources.requests) || !has(self.resources.limits) || !('memory' in self.resources.requests) || !('memory' in self.resources.limits) || !isQuantity(string(self.resources.requests['memory'])) || !isQuantity(string(self.resources.limits['memory'])) || quantity(string(self.resources.requests['memory'])).compareTo(quantity(string(self.resources.limits['memory']))) <= 0"
).message(
    "pod.resources.requests.memory must not be above pod.resources.limits.memory: lower the request or raise the limit"
).field_path(".resources"))]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// CPU and memory of each replica, as in any Pod. The limit of memory bounds config.maxMemory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resources")]
    pub resources: Option<ResourceRequirements>,

    /// Rules for the choice of nodes, as in any Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::affinity")]
    pub affinity: Option<Affinity>,

    /// How replicas are kept apart.
    #[serde(default)]
    pub topology_spread: TopologySpread,

    /// Taints of nodes that replicas may run on, as in any Pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,

    /// Labels of the nodes that replicas may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// PriorityClass of the Pods. Empty (the default): the cluster's default.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub priority_class_name: String,
}

/// How replicas are kept apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// Over nodes. Default Preferred.
    #[serde(default)]
    pub node: Spread,

    /// Over zones. Default Preferred.
    #[serde(default)]
    pub zone: Spread,
}

/// How strictly replicas are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Spread {
    /// Evenly where possible; a replica that finds no such place runs elsewhere.
    #[default]
    Preferred,
    /// Evenly or not at all: a replica that finds no such place waits.
    Required,
    /// Anywhere.
    Disabled,
}
