//! Builders for tests of the operator.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::{ReplicatedStore, ReplicatedStoreSpec};
use crate::replication::admin::{FollowerStatus, ReplicaState, ReplicaStatus, Role};
use crate::replication::types::{Epoch, Lsn, Position, ReplicaId};

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

/// A follower at rest.
pub(crate) fn status(id: u128) -> ReplicaStatus {
    ReplicaStatus {
        answers: false,
        leader_heard: false,
        beat_ms: 1000,
        leaving: false,
        fenced: false,
        damaged: false,
        forgotten: false,
        protocol: 4,
        claim: None,
        stamp: None,
        divergent: None,
        id: ReplicaId(id),
        incarnation: 1,
        name: format!("orders-{id}"),
        version: "0.1.0".into(),
        role: Role::Follower,
        state: ReplicaState::Streaming,
        ready: true,
        empty: false,
        promised: Epoch(1),
        begun: Epoch(0),
        configuration_version: 1,
        adopted: None,
        names: std::collections::BTreeMap::new(),
        matched: Epoch(0),
        cut: Epoch(0),
        established_version: 0,
        leader: Some(ReplicaId(1)),
        epoch: Epoch(1),
        oldest_lsn: Lsn(0),
        last: Position {
            epoch: Epoch(1),
            lsn: Lsn(100),
        },
        commit_lsn: Lsn(100),
        withheld_bytes: 0,
        applied_lsn: Lsn(100),
        followers: Vec::new(),
        seed: None,
        disk_used_percent: 10,
        clock_skew_ms: 0,
        message: String::new(),
        leader_port: 6381,
    }
}

/// A follower that has everything, as its leader sees it.
pub(crate) fn follower(id: u128) -> FollowerStatus {
    FollowerStatus {
        heard: true,
        id: ReplicaId(id),
        name: format!("orders-{id}"),
        connected: true,
        durable_lsn: Lsn(100),
        applied_lsn: Lsn(100),
        lag_bytes: 0,
        lag_seconds: 0.0,
    }
}
