//! The identity of replicas: one without rights.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{account_name, metadata};
use crate::operator::validate::ValidatedStore;

/// Replicas know nothing of Kubernetes, so their account has no token.
pub fn service_account(store: &ValidatedStore) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(store, account_name(&store.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
