//! The settings that a replica starts with.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{config_name, metadata};
use crate::operator::validate::ValidatedStore;

/// Name of the file.
pub(super) const SETTINGS: &str = "settings.json";

/// Settings as a file, for a replica that starts while no operator runs. A change reaches running
/// replicas with the register, so no Pod is restarted for it.
pub fn config_map(store: &ValidatedStore) -> ConfigMap {
    let settings = serde_json::to_string_pretty(&store.settings).unwrap_or_default();
    ConfigMap {
        metadata: metadata(store, config_name(&store.name)),
        data: Some(BTreeMap::from([(SETTINGS.to_owned(), settings)])),
        ..ConfigMap::default()
    }
}
