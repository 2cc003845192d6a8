//! Does what was planned: children by server-side apply, the register by compare-and-swap, labels,
//! what replicas are told, Pods that are replaced. Decides nothing.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::build::{self, Recipe};
use super::context::{ChildKey, Context, Seen, StoreKey};
use super::error::{Error, request, status_code};
use super::plan::follow::{Follow, Label};
use super::plan::promotion::Campaign;
use super::plan::switchover::{self, Switchover};
use super::register;
use super::validate::ValidatedStore;
use super::view::{PodView, View};
use crate::api::{LastFailover, ReplicatedStore, ReplicatedStoreStatus, labels};
use crate::replication::admin::{
    Assignment, ClaimRequest, PromiseAnswer, PromiseRequest, SwitchoverRequest,
};
use crate::replication::types::{Configuration, ReplicaId};

/// How long a replica may take to be told something.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Field manager of the children.
pub const CHILDREN: &str = "replicated-store";
/// Field manager of the report.
pub const REPORT: &str = "replicated-store-report";
/// Field manager of the register.
pub const REGISTER: &str = "replicated-store-register";
/// Field manager of role labels.
pub const ROLES: &str = "replicated-store-roles";

/// Makes the children what they should be. What was applied before and has not been touched since
/// is left alone.
pub async fn children(
    context: &Context,
    key: &StoreKey,
    store: &ValidatedStore,
    recipe: Recipe<'_>,
    follow: &Follow,
) -> Result<(), Error> {
    let children = Children {
        context,
        key,
        owner: &store.uid,
    };
    children.apply(&build::config_map(store)).await?;
    children.apply(&build::service_account(store)).await?;
    children.apply(&build::headless(store)).await?;
    children.apply(&build::everybody(store)).await?;
    children
        .apply(&build::leader(store, follow.leader_port))
        .await?;
    children.apply(&build::followers(store)).await?;
    children.apply(&build::disruption_budget(store)).await?;
    children
        .apply(&build::stateful_set(store, recipe, follow.replicas))
        .await
}

struct Children<'a> {
    context: &'a Context,
    key: &'a StoreKey,
    owner: &'a str,
}

impl Children<'_> {
    async fn apply<K>(&self, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let child = ChildKey {
            kind: K::kind(&()).into_owned(),
            name: object.name_any(),
        };
        let memory = &self.context.memory;
        let hash = fingerprint(object);
        if memory.is_applied(self.key, &child, hash) {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.context.client.clone(), &self.key.namespace);
        if !memory.knows(self.key, &child) {
            self.check_owner(&api, &child).await?;
        }
        let action = || format!("applying {} {}", child.kind, child.name);
        let params = PatchParams::apply(CHILDREN).force();
        let patch = Patch::Apply(object);
        let applied = request(action, api.patch(&child.name, &params, &patch)).await?;
        self.context.metrics.wrote(&child.kind);
        tracing::debug!(store = %self.key, kind = child.kind, name = child.name, "applied");
        memory.applied(self.key, child, hash, Seen::of(applied.meta()));
        Ok(())
    }

    /// Applying by force takes what it finds, so it must be ours: of this very object, or nobody's
    /// and marked as one of a store of this name (its owner was deleted and left it behind).
    async fn check_owner<K>(&self, api: &Api<K>, child: &ChildKey) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let action = || format!("reading {} {}", child.kind, child.name);
        let Some(found) = request(action, api.get_metadata_opt(&child.name)).await? else {
            return Ok(());
        };
        let controller = found
            .owner_references()
            .iter()
            .find(|it| it.controller == Some(true));
        let ours = match controller {
            Some(controller) => controller.uid == self.owner,
            None => labels::common(&self.key.name)
                .iter()
                .all(|(label, value)| found.labels().get(label) == Some(value)),
        };
        if ours {
            return Ok(());
        }
        let (kind, name) = (child.kind.clone(), child.name.clone());
        let earlier = controller.is_some_and(|controller| {
            controller.kind == ReplicatedStore::kind(&()) && controller.name == self.key.name
        });
        if earlier {
            return Err(Error::Leftover { kind, name });
        }
        Err(Error::NotOurs { kind, name })
    }
}

/// Of an object as it is sent.
fn fingerprint(object: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(object)
        .unwrap_or_default()
        .hash(&mut hasher);
    hasher.finish()
}

