//! What is: reads from the API server itself, never from a cache, and the replicas' own words.
//! Decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, PersistentVolumeClaim, Pod, PodSpec};
use kube::api::{Api, ListParams};
use kube::core::DeserializeGuard;
use kube::{Client, ResourceExt};

use super::build;
use super::context::{Context, StoreKey};
use super::error::{Error, request};
use super::plan::doubt::{self, Doubt};
use super::plan::recovery;
use super::register;
use super::supervisor::Target;
use super::validate::{MAX_REPLICAS, ValidatedStore};
use super::view::{Heard, Held, PodView, View, Workload};
use crate::api::{ReplicatedStore, labels};
use crate::replication::types::{Configuration, Epoch, Lsn, ReplicaId, StoreId};

/// The object as the API server has it now; `None` if it is gone.
async fn object(client: &Client, key: &StoreKey) -> Result<Option<ReplicatedStore>, Error> {
    let api: Api<DeserializeGuard<ReplicatedStore>> =
        Api::namespaced(client.clone(), &key.namespace);
    let found = request(|| format!("reading {key}"), api.get_opt(&key.name)).await?;
    match found {
        None => Ok(None),
        Some(DeserializeGuard(Ok(store))) => Ok(Some(store)),
        Some(DeserializeGuard(Err(invalid))) => Err(Error::Unreadable(invalid.error)),
    }
}

/// What the API server says of a store, read at once, as a lead may hang on it.
pub struct Readings {
    /// The object; `None` if it is gone.
    pub object: Option<ReplicatedStore>,
    pods: Pods,
    workload: Option<StatefulSet>,
}

/// Reads all that the API server knows of a store.
pub async fn read(context: &Context, key: &StoreKey) -> Result<Readings, Error> {
    let (object, pods, workload) = tokio::try_join!(
        object(&context.client, key),
        pods(context, key),
        workload(context, key)
    )?;
    Ok(Readings {
        object,
        pods,
        workload,
    })
}

/// Everything that a plan needs to know of a store.
pub async fn view(
    context: &Context,
    key: &StoreKey,
    object: &ReplicatedStore,
    readings: Readings,
    store: ValidatedStore,
) -> Result<View, Error> {
    let register = configuration(object)?;
    let Readings { pods, workload, .. } = readings;
    context.supervisor.attend(key, targets(&pods));
    let mut view = View {
        store,
        register,
        lost: noted(object),
        formerly: formerly(object),
        pods: pods
            .into_iter()
            .map(|(ordinal, (pod, _))| (ordinal, pod))
            .collect(),
        known: known(object),
        workload: workload.as_ref().map(describe_workload),
        volumes: BTreeSet::new(),
        claims: BTreeSet::new(),
        held: BTreeMap::new(),
        witnessed: context.memory.witnessed(key),
        drawn: StoreId(rand::random()),
        since_campaign: context.memory.since_campaign(key),
        since_switchover: context.memory.since_switchover(key),
        doubts: BTreeMap::new(),
        told: BTreeMap::new(),
    };
    hear(context, key, &mut view);
    let unknown = context.memory.recall_claims(key, &mut view.pods);
    let elsewhere = || view.pods.values().any(|pod| pod.elsewhere().is_some());
    let mut claims = None;
    if unknown || elsewhere() {
        match list_claims(context, key).await {
            Ok(found) => {
                take_claims(&key.name, &found, &mut view);
                context.memory.note_claims(key, &view.pods);
                claims = Some(found);
            }
            // A lead may hang on the rest.
            Err(error) => {
                tracing::warn!(store = %key, %error, "whose the volumes are is not known");
            }
        }
    }
    take_in(context, key, object, &mut view);
    let unsettled = match &view.register {
        None => true,
        Some(register) => {
            let unwitnessed = view.doubted(Doubt::Unwitnessed).is_some();
            unwitnessed || recovery::behind(&view, register).is_some()
        }
    };
    if unsettled {
        let found = match claims {
            Some(found) => found,
            None => list_claims(context, key).await?,
        };
        view.volumes = volumes(&key.name, &found);
    }
    Ok(view)
}

/// Takes in what replicas have said since, and what they were told.
pub fn listen(context: &Context, key: &StoreKey, object: &ReplicatedStore, view: &mut View) {
    hear(context, key, view);
    take_in(context, key, object, view);
}

fn hear(context: &Context, key: &StoreKey, view: &mut View) {
    let mut heard = context.supervisor.heard(key);
    for (ordinal, pod) in &mut view.pods {
        pod.heard = heard.remove(ordinal);
    }
}

