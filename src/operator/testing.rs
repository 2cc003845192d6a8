//! Builders for tests of the operator.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::{ReplicatedStore, ReplicatedStoreSpec};

/// A store as an API server returns one that says no more than it must.
pub(crate) fn store(name: &str) -> ReplicatedStore {
    let spec: ReplicatedStoreSpec =
        serde_json::from_value(serde_json::json!({"storage": {"size": "1Gi"}})).unwrap();
    let mut store = ReplicatedStore::new(name, spec);
    store.metadata.namespace = Some("shop".into());
    store.metadata.uid = Some("11f0".into());
    store.metadata.generation = Some(1);
    assert_eq!(store.spec.storage.size, Quantity("1Gi".into()));
    store
}