/// Changes the register, on the condition that nobody has written the object since `seen`. A
/// failover is told with it: whoever makes it may be gone a moment later, or not be the one who
/// reports. Answers the object as it is now.
pub async fn swap(
    context: &Context,
    key: &StoreKey,
    seen: &ReplicatedStore,
    to: &Configuration,
    failover: Option<&LastFailover>,
) -> Result<ReplicatedStore, Error> {
    let api: Api<ReplicatedStore> = Api::namespaced(context.client.clone(), &key.namespace);
    let mut patch = json!({
        "metadata": {"resourceVersion": seen.resource_version(), "uid": seen.uid()},
        "status": {"configuration": register::write(to)},
    });
    if let Some(failover) = failover {
        // A merge keeps what is not named, which would be the last one's.
        let mut told = json!({
            "outageMilliseconds": null, "lostBytes": null, "lostBytesAtLeast": null, "fromId": null,
            "message": null, "candidates": [],
        });
        put(&mut told, json!(failover));
        patch["status"]["lastFailover"] = told;
    }
    let params = PatchParams {
        field_manager: Some(REGISTER.to_owned()),
        ..PatchParams::default()
    };
    let action = || format!("changing the register of {key}");
    let patch = Patch::Merge(&patch);
    let swapped = request(action, api.patch_status(&key.name, &params, &patch)).await;
    let swapped = conflict(swapped)?;
    context.memory.wrote(key, swapped.resource_version());
    context.metrics.wrote("register");
    Ok(swapped)
}

/// Puts the fields of `other` into `object`, in place of its own.
fn put(object: &mut Value, other: Value) {
    if let (Some(object), Value::Object(other)) = (object.as_object_mut(), other) {
        object.extend(other);
    }
}

fn conflict<T>(result: Result<T, Error>) -> Result<T, Error> {
    match result {
        Err(Error::Api { source, .. }) if status_code(&source) == Some(409) => Err(Error::Conflict),
        other => other,
    }
}

/// Writes the report.
pub async fn report(
    context: &Context,
    key: &StoreKey,
    status: &ReplicatedStoreStatus,
) -> Result<(), Error> {
    assert!(
        status.configuration.is_none(),
        "the register has its own writer"
    );
    let api: Api<ReplicatedStore> = Api::namespaced(context.client.clone(), &key.namespace);
    let patch = json!({
        "apiVersion": ReplicatedStore::api_version(&()),
        "kind": ReplicatedStore::kind(&()),
        "metadata": {"name": key.name},
        "status": status,
    });
    let params = PatchParams::apply(REPORT).force();
    let action = || format!("writing the status of {key}");
    let patch = Patch::Apply(&patch);
    let written = request(action, api.patch_status(&key.name, &params, &patch)).await?;
    context.memory.wrote(key, written.resource_version());
    context.metrics.wrote("status");
    Ok(())
}

/// Asks for promises, all at once. Who does not answer in time has not promised; once enough have,
/// the others get [`Campaign::patience`].
pub async fn campaign(
    context: &Context,
    view: &View,
    campaign: &Campaign,
    room: Option<(PromiseAnswer, ReplicaId)>,
) -> Vec<PromiseAnswer> {
    let asked = campaign
        .ask
        .iter()
        .filter_map(|ordinal| view.pods.get(ordinal));
    let mut asked: FuturesUnordered<_> = asked
        .map(|pod| {
            let request = PromiseRequest {
                epoch: campaign.epoch,
                to: pod.id(),
                store: campaign.store,
            };
            promise(context, pod, request)
        })
        .collect();
    let (mut answers, target): (Vec<_>, _) = match room {
        Some((answer, target)) => (vec![answer], Some(target)),
        None => (Vec::new(), None),
    };
    let mut enough_at = None;
    let mut until = None;
    loop {
        let answered = async {
            match until {
                Some(until) => tokio::time::timeout_at(until, asked.next())
                    .await
                    .unwrap_or(None),
                None => asked.next().await,
            }
        };
        let Some(answer) = answered.await else {
            return answers;
        };
        answers.extend(answer);
        let promised: BTreeSet<ReplicaId> = answers.iter().map(|it| it.id).collect();
        if let Some(patience) = campaign.patience(&promised, target, view.store.lease()) {
            until = Some(*enough_at.get_or_insert_with(Instant::now) + patience);
        }
    }
}

async fn promise(
    context: &Context,
    pod: &PodView,
    request: PromiseRequest,
) -> Option<PromiseAnswer> {
    match context.admin.promise(address(pod)?, request).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::warn!(pod = pod.name, %error, "no promise");
            None
        }
    }
}

/// Asks a leader to make room; answers its promise, or why it leads on.
pub async fn switchover(
    context: &Context,
    view: &View,
    switchover: &Switchover,
) -> Result<PromiseAnswer, String> {
    let pod = view.pods.get(&switchover.leader);
    let Some(address) = pod.and_then(address) else {
        return Err("its Pod has no address".to_owned());
    };
    let request = SwitchoverRequest {
        epoch: switchover.campaign.epoch,
        target: switchover.target,
        deadline_ms: switchover::DEADLINE_MS,
        to: pod.and_then(PodView::id),
        store: switchover.campaign.store,
    };
    match context.admin.switchover(address, request).await {
        Ok(answer) if answer.granted => Ok(answer),
        Ok(answer) => Err(format!("it has promised epoch {}", answer.promised)),
        Err(error) => Err(error.to_string()),
    }
}

fn address(pod: &PodView) -> Option<SocketAddr> {
    pod.ip.map(|ip| SocketAddr::new(ip, build::ADMIN_PORT))
}

