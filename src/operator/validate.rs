//! From the specification to what the other steps can rely on. No client, no clock.
//!
//! The API server has checked most of it already, by the rules in the definition. This is for
//! objects that are older than a rule, and turns texts into numbers once.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use crate::api::quantity::{self, InvalidQuantity};
use crate::api::{PodTemplate, ReplicatedStore, Retention};
use crate::replication::admin::Settings;

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
    /// What becomes of volumes.
    pub retention: Retention,
    /// What replicas are told.
    pub settings: Settings,
    /// How Pods are made.
    pub pod: PodTemplate,
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
        retention: spec.storage.retention.clone(),
        settings: settings(store)?,
        pod: spec.pod.clone(),
    })
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
    Ok(Settings {
        log_retention,
        max_lag: bytes("replication.maxLag", &spec.replication.max_lag)?,
        seed_bandwidth,
        max_memory: max_memory(store)?,
        ..Settings::default()
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
