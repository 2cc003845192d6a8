//! From the specification to what the other steps can rely on. No client, no clock.
//!
//! The API server has checked most of it already, by the rules in the definition. This is for
//! objects that are older than a rule, and turns texts into numbers once.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use crate::api::duration::{self, InvalidDuration};
use crate::api::quantity::{self, InvalidQuantity};
use crate::api::{
    self, FailoverMode, OnShortfall, PodTemplate, ReplicatedStore, ReplicationMode, Retention,
};
use crate::replication::admin::{SeedSource, Settings, Shortfall};

/// The largest number of replicas.
pub const MAX_REPLICAS: u32 = 9;
/// Log kept for followers where the user does not say, and the disk is large enough.
const LOG_RETENTION: u64 = 4 << 30;
/// The share of memory for which the replica needs no number from us.
const DEFAULT_MEMORY: &str = "75%";

/// Why a specification cannot be acted on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A quantity is none.
    #[error("spec.{field}: {source}")]
    Quantity {
        /// Path below `spec`.
        field: &'static str,
        /// What is wrong with it.
        source: InvalidQuantity,
    },
    /// A duration is none.
    #[error("spec.{field}: {source}")]
    Duration {
        /// Path below `spec`.
        field: &'static str,
        /// What is wrong with it.
        source: InvalidDuration,
    },
    /// The number of replicas is out of range.
    #[error("spec.replicas is {0}; it must be between 1 and {MAX_REPLICAS}")]
    Replicas(i32),
    /// A percentage that is none, or one of nothing.
    #[error(
        "spec.config.maxMemory is {0:?}; a percentage must be from 1% to 95% and needs pod.resources.limits.memory"
    )]
    Memory(String),
    /// The object does not come from an API server.
    #[error("the object has no {0}")]
    Metadata(&'static str),
}

/// A store as it is wanted, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedStore {
    /// Name of the object.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its identity.
    pub uid: String,
    /// Generation of the specification.
    pub generation: i64,
    /// Leader and followers together.
    pub replicas: u32,
    /// The image that the user asks for; `None` for the operator's choice.
    pub image: Option<String>,
    /// Whether the operator must leave it alone.
    pub paused: bool,
    /// Size of each volume, as the user wrote it.
    pub size: Quantity,
    /// Storage class; `None` for the default one.
    pub storage_class: Option<String>,
    /// Who decides that another replica takes the lead.
    pub failover: FailoverMode,
    /// How long a leader that nobody hears must be silent before another one is promoted.
    pub failover_delay: Duration,
    /// Ordinal of the Pod that should lead.
    pub target: Option<u32>,
    /// Ordinals of Pods that serve no client and lead nobody.
    pub fenced: BTreeSet<u32>,
    /// Ordinals of Pods whose data the user gives up.
    pub accept_loss: BTreeSet<u32>,
    /// What becomes of volumes.
    pub retention: Retention,
    /// What replicas are told.
    pub settings: Settings,
    /// How Pods are made.
    pub pod: PodTemplate,
}

impl ValidatedStore {
    /// For how long a voter gives a leader its word.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.settings.lease_ms)
    }
}

/// Checks a store.
pub fn validate(store: &ReplicatedStore) -> Result<ValidatedStore, Invalid> {
    let spec = &store.spec;
    let replicas = u32::try_from(spec.replicas)
        .ok()
        .filter(|replicas| (1..=MAX_REPLICAS).contains(replicas))
        .ok_or(Invalid::Replicas(spec.replicas))?;
    Ok(ValidatedStore {
        name: store
            .metadata
            .name
            .clone()
            .ok_or(Invalid::Metadata("name"))?,
        namespace: store.namespace().unwrap_or_default(),
        uid: store.uid().unwrap_or_default(),
        generation: store.metadata.generation.unwrap_or_default(),
        replicas,
        image: Some(spec.image.clone()).filter(|image| !image.is_empty()),
        paused: spec.paused,
        size: spec.storage.size.clone(),
        storage_class: Some(spec.storage.storage_class_name.clone()).filter(|it| !it.is_empty()),
        failover: spec.failover.mode,
        failover_delay: time("failover.delay", &spec.failover.delay)?,
        target: ordinal(store, &spec.leader.target),
        fenced: spec
            .fenced
            .iter()
            .filter_map(|pod| ordinal(store, pod))
            .collect(),
        accept_loss: spec
            .bootstrap
            .accept_loss
            .iter()
            .filter_map(|pod| ordinal(store, pod))
            .collect(),
        retention: spec.storage.retention.clone(),
        settings: settings(store)?,
        pod: spec.pod.clone(),
    })
}

/// The number in the name of a Pod of this store.
fn ordinal(store: &ReplicatedStore, pod: &str) -> Option<u32> {
    let rest = pod.strip_prefix(store.metadata.name.as_deref()?)?;
    rest.strip_prefix('-')?.parse().ok()
}