/// Tells replicas what they must know, all at once; says whether all have taken it.
pub async fn tell(context: &Context, key: &StoreKey, view: &View, follow: &Follow) -> bool {
    let Some(assignment) = &follow.assignment else {
        return true;
    };
    let told = follow
        .tell
        .iter()
        .filter_map(|ordinal| view.pods.get(ordinal));
    let told = told.map(|pod| async move {
        // What hangs must not hold up what comes next; it is told again.
        let told = tell_one(context, key, pod, assignment);
        tokio::time::timeout(TELL_TIMEOUT, told)
            .await
            .unwrap_or(false)
    });
    join_all(told).await.into_iter().all(|taken| taken)
}

/// Tells replicas to which claims their disks belong; one whose disk is a copy takes another id by that.
/// Whoever does not hear it is told again the next time.
pub async fn bind(context: &Context, key: &StoreKey, view: &View, follow: &Follow) {
    let unbound = follow
        .bind
        .iter()
        .filter_map(|ordinal| view.pods.get(ordinal));
    let told = unbound.map(|pod| async move {
        let (Some(status), Some(address), Some(claim)) = (pod.speaks(), address(pod), &pod.claim)
        else {
            return;
        };
        let request = ClaimRequest {
            id: status.id,
            claim: claim.clone(),
            copy: pod.copy,
        };
        if pod.copy {
            tracing::warn!(store = %key, pod = pod.name, "its volume is a copy of another claim's: it gets an id of its own");
        }
        let told = tokio::time::timeout(TELL_TIMEOUT, context.admin.claim(address, request)).await;
        if let Ok(Err(error)) = told {
            // One of an earlier release does not know what that is.
            tracing::debug!(store = %key, pod = pod.name, %error, "does not take its claim");
        }
    });
    join_all(told).await;
}

async fn tell_one(
    context: &Context,
    key: &StoreKey,
    pod: &PodView,
    assignment: &Arc<Assignment>,
) -> bool {
    let (Some(status), Some(address)) = (pod.live(), address(pod)) else {
        return false;
    };
    let refusal = match context.admin.configure(address, assignment).await {
        Ok(()) => String::new(),
        Err(error) => {
            tracing::warn!(store = %key, pod = pod.name, %error, "does not take its configuration");
            error.to_string()
        }
    };
    let taken = refusal.is_empty();
    context
        .memory
        .tell(key, pod.ordinal, status.incarnation, assignment, refusal);
    taken
}

/// Changes role labels: the new leader's only after no other Pod is labelled leader any more. What
/// fails elsewhere holds it up no longer than that.
pub async fn relabel(
    context: &Context,
    key: &StoreKey,
    view: &View,
    follow: &Follow,
) -> Result<(), Error> {
    let leads = |label: &&Label| {
        let pod = view.pods.get(&label.ordinal);
        pod.is_some_and(|pod| pod.role.as_deref() == Some(labels::LEADER))
    };
    let (first, others): (Vec<&Label>, Vec<&Label>) = follow.demote.iter().partition(leads);
    for label in first {
        relabel_one(context, key, view, *label).await?;
    }
    let others = others.into_iter().chain(&follow.elevate);
    let done = others.map(|label| relabel_one(context, key, view, *label));
    join_all(done).await.into_iter().collect()
}

async fn relabel_one(
    context: &Context,
    key: &StoreKey,
    view: &View,
    label: Label,
) -> Result<(), Error> {
    let Some(pod) = view.pods.get(&label.ordinal) else {
        return Ok(());
    };
    let patch: Value = json!({
        // Another Pod of the same name is another replica.
        "metadata": {"uid": pod.uid, "labels": {labels::ROLE: label.to}},
    });
    let params = PatchParams {
        field_manager: Some(ROLES.to_owned()),
        ..PatchParams::default()
    };
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let action = || format!("labelling {}", pod.name);
    let patch = Patch::Merge(&patch);
    let patched = request(action, api.patch_metadata(&pod.name, &params, &patch)).await;
    if gone(conflict(patched.map(drop)))? {
        context.metrics.wrote("role");
        tracing::info!(store = %key, pod = pod.name, role = label.to, "labelled");
    }
    Ok(())
}

/// A Pod that is gone needs nothing; says whether it was there.
fn gone(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(Error::Api { source, .. }) if status_code(&source) == Some(404) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes the Pod that is to be replaced, if it still is the one that was seen.
pub async fn replace(
    context: &Context,
    key: &StoreKey,
    view: &View,
    ordinal: u32,
) -> Result<(), Error> {
    let Some(pod) = view.pods.get(&ordinal) else {
        return Ok(());
    };
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some(pod.uid.clone()),
        resource_version: None,
    });
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let action = || format!("deleting {}", pod.name);
    let deleted = request(action, api.delete(&pod.name, &params))
        .await
        .map(drop);
    if gone(conflict(deleted))? {
        context.metrics.wrote("delete");
        tracing::info!(store = %key, pod = pod.name, "replacing a Pod of an old template");
    }
    Ok(())
}
