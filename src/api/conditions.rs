//! Conditions: what is true of a store, with since when and why.

use k8s_openapi::jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What a condition is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ConditionType {
    /// There is a leader, and every replica that is wanted serves clients.
    Ready,
    /// The leader that the register names leads.
    LeaderElected,
    /// Every follower streams and is less than `maxLag` behind.
    ReplicasSynced,
    /// As many followers are in step as an acknowledged write is to be on.
    DurabilityMet,
    /// Something is being changed.
    Progressing,
    /// Something is broken that was not meant to be; the message says what.
    Degraded,
    /// The specification can be acted on.
    SpecValid,
}

/// Whether it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It is.
    True,
    /// It is not.
    False,
    /// Nobody knows.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(is_so: bool) -> Self {
        if is_so { Self::True } else { Self::False }
    }
}

/// One condition, in the shape of Kubernetes' `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// One CamelCase word for programs: why.
    pub reason: String,
    /// One sentence for people: why, and what to do.
    pub message: String,
    /// The generation of the specification that this speaks of.
    #[schemars(schema_with = "schema::count")]
    pub observed_generation: i64,
    /// When `status` last changed.
    #[schemars(schema_with = "schema::time")]
    pub last_transition_time: Timestamp,
}