fn settings(store: &ReplicatedStore) -> Result<Settings, Invalid> {
    let spec = &store.spec;
    let size = bytes("storage.size", &spec.storage.size)?;
    let log_retention = match &spec.replication.log_retention {
        Some(retention) => bytes("replication.logRetention", retention)?,
        None => LOG_RETENTION.min(size / 4),
    };
    let seed_bandwidth = match &spec.seeding.max_bandwidth {
        unbounded if unbounded.0.is_empty() => 0,
        bandwidth => bytes("seeding.maxBandwidth", bandwidth)?,
    };
    let replication = &spec.replication;
    let lease = time("failover.leaseDuration", &spec.failover.lease_duration)?;
    Ok(Settings {
        lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).max(1),
        sync_replicas: match replication.mode {
            ReplicationMode::Asynchronous => 0,
            ReplicationMode::Synchronous => replication.sync_replicas.max(0) as u32,
        },
        on_shortfall: match replication.on_shortfall {
            OnShortfall::Block => Shortfall::Block,
            OnShortfall::Degrade => Shortfall::Degrade,
        },
        forward_writes: replication.forward_writes,
        log_retention,
        max_lag: bytes("replication.maxLag", &spec.replication.max_lag)?,
        seed_bandwidth,
        seed_source: match spec.seeding.source {
            api::SeedSource::Leader => SeedSource::Leader,
            api::SeedSource::PreferFollower => SeedSource::PreferFollower,
        },
        max_memory: max_memory(store)?,
    })
}

/// The memory budget: a number, a share of the limit, or 0, which leaves the default share to the
/// replica, as it knows its container best.
fn max_memory(store: &ReplicatedStore) -> Result<u64, Invalid> {
    let text = &store.spec.config.max_memory;
    if text.0 == DEFAULT_MEMORY {
        return Ok(0);
    }
    let Some(percent) = text.0.strip_suffix('%') else {
        return bytes("config.maxMemory", text);
    };
    let limits = store
        .spec
        .pod
        .resources
        .as_ref()
        .and_then(|it| it.limits.as_ref());
    let limit = limits.and_then(|limits| limits.get("memory"));
    match (percent.parse::<u64>(), limit) {
        (Ok(percent @ 1..=95), Some(limit)) => {
            Ok(bytes("pod.resources.limits.memory", limit)? / 100 * percent)
        }
        _ => Err(Invalid::Memory(text.0.clone())),
    }
}

fn bytes(field: &'static str, text: &Quantity) -> Result<u64, Invalid> {
    quantity::bytes(text).map_err(|source| Invalid::Quantity { field, source })
}

fn time(field: &'static str, text: &str) -> Result<Duration, Invalid> {
    duration::parse(text).map_err(|source| Invalid::Duration { field, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::testing;

    #[test]
    fn defaults_become_numbers() {
        let store = validate(&testing::store("orders")).unwrap();
        assert_eq!(store.replicas, 3);
        assert_eq!(store.image, None);
        let expected = Settings {
            log_retention: 256 << 20,
            max_lag: 16 << 20,
            seed_bandwidth: 0,
            max_memory: 0,
            ..Settings::default()
        };
        assert_eq!(store.settings, expected, "a quarter of 1Gi is kept as log");
    }

    #[test]
    fn the_source_of_seeds_is_handed_on() {
        let mut store = testing::store("orders");
        store.spec.seeding.source = api::SeedSource::PreferFollower;
        let settings = validate(&store).unwrap().settings;
        assert_eq!(settings.seed_source, SeedSource::PreferFollower);
    }

    #[test]
    fn durability_counts_only_in_synchronous_mode() {
        let mut store = testing::store("orders");
        store.spec.replication.sync_replicas = 2;
        assert_eq!(validate(&store).unwrap().settings.sync_replicas, 0);
        store.spec.replication.mode = ReplicationMode::Synchronous;
        store.spec.failover.lease_duration = "500ms".into();
        let settings = validate(&store).unwrap().settings;
        assert_eq!((settings.sync_replicas, settings.lease_ms), (2, 500));
    }

    #[test]
    fn pods_are_known_by_their_ordinals() {
        let mut store = testing::store("orders");
        store.spec.leader.target = "orders-1".into();
        store.spec.fenced = vec!["orders-2".into(), "payments-1".into()];
        let store = validate(&store).unwrap();
        assert_eq!((store.target, store.fenced), (Some(1), [2].into()));
    }

    #[test]
    fn a_share_of_memory_is_one_of_the_limit() {
        let mut store = testing::store("orders");
        store.spec.config.max_memory = Quantity("50%".into());
        assert_eq!(validate(&store), Err(Invalid::Memory("50%".into())));
        let limits = [("memory".to_owned(), Quantity("4Gi".into()))];
        store.spec.pod.resources = Some(k8s_openapi::api::core::v1::ResourceRequirements {
            limits: Some(limits.into()),
            ..Default::default()
        });
        let half = validate(&store).unwrap().settings.max_memory;
        assert_eq!(half, (4 << 30) / 100 * 50);
    }

    #[test]
    fn an_object_that_is_older_than_the_rules_is_refused_with_its_field() {
        let mut store = testing::store("orders");
        store.spec.replication.max_lag = Quantity("lots".into());
        let text = validate(&store).unwrap_err().to_string();
        assert!(text.starts_with("spec.replication.maxLag: "), "{text}");
        store = testing::store("orders");
        store.spec.replicas = 0;
        assert_eq!(validate(&store), Err(Invalid::Replicas(0)));
    }
}