/// Draws what follows from what was heard.
fn take_in(context: &Context, key: &StoreKey, object: &ReplicatedStore, view: &mut View) {
    view.mark_copies();
    view.told = context.memory.told(key);
    view.held = context.memory.held(key, held(object), &view.pods);
    view.miss();
    view.witness();
    context.memory.witness(key, view.witnessed);
    view.doubts = context.memory.doubts(key, &doubt::doubts(view));
}

/// The register in the status.
pub fn configuration(object: &ReplicatedStore) -> Result<Option<Configuration>, Error> {
    let status = object.status.as_ref();
    let register = status.and_then(|status| status.configuration.as_ref());
    Ok(register.map(register::read).transpose()?)
}

/// Ids that were noted as lost.
pub fn noted(object: &ReplicatedStore) -> BTreeSet<ReplicaId> {
    let lost = object
        .status
        .iter()
        .flat_map(|status| &status.lost_replicas);
    lost.filter_map(|id| id.parse().ok()).collect()
}

/// The ordinals that they had.
pub fn formerly(object: &ReplicatedStore) -> BTreeMap<ReplicaId, u32> {
    let pods = object.status.iter().flat_map(|status| &status.lost_pods);
    let places = pods.filter_map(|(id, pod)| {
        let ordinal = ordinal(&object.name_any(), pod)?;
        Some((id.parse().ok()?, ordinal))
    });
    places.collect()
}

/// What replicas were noted to have had on disk.
pub fn held(object: &ReplicatedStore) -> BTreeMap<ReplicaId, Held> {
    let members = object.status.iter().flat_map(|status| &status.members);
    let held = members.filter_map(|member| {
        let noted = member.held.as_ref()?;
        let held = Held {
            epoch: Epoch(noted.epoch.max(0) as u64),
            lsn: Lsn(noted.lsn.max(0) as u64),
            newest: Epoch(noted.newest.max(0) as u64),
        };
        Some((member.id.parse().ok()?, held))
    });
    held.collect()
}

/// Ids that ordinals had.
pub fn known(object: &ReplicatedStore) -> BTreeMap<u32, ReplicaId> {
    let members = object.status.iter().flat_map(|status| &status.members);
    let known = members.filter_map(|member| {
        let ordinal = ordinal(&object.name_any(), &member.name)?;
        Some((ordinal, member.id.parse().ok()?))
    });
    known.collect()
}

/// The number at the end of the name of a Pod of this store.
pub fn ordinal(store: &str, pod: &str) -> Option<u32> {
    let number = pod.strip_prefix(store)?.strip_prefix('-')?;
    let ordinal: u32 = number.parse().ok()?;
    // A store never has more; what else bears such a name is not its own.
    (ordinal < MAX_REPLICAS && ordinal.to_string() == number).then_some(ordinal)
}

type Pods = BTreeMap<u32, (PodView, Option<Target>)>;

async fn pods(context: &Context, key: &StoreKey) -> Result<Pods, Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let selector = ListParams::default().labels(&labels::selector_text(&key.name));
    let list = request(|| format!("listing the Pods of {key}"), api.list(&selector)).await?;
    let pods = list.items.iter().filter_map(|pod| {
        let ordinal = ordinal(&key.name, &pod.name_any())?;
        let view = describe_pod(pod, ordinal);
        let target = target(pod, &view);
        Some((ordinal, (view, target)))
    });
    Ok(pods.collect())
}

fn targets(pods: &Pods) -> BTreeMap<u32, Target> {
    let targets = pods.iter().filter_map(|(ordinal, (_, target))| {
        let target = target.clone()?;
        Some((*ordinal, target))
    });
    targets.collect()
}

fn target(pod: &Pod, view: &PodView) -> Option<Target> {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    Some(Target {
        uid: view.uid.clone(),
        ip: view.ip?,
    })
}

fn describe_pod(pod: &Pod, ordinal: u32) -> PodView {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|it| it.type_ == "Ready" && it.status == "True");
    let label = |name: &str| pod.labels().get(name).cloned();
    let spec = pod.spec.as_ref();
    PodView {
        name: pod.name_any(),
        ordinal,
        uid: pod.uid().unwrap_or_default(),
        ip: status.and_then(|status| status.pod_ip.as_ref()?.parse().ok()),
        node: spec
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        ready,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        revision: label("controller-revision-hash").unwrap_or_default(),
        role: label(labels::ROLE),
        leader_port: spec.is_some_and(has_leader_port),
        terminated: ends(pod).next().is_some(),
        failed: reason(pod) == Some("CrashLoopBackOff") && !last_words(pod).is_empty(),
        problem: problem(pod),
        claim: None,
        copy: false,
        heard: None::<Heard>,
    }
}

