//! A store under test.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use replicated_store::api::{
    ConditionStatus, ConditionType, Member, MemberRole, MemberState, ReplicatedStore,
    ReplicatedStoreStatus, labels,
};
use replicated_store::replication::admin::{Digest, ReplicaStatus};
use serde_json::{Value, json};

use super::shell::sh;
use super::wait::{eventually, expect, secs};
use super::{World, http};

/// A `ReplicatedStore` and what belongs to it.
pub(crate) struct Store<'w> {
    world: &'w World,
    /// Its name.
    pub(crate) name: String,
}

/// A specification that fits many times into a test cluster, with `changes` merged into it.
fn manifest(name: &str, replicas: u32, changes: &Value) -> Value {
    let mut spec = json!({
        "replicas": replicas,
        "storage": {"size": "1Gi"},
        "pod": {"resources": {
            "requests": {"cpu": "20m", "memory": "64Mi"},
            "limits": {"memory": "512Mi"},
        }},
    });
    merge(&mut spec, changes);
    json!({
        "apiVersion": "replicatedstore.io/v1alpha1",
        "kind": "ReplicatedStore",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// JSON merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

impl<'w> Store<'w> {
    /// Creates it and waits until it is ready.
    pub(crate) async fn ready(world: &'w World, replicas: u32, changes: &Value) -> Self {
        let store = Self::create(world, "store", replicas, changes).await;
        store.becomes_ready(secs(120)).await;
        store
    }

    /// Creates it.
    pub(crate) async fn create(
        world: &'w World,
        name: &str,
        replicas: u32,
        changes: &Value,
    ) -> Self {
        let store = Self {
            world,
            name: name.to_owned(),
        };
        let object = serde_json::from_value(manifest(name, replicas, changes)).expect("a store");
        store
            .api()
            .create(&PostParams::default(), &object)
            .await
            .expect("creating a store");
        store
    }

    /// The API of stores in the test's namespace.
    pub(crate) fn api(&self) -> Api<ReplicatedStore> {
        Api::namespaced(self.world.client.clone(), &self.world.namespace)
    }

    /// The API of Pods in the test's namespace.
    pub(crate) fn pods_api(&self) -> Api<Pod> {
        Api::namespaced(self.world.client.clone(), &self.world.namespace)
    }

    /// The API of endpoint slices in the test's namespace.
    pub(crate) fn slices_api(&self) -> Api<EndpointSlice> {
        Api::namespaced(self.world.client.clone(), &self.world.namespace)
    }

    /// The API of volume claims in the test's namespace.
    pub(crate) fn claims_api(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.world.client.clone(), &self.world.namespace)
    }

    /// The object.
    pub(crate) async fn get(&self) -> ReplicatedStore {
        self.api()
            .get(&self.name)
            .await
            .expect("the store's object")
    }

    /// Its status; empty if there is none yet.
    pub(crate) async fn status(&self) -> ReplicatedStoreStatus {
        self.get().await.status.unwrap_or_default()
    }

    /// Waits until the status says that all that is wanted is there and in order.
    pub(crate) async fn becomes_ready(&self, within: Duration) -> ReplicatedStoreStatus {
        eventually(
            within,
            &format!("store {} is ready", self.name),
            async || {
                let store = self
                    .api()
                    .get(&self.name)
                    .await
                    .map_err(|error| error.to_string())?;
                let status = store.status.clone().unwrap_or_default();
                is_ready(&store, &status)?;
                Ok(status)
            },
        )
        .await
    }

    /// Waits until the status has a property; `what` says which.
    pub(crate) async fn shows<T>(
        &self,
        within: Duration,
        what: &str,
        property: impl Fn(&ReplicatedStoreStatus) -> Result<T, String>,
    ) -> T {
        eventually(within, what, async || {
            let store = self
                .api()
                .get(&self.name)
                .await
                .map_err(|error| error.to_string())?;
            property(&store.status.unwrap_or_default())
        })
        .await
    }

    /// Changes the specification by a JSON merge patch.
    pub(crate) async fn change(&self, spec: &Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api()
            .patch(&self.name, &PatchParams::default(), &patch)
            .await
            .expect("changing it");
    }

    /// Scales it as a user does.
    pub(crate) async fn scale(&self, replicas: u32) {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&["scale", "replicatedstore", &self.name, &replicas])
            .await;
    }

    /// Runs `kubectl` in the test's namespace.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> String {
        let in_namespace = ["-n", self.world.namespace.as_str()];
        sh("kubectl", &[in_namespace.as_slice(), args].concat()).await
    }

    /// Deletes the object.
    pub(crate) async fn delete(&self) {
        let deleted = self
            .api()
            .delete(&self.name, &DeleteParams::default())
            .await;
        let _ = deleted.expect("deleting the store");
    }

    /// The address of one of its Services: `""`, `"leader"`, `"followers"`.
    pub(crate) async fn service(&self, which: &str) -> String {
        let services: Api<Service> =
            Api::namespaced(self.world.client.clone(), &self.world.namespace);
        let name = match which {
            "" => self.name.clone(),
            which => format!("{}-{which}", self.name),
        };
        let service = services.get(&name).await.expect("a Service");
        service
            .spec
            .and_then(|spec| spec.cluster_ip)
            .expect("an address of the Service")
    }

    /// The Service that takes writes.
    pub(crate) async fn leader_service(&self) -> String {
        self.service("leader").await
    }

    /// The Pod that leads, as the status says.
    pub(crate) async fn leader(&self) -> String {
        let leader = self.status().await.leader;
        assert!(!leader.is_empty(), "nobody leads");
        leader
    }

    /// The address of the Pod that leads. A connection through a Service may be a follower's, and ends with it;
    /// one to here has nothing to do with what befalls followers.
    pub(crate) async fn leader_host(&self) -> String {
        self.host(&self.leader().await).await
    }

    /// The Pods that follow, as the status says.
    pub(crate) async fn followers(&self) -> Vec<String> {
        let members = self.status().await.members;
        let followers = members
            .into_iter()
            .filter(|member| member.role == MemberRole::Follower);
        followers.map(|member| member.name).collect()
    }

    /// Its StatefulSet.
    pub(crate) async fn stateful_set(&self) -> StatefulSet {
        let sets: Api<StatefulSet> =
            Api::namespaced(self.world.client.clone(), &self.world.namespace);
        sets.get(&self.name).await.expect("the StatefulSet")
    }

    /// Its Pods, by name.
    pub(crate) async fn pods(&self) -> Vec<Pod> {
        let list = ListParams::default().labels(&labels::selector_text(&self.name));
        let mut pods = self.pods_api().list(&list).await.expect("Pods").items;
        pods.sort_by_key(ResourceExt::name_any);
        pods
    }

    /// One of its Pods.
    pub(crate) async fn pod(&self, name: &str) -> Pod {
        self.pods_api()
            .get(name)
            .await
            .unwrap_or_else(|error| panic!("Pod {name}: {error}"))
    }

    /// The address of a Pod.
    pub(crate) async fn host(&self, pod: &str) -> String {
        pod_host(&self.pod(pod).await).expect("an address of the Pod")
    }

    /// What the replica in a Pod says of itself.
    pub(crate) async fn replica(&self, pod: &str) -> Result<ReplicaStatus, String> {
        let found = self
            .pods_api()
            .get(pod)
            .await
            .map_err(|error| error.to_string())?;
        http::get(&pod_host(&found).ok_or("no address yet")?, "/status").await
    }

    /// A number that the replica in that Pod counts (see its `/metrics`).
    pub(crate) async fn metric(&self, pod: &str, name: &str) -> f64 {
        let text = http::get_text(&self.host(pod).await, "/metrics").await;
        let text = text.expect("metrics are there");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("replicated_store_{name} ")));
        let number = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        number.parse().expect("a number")
    }

    /// What a change that concerns no replica leaves as it is: Pods, restarts of their containers, and
    /// the StatefulSet's specification.
    pub(crate) async fn fingerprint(&self) -> String {
        let pod = |pod: &Pod| (pod.uid(), restarts(pod), pod.labels().clone());
        let pods: Vec<_> = self.pods().await.iter().map(pod).collect();
        let generation = self.stateful_set().await.metadata.generation;
        format!("{pods:#?}, generation {generation:?}")
    }

    /// Waits until all replicas hold the same data at the same LSN. Call it once writes have ended.
    pub(crate) async fn same_data(&self) -> Digest {
        let replicas = self.get().await.spec.replicas as usize;
        eventually(secs(90), "all replicas are at the same LSN", async || {
            let hosts: Vec<String> = self.pods().await.iter().filter_map(pod_host).collect();
            expect(hosts.len() == replicas, || format!("{} Pods", hosts.len()))?;
            let digests: Vec<Digest> =
                try_join_all(hosts.iter().map(|host| http::get(host, "/digest"))).await?;
            let first = digests.first().ok_or("no Pods")?;
            expect(digests.iter().all(|digest| digest.lsn == first.lsn), || {
                format!("{digests:?}")
            })?;
            assert!(
                digests.iter().all(|digest| digest == first),
                "the replicas are at the same LSN and hold different data: {digests:?}"
            );
            Ok(first.clone())
        })
        .await
    }

    /// Deletes Pods at once and waits until each has been replaced by one that is ready.
    pub(crate) async fn replace_pods(&self, pods: &[&str], within: Duration) {
        let mut before = Vec::new();
        for pod in pods {
            before.push(self.pod(pod).await.uid());
        }
        for pod in pods {
            let deleted = self.pods_api().delete(pod, &DeleteParams::default()).await;
            let _ = deleted.expect("deleting a Pod");
        }
        for (pod, before) in pods.iter().zip(before) {
            eventually(within, &format!("Pod {pod} is back"), async || {
                let found = self
                    .pods_api()
                    .get(pod)
                    .await
                    .map_err(|error| error.to_string())?;
                expect(found.uid() != before, || {
                    "the old one is still there".to_owned()
                })?;
                expect(pod_is_ready(&found), || "it is not ready".to_owned())
            })
            .await;
        }
    }

    /// Deletes a Pod together with its volume, and waits until a new Pod with a new volume is there.
    pub(crate) async fn lose_volume(&self, pod: &str) {
        let found = self.pod(pod).await;
        let claim = claim_of(&found).expect("the Pod has a volume");
        let before = self
            .claims_api()
            .get(&claim)
            .await
            .expect("the volume claim")
            .uid();
        // The claim goes only with the Pod that uses it, so it is deleted first.
        let deleted = self
            .claims_api()
            .delete(&claim, &DeleteParams::default())
            .await;
        let _ = deleted.expect("deleting the volume claim");
        let now = DeleteParams::default().grace_period(0);
        let _ = self
            .pods_api()
            .delete(pod, &now)
            .await
            .expect("deleting the Pod");
        eventually(
            secs(90),
            &format!("Pod {pod} has a new volume"),
            async || {
                let pod = self
                    .pods_api()
                    .get(pod)
                    .await
                    .map_err(|error| error.to_string())?;
                expect(pod.uid() != found.uid(), || {
                    "the old Pod is still there".to_owned()
                })?;
                let claim = self
                    .claims_api()
                    .get(&claim)
                    .await
                    .map_err(|error| error.to_string())?;
                expect(claim.uid() != before, || {
                    "the old volume is still there".to_owned()
                })
            },
        )
        .await;
    }
}

