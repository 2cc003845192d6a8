//! PURE: the Kubernetes objects of a store. No client, and nothing that can fail.
//!
//! Everything is applied server-side, so only what we mean is set and defaults stay the API
//! server's. Nothing here depends on the operator's version or on when it runs: a new operator
//! must not restart a single Pod, which a test holds by the rendered objects in `golden/`.

mod access;
mod config;
mod disruption;
mod services;
mod workload;

#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use crate::api::{ReplicatedStore, labels};

use super::validate::ValidatedStore;

pub use access::service_account;
pub use config::config_map;
pub use disruption::disruption_budget;
pub use services::{everybody, followers, headless, leader};
pub use workload::{Recipe, stateful_set};

/// Port on which replicas answer clients.
pub const CLIENT_PORT: u16 = 6379;
/// Port on which replicas talk to each other.
pub const PEER_PORT: u16 = 6380;
/// Port on which replicas answer clients as the leader does, whoever they are.
pub const LEADER_PORT: u16 = 6381;
/// Its name.
pub const LEADER_PORT_NAME: &str = "leader";
/// Port of probes, metrics and the operator.
pub const ADMIN_PORT: u16 = 8080;

/// Port on which the parent of a replica's process says what has become of it.
pub const PROCESS_PORT: u16 = 8081;

/// Name of the volume, and the start of the names of its claims.
pub const DATA: &str = "data";

/// Name of the Service that gives each Pod a name.
pub fn headless_name(store: &str) -> String {
    format!("{store}-replicas")
}

/// Name of the ConfigMap.
pub fn config_name(store: &str) -> String {
    format!("{store}-settings")
}

/// Name of the ServiceAccount: not the store's own, which may well be an application's.
pub fn account_name(store: &str) -> String {
    format!("{store}-replicas")
}

/// The name under which clients and other replicas reach a Pod.
pub fn host(store: &ValidatedStore, pod: &str) -> String {
    format!(
        "{pod}.{}.{}.svc",
        headless_name(&store.name),
        store.namespace
    )
}

/// Metadata of an object called `name`. The owner goes last, and takes it along.
fn metadata(store: &ValidatedStore, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(store.namespace.clone()),
        labels: Some(labels::common(&store.name)),
        owner_references: Some(vec![OwnerReference {
            api_version: ReplicatedStore::api_version(&()).into_owned(),
            kind: ReplicatedStore::kind(&()).into_owned(),
            name: store.name.clone(),
            uid: store.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}