/// Whether Pods of this specification have the leader's port.
fn has_leader_port(spec: &PodSpec) -> bool {
    let ports = spec.containers.iter().filter_map(|it| it.ports.as_ref());
    ports
        .flatten()
        .any(|port| port.name.as_deref() == Some(build::LEADER_PORT_NAME))
}

/// The ends of its container, the last first, if that does not run now.
fn ends(pod: &Pod) -> impl Iterator<Item = &ContainerStateTerminated> {
    let statuses = pod.status.iter().flat_map(|it| &it.container_statuses);
    let states = statuses.flatten().flat_map(|container| {
        let running = container.state.iter().any(|state| state.running.is_some());
        let states = [&container.state, &container.last_state];
        states.into_iter().flatten().filter(move |_| !running)
    });
    states.filter_map(|state| state.terminated.as_ref())
}

/// Of what a container has said at its end so many characters are told.
const WORDS: usize = 1000;

/// What keeps a Pod from running, in Kubernetes' words and its own.
fn problem(pod: &Pod) -> String {
    let Some(status) = &pod.status else {
        return String::new();
    };
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unschedulable {
        let message = condition.message.clone().unwrap_or_default();
        return format!("it finds no node: {message}");
    }
    let why = last_words(pod);
    match reason(pod) {
        Some(reason) if why.is_empty() => format!("its container does not run: {reason}"),
        Some(reason) => format!("its container does not run: {reason}: {why}"),
        None if why.is_empty() => String::new(),
        None => format!("its container has ended: {why}"),
    }
}

/// Why its container does not run, where that is no matter of course.
fn reason(pod: &Pod) -> Option<&str> {
    let statuses = pod.status.iter().flat_map(|it| &it.container_statuses);
    let waiting = statuses
        .flatten()
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let mut reasons = waiting.filter_map(|waiting| waiting.reason.as_deref());
    reasons.find(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"))
}

/// What the container of a Pod has said at its end, if it does not run now.
fn last_words(pod: &Pod) -> String {
    let mut words = ends(pod).filter_map(|end| end.message.as_ref());
    words
        .next()
        .map_or_else(String::new, |it| it.trim().chars().take(WORDS).collect())
}

async fn workload(context: &Context, key: &StoreKey) -> Result<Option<StatefulSet>, Error> {
    let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &key.namespace);
    request(
        || format!("reading the StatefulSet of {key}"),
        api.get_opt(&key.name),
    )
    .await
}

fn describe_workload(set: &StatefulSet) -> Workload {
    let status = set.status.as_ref();
    let current = status.is_some_and(|it| it.observed_generation == set.metadata.generation);
    let pod = set.spec.template.spec.as_ref();
    let container = pod.and_then(|pod| pod.containers.first());
    Workload {
        replicas: set.spec.replicas.unwrap_or(1).max(0) as u32,
        image: container
            .and_then(|it| it.image.clone())
            .unwrap_or_default(),
        revision: status
            .filter(|_| current)
            .and_then(|it| it.update_revision.clone()),
        leader_port: pod.is_some_and(has_leader_port),
    }
}

async fn list_claims(
    context: &Context,
    key: &StoreKey,
) -> Result<Vec<PersistentVolumeClaim>, Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    let all = ListParams::default();
    let listed = api.list(&all);
    let list = request(|| format!("listing the volumes of {key}"), listed).await?;
    Ok(list.items)
}

/// The number of the Pod that a claim belongs to, by its name.
fn claimant(store: &str, claim: &PersistentVolumeClaim) -> Option<u32> {
    let name = claim.name_any();
    ordinal(store, name.strip_prefix(build::DATA)?.strip_prefix('-')?)
}

/// Notes which claim each Pod has, and which there are.
fn take_claims(store: &str, claims: &[PersistentVolumeClaim], view: &mut View) {
    view.claims = claims.iter().filter_map(ResourceExt::uid).collect();
    for claim in claims {
        let ordinal = claimant(store, claim);
        if let Some(pod) = ordinal.and_then(|it| view.pods.get_mut(&it)) {
            pod.claim = claim.uid();
        }
    }
}

