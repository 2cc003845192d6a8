//! Labels, and the names of what belongs to a store.

use std::collections::BTreeMap;

/// Whose part a Pod plays: the value is [`LEADER`] or [`FOLLOWER`]; absent while it is neither.
pub const ROLE: &str = "replicatedstore.io/role";
/// Value of [`ROLE`].
pub const LEADER: &str = "leader";
/// Value of [`ROLE`].
pub const FOLLOWER: &str = "follower";

/// Kubernetes' recommended label for the kind of application.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Kubernetes' recommended label for one installation of it: the store's name.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// Kubernetes' recommended label for who manages it.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Value of [`APP_NAME`] on everything of a store. The operator's own is another one, so that no
/// Service of a store ever selects the operator.
pub const APP: &str = "replicated-store";
/// Value of [`APP_MANAGED_BY`].
pub const MANAGER: &str = "replicated-store-operator";

/// What selects the Pods of a store. Part of the StatefulSet's immutable selector: never change it.
pub fn selector(store: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (APP_NAME.to_owned(), APP.to_owned()),
        (APP_INSTANCE.to_owned(), store.to_owned()),
    ])
}

/// The labels of every object of a store.
pub fn common(store: &str) -> BTreeMap<String, String> {
    let mut labels = selector(store);
    labels.insert(APP_MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

/// [`selector`] as text, as the scale subresource wants it.
pub fn selector_text(store: &str) -> String {
    let pairs: Vec<String> = selector(store)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// Selects all objects that the operator manages, for watches.
pub fn managed() -> String {
    format!("{APP_MANAGED_BY}={MANAGER}")
}