fn is_ready(store: &ReplicatedStore, status: &ReplicatedStoreStatus) -> Result<(), String> {
    let ready = status
        .conditions
        .iter()
        .find(|found| found.type_ == ConditionType::Ready);
    let ready = ready.ok_or("no condition Ready yet")?;
    expect(ready.status == ConditionStatus::True, || {
        format!(
            "Ready is {:?}: {}: {}",
            ready.status, ready.reason, ready.message
        )
    })?;
    expect(
        Some(status.observed_generation) == store.metadata.generation,
        || format!("generation {} is observed", status.observed_generation),
    )?;
    let streaming = |member: &Member| member.ready && member.state == MemberState::Streaming;
    let streams = status
        .members
        .iter()
        .filter(|member| streaming(member))
        .count();
    expect(
        status.ready_replicas == store.spec.replicas && streams == store.spec.replicas as usize,
        || {
            format!(
                "{} are ready, {streams} stream: {:?}",
                status.ready_replicas, status.members
            )
        },
    )
}

/// A member by its Pod's name.
pub(crate) fn member<'s>(
    status: &'s ReplicatedStoreStatus,
    pod: &str,
) -> Result<&'s Member, String> {
    let found = status.members.iter().find(|member| member.name == pod);
    found.ok_or_else(|| format!("{pod} is not among the members"))
}

/// Whether a Pod gets traffic.
pub(crate) fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|found| found.type_ == "Ready"));
    pod.metadata.deletion_timestamp.is_none() && ready.is_some_and(|found| found.status == "True")
}

/// How often a Pod's containers were restarted.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    let containers = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    containers.map_or(0, |all| {
        all.iter().map(|container| container.restart_count).sum()
    })
}

fn pod_host(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}

/// The name of the volume claim that a Pod uses.
fn claim_of(pod: &Pod) -> Option<String> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let claim = volumes
        .iter()
        .find_map(|volume| volume.persistent_volume_claim.as_ref())?;
    Some(claim.claim_name.clone())
}