/// Ordinals that have a volume which may hold data: by the claims' names alone, as those that were made
/// by hand, or restored, have neither our labels nor an age that tells anything. One that was never
/// bound holds nothing, if it is not to be filled from a snapshot or from another claim.
fn volumes(store: &str, claims: &[PersistentVolumeClaim]) -> BTreeSet<u32> {
    let held = claims.iter().filter_map(|claim| {
        let spec = claim.spec.as_ref()?;
        let filled = spec.data_source.is_some() || spec.data_source_ref.is_some();
        claimant(store, claim).filter(|_| filled || spec.volume_name.is_some())
    });
    held.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::plan::world::World;
    use k8s_openapi::api::core::v1::TypedObjectReference;
    use serde_json::json;

    #[test]
    fn ordinals_are_read_from_names() {
        assert_eq!(ordinal("orders", "orders-2"), Some(2));
        assert_eq!(ordinal("orders", "orders-eu-2"), None, "another store's");
        assert_eq!(ordinal("orders", "orders2"), None);
        for strange in [
            "orders-20240915",
            "orders-9",
            "orders-01",
            "orders-+1",
            "orders-4294967295",
        ] {
            assert_eq!(ordinal("orders", strange), None, "{strange}");
        }
    }

    /// Restored by hand or by a tool, and made before the object or after it: only their names are looked at.
    #[test]
    fn volumes_are_known_by_their_names() {
        let claim = |name: &str, volume: Option<&str>| -> PersistentVolumeClaim {
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": format!("uid of {name}")},
                "spec": {"volumeName": volume},
            }))
            .unwrap()
        };
        let mut restored = claim("data-orders-3", None);
        let spec = restored.spec.as_mut().unwrap();
        spec.data_source_ref = Some(TypedObjectReference::default());
        let claims = [
            claim("data-orders-0", Some("pv-1")),
            claim("data-orders-1", None),
            claim("data-orders-5", Some("pv-2")),
            claim("data-orders-eu-2", Some("pv-3")),
            claim("data-orders-9", Some("pv-4")),
            claim("logs-orders-2", Some("pv-5")),
            restored,
        ];
        assert_eq!(volumes("orders", &claims), [0, 3, 5].into());
        let mut view = World::running(2).view;
        take_claims("orders", &claims, &mut view);
        let of = |ordinal: u32| view.pods[&ordinal].claim.clone();
        assert_eq!(of(0).as_deref(), Some("uid of data-orders-0"));
        assert_eq!(of(1).as_deref(), Some("uid of data-orders-1"));
        assert_eq!(view.claims.len(), claims.len(), "whoever uses them");
    }

    #[test]
    fn a_pod_is_described_with_what_keeps_it_from_running() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "orders-1", "uid": "u",
                "labels": {"controller-revision-hash": "r1", "replicatedstore.io/role": "follower"},
            },
            "spec": {"nodeName": "n2", "containers": []},
            "status": {
                "podIP": "10.1.2.3",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{
                    "name": "replica", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff"}},
                }],
            },
        }))
        .unwrap();
        let view = describe_pod(&pod, 1);
        assert_eq!(view.problem, "its container does not run: ImagePullBackOff");
        assert_eq!((view.node.as_str(), view.revision.as_str()), ("n2", "r1"));
        assert_eq!(view.role.as_deref(), Some("follower"));
        assert!(!view.ready);
        assert_eq!(target(&pod, &view).unwrap().ip.to_string(), "10.1.2.3");
    }

    #[test]
    fn what_a_container_said_at_its_end_is_told_until_it_runs_again() {
        let pod = |state: serde_json::Value| -> Pod {
            let ended = json!({"terminated": {"exitCode": 1, "message": "it would lose data\n"}});
            serde_json::from_value(json!({
                "metadata": {"name": "orders-1"},
                "status": {"containerStatuses": [{
                    "name": "replica", "image": "", "imageID": "", "ready": false, "restartCount": 1,
                    "state": state, "lastState": ended,
                }]},
            }))
            .unwrap()
        };
        let waits = pod(json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        let told = "its container does not run: CrashLoopBackOff: it would lose data";
        assert_eq!(problem(&waits), told);
        assert!(describe_pod(&waits, 1).failed);
        let ended = pod(json!({"terminated": {"exitCode": 1, "message": "it would lose data"}}));
        assert_eq!(
            problem(&ended),
            "its container has ended: it would lose data"
        );
        assert!(!describe_pod(&ended, 1).failed, "it may come back");
        assert_eq!(problem(&pod(json!({"running": {}}))), "");
        assert!(!describe_pod(&pod(json!({"running": {}})), 1).failed);
    }

    #[test]
    fn a_revision_counts_once_its_controller_has_looked() {
        let set = |observed: i64| -> StatefulSet {
            serde_json::from_value(json!({
                "metadata": {"generation": 2},
                "spec": {"replicas": 3, "selector": {}, "serviceName": "", "template": {}},
                "status": {"observedGeneration": observed, "replicas": 3, "updateRevision": "r2"},
            }))
            .unwrap()
        };
        assert_eq!(describe_workload(&set(1)).revision, None);
        assert_eq!(describe_workload(&set(2)).revision.as_deref(), Some("r2"));
    }
}
