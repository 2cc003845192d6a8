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
        let before = pods(&store).await;
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
        assert_eq!(pods(&store).await, before);

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
        assert_eq!(pods(&store).await, before);
        store.same_data().await;
    });
}

async fn pods(store: &Store<'_>) -> Vec<Option<String>> {
    store.pods().await.iter().map(ResourceExt::uid).collect()
}
