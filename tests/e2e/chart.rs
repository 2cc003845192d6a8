//! The chart's life: upgrade and uninstall.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::json;

use crate::support::{Gate, Load, Store, World, Writer, installation, run, secs};

/// Goal: taking the operator away takes no store away, and bringing it back picks all of them up.
/// Method: with a store that clients write to, `helm uninstall`: the definition, the store's object
/// and its Pods stay, and no write fails. `helm install` again: the operator acts on the store.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn uninstalling_leaves_all_stores() {
    run("uninstall", Gate::Alone, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        let before = store.fingerprint().await;
        let writer = Writer::start(&store.leader_service().await, "key", Load::LIGHT);

        installation::uninstall().await;
        writer.acknowledges(1000, secs(30)).await;
        let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
        let name = "replicatedstores.replicatedstore.io";
        let definition = definitions.get(name).await.expect("the definition stays");
        assert!(
            definition.metadata.deletion_timestamp.is_none(),
            "the definition is going"
        );
        assert!(
            store.get().await.metadata.deletion_timestamp.is_none(),
            "the store is going"
        );
        assert_eq!(store.fingerprint().await, before);

        installation::install(&[]).await;
        store
            .change(&json!({"replication": {"maxLag": "8Mi"}}))
            .await;
        store.becomes_ready(secs(90)).await;
        let written = writer.stop().await;
        assert!(
            written.errors.is_empty(),
            "writes failed: {:?}",
            written.errors
        );
        assert_eq!(store.fingerprint().await, before);
        store.same_data().await;
    });
}

/// Goal: an upgrade of the operator is no event for a store.
/// Method: with a store that clients write to, `helm upgrade` with another value replaces the
/// operator's Pods; then a setting is changed, so that the new operator has surely acted on the
/// store. No Pod of the store was touched, and no write failed.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn upgrading_changes_no_store() {
    run("upgrade", Gate::Alone, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        let before = store.fingerprint().await;
        let operators = operators(world).await;
        let writer = Writer::start(&store.leader_service().await, "key", Load::LIGHT);

        installation::install(&["--set", "log.level=debug"]).await;
        installation::available(&world.client, secs(120)).await;
        assert_ne!(
            self::operators(world).await,
            operators,
            "the operator was not replaced"
        );
        store
            .change(&json!({"replication": {"maxLag": "8Mi"}}))
            .await;
        store.becomes_ready(secs(90)).await;
        let written = writer.stop().await;

        assert!(
            written.errors.is_empty(),
            "writes failed: {:?}",
            written.errors
        );
        assert_eq!(store.fingerprint().await, before);
        installation::install(&[]).await;
    });
}

async fn operators(world: &World) -> Vec<String> {
    installation::pods(&world.client)
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect()
}
