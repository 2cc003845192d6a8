//! What happened meanwhile: every version of a store's object and of its Pods that the API server
//! told, and every status that a replica streamed, each with the time at which it was seen.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use parking_lot::Mutex;
use replicated_store::api::{MemberState, ReplicatedStore, labels};
use replicated_store::replication::admin::{ReplicaState, ReplicaStatus};
use serde::de::DeserializeOwned;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::http::follow_status;
use super::store::{Store, pod_is_ready};
use super::wait::{eventually, secs};

/// Things in the order in which they were seen. Dropping it ends the watch.
pub(crate) struct History<T> {
    seen: Arc<Mutex<Vec<(Instant, T)>>>,
    task: AbortHandle,
}

impl<T> Drop for History<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T: Clone + Send + 'static> History<T> {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<(Instant, T)> {
        self.seen.lock().clone()
    }

    /// When something was seen first of which `property` holds.
    pub(crate) fn first(&self, property: impl Fn(&T) -> bool) -> Option<Instant> {
        self.seen
            .lock()
            .iter()
            .find(|(_, thing)| property(thing))
            .map(|(at, _)| *at)
    }

    /// The values of `property`, without repetitions.
    pub(crate) fn sequence<P: PartialEq>(&self, property: impl Fn(&T) -> Option<P>) -> Vec<P> {
        let mut values: Vec<P> = self
            .seen
            .lock()
            .iter()
            .filter_map(|(_, t)| property(t))
            .collect();
        values.dedup();
        values
    }
}

fn watch<K>(api: Api<K>, which: watcher::Config) -> History<K>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let seen = Arc::new(Mutex::new(Vec::new()));
    let events = watcher(api, which);
    let sink = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        let mut objects = events.default_backoff().applied_objects().boxed();
        while let Some(object) = objects.next().await {
            if let Ok(object) = object {
                sink.lock().push((Instant::now(), object));
            }
        }
    });
    History {
        seen,
        task: task.abort_handle(),
    }
}

fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}

impl History<ReplicatedStore> {
    /// Watches the store's object, from its present version on.
    pub(crate) async fn of_store(store: &Store<'_>) -> Self {
        let history = watch(store.api(), named(&store.name));
        eventually(secs(10), "the watch begins", async || {
            if history.all().is_empty() {
                Err("nothing".to_owned())
            } else {
                Ok(())
            }
        })
        .await;
        history
    }

    /// The states of a member that the status told.
    pub(crate) fn states_of(&self, member: &str) -> Vec<MemberState> {
        self.sequence(|store| {
            let status = store.status.as_ref()?;
            Some(
                status
                    .members
                    .iter()
                    .find(|found| found.name == member)?
                    .state,
            )
        })
    }

    /// The versions of the object: one for every write.
    pub(crate) fn versions(&self) -> Vec<String> {
        self.sequence(ReplicatedStore::resource_version)
    }
}

impl History<Pod> {
    /// Watches a Pod, which need not be there yet.
    pub(crate) fn of_pod(store: &Store<'_>, pod: &str) -> Self {
        watch(store.pods_api(), named(pod))
    }

    /// Watches all Pods of a store.
    pub(crate) fn of_pods(store: &Store<'_>) -> Self {
        let of = labels::selector_text(&store.name);
        watch(store.pods_api(), watcher::Config::default().labels(&of))
    }

    /// The Pods that were labelled as the leader at one time, with the times.
    pub(crate) fn labelled(&self) -> Vec<(Instant, Vec<String>)> {
        let mut leaders = BTreeSet::new();
        let mut all = Vec::new();
        for (at, pod) in self.all() {
            let name = pod.name_any();
            if pod
                .labels()
                .get(labels::ROLE)
                .is_some_and(|role| role == labels::LEADER)
            {
                leaders.insert(name);
            } else {
                leaders.remove(&name);
            }
            all.push((at, leaders.iter().cloned().collect()));
        }
        all
    }

    /// When it was Ready first.
    pub(crate) fn first_ready(&self) -> Option<Instant> {
        self.first(pod_is_ready)
    }
}

impl History<EndpointSlice> {
    /// Watches where the leader's Service leads to.
    pub(crate) fn of_leader_service(store: &Store<'_>) -> Self {
        let of = format!("kubernetes.io/service-name={}-leader", store.name);
        watch(store.slices_api(), watcher::Config::default().labels(&of))
    }

    /// The Pods that it led to at one time, with the times.
    pub(crate) fn targets(&self) -> Vec<(Instant, Vec<String>)> {
        let targets = |slice: EndpointSlice| {
            let ready = |it: &Endpoint| {
                it.conditions
                    .as_ref()
                    .is_none_or(|it| it.ready != Some(false))
            };
            let endpoints = slice.endpoints.into_iter().flatten().filter(ready);
            let names = endpoints.filter_map(|endpoint| endpoint.target_ref?.name);
            names.collect()
        };
        let seen = self.all().into_iter();
        seen.map(|(at, slice)| (at, targets(slice))).collect()
    }
}

impl History<ReplicaStatus> {
    /// Follows what the replica in a Pod says of itself. The Pod need not be there yet, and may be
    /// replaced meanwhile.
    pub(crate) fn of_replica(store: &Store<'_>, pod: &str) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (sink, pods, pod) = (Arc::clone(&seen), store.pods_api(), pod.to_owned());
        let task = tokio::spawn(async move {
            loop {
                let host = pods
                    .get_opt(&pod)
                    .await
                    .ok()
                    .flatten()
                    .and_then(|pod| pod.status?.pod_ip);
                if let Some(host) = host {
                    let each = |status| sink.lock().push((Instant::now(), status));
                    let _ = follow_status(&host, each).await;
                }
                sleep(std::time::Duration::from_millis(50)).await;
            }
        });
        Self {
            seen,
            task: task.abort_handle(),
        }
    }

    /// The states that it told.
    pub(crate) fn states(&self) -> Vec<ReplicaState> {
        self.sequence(|status| Some(status.state))
    }

    /// Whether it ever copied a snapshot.
    pub(crate) fn was_seeded(&self) -> bool {
        self.first(|status| status.seed.is_some() || status.state == ReplicaState::Seeding)
            .is_some()
    }
}
