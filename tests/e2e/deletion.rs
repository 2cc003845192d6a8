//! A store that is deleted leaves its data, and nothing else.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use replicated_store::api::labels;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

use crate::support::wait::expect;
use crate::support::{Gate, Load, Store, World, Writer, eventually, run, secs, writer};

/// Goal: deleting a store by mistake loses no data.
/// Method: a store with data is deleted; Pods, Services and all else that belong to it go, the volume
/// claims stay; created again under the same name, it holds the same data and takes writes.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_deleted_store_leaves_its_volumes() {
    run("deletion", Gate::Shared, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        writer::fill(&store.leader_service().await, "key", 10_000, 100).await;
        let before = store.same_data().await;
        let volumes = names::<PersistentVolumeClaim>(world).await;
        assert_eq!(volumes.len(), 3);

        store.delete().await;
        eventually(
            secs(90),
            "all that belongs to the store is gone",
            async || {
                let left = [
                    names::<Pod>(world).await,
                    names::<StatefulSet>(world).await,
                    names::<Service>(world).await,
                    names::<ConfigMap>(world).await,
                    names::<PodDisruptionBudget>(world).await,
                ];
                expect(left.iter().all(Vec::is_empty), || format!("{left:?}"))
            },
        )
        .await;
        assert_eq!(names::<PersistentVolumeClaim>(world).await, volumes);

        let store = Store::ready(world, 3, &json!({})).await;
        let after = store.same_data().await;
        assert_eq!((after.keys, after.digest), (before.keys, before.digest));
        let service = store.leader_service().await;
        let writer = Writer::start(&service, "new", Load::LIGHT);
        writer.acknowledges(200, secs(20)).await;
        writer.stop().await.all_at(&service).await;
    });
}

/// The objects of a kind that belong to the store.
async fn names<K>(world: &World) -> Vec<String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(world.client.clone(), &world.namespace);
    let list = ListParams::default().labels(&labels::selector_text("store"));
    api.list(&list)
        .await
        .expect("a list")
        .iter()
        .map(ResourceExt::name_any)
        .collect()
}
