//! What every reconcile shares, and the little that is remembered between two of them. Losing the
//! memory costs a few requests and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::events::{Event, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::metrics::Metrics;
use super::plan::doubt::Doubt;
use super::replica_client::ReplicaAdmin;
use super::supervisor::Supervisor;
use super::view::{Held, PodView, Told, Witnessed};
use crate::api::{LastFailover, ReplicatedStore};
use crate::replication::admin::Assignment;
use crate::replication::types::{Epoch, ReplicaId};

/// A store's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl StoreKey {
    /// The store that this object is.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// For the controller.
    pub fn object_ref<K>(&self) -> ObjectRef<K>
    where
        K: Resource<DynamicType = ()>,
    {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

/// What every reconcile shares.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Events.
    pub recorder: Recorder,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The replicas.
    pub admin: Arc<dyn ReplicaAdmin>,
    /// What replicas say.
    pub supervisor: Arc<Supervisor>,
    /// Image of stores that name none, when they are created.
    pub default_image: String,
    /// How much longer this operator waits than the one that holds the lease, before it takes
    /// the lead from a leader that is gone.
    pub standby_delay: Duration,
    /// What was done before.
    pub memory: Memory,
}

impl Context {
    /// Publishes an event. One that is lost is only logged: the conditions say the same.
    pub async fn publish(&self, event: &Event, about: &ObjectReference) {
        if let Err(error) = self.recorder.publish(event, about).await {
            tracing::warn!(%error, reason = event.reason, "cannot publish an event");
        }
    }

    /// Forgets a store that is gone.
    pub fn forget(&self, store: &StoreKey) {
        self.supervisor.forget(store);
        self.memory.stores.lock().remove(store);
    }
}

/// What was done before, by store.
#[derive(Default)]
pub struct Memory {
    stores: Mutex<HashMap<StoreKey, StoreMemory>>,
}

/// What was done for one store.
#[derive(Default)]
struct StoreMemory {
    told: BTreeMap<u32, Telling>,
    held: BTreeMap<ReplicaId, Held>,
    witnessed: Option<Witnessed>,
    /// UIDs of the claims of Pods, by the Pods' UIDs.
    claims: BTreeMap<String, String>,
    applied: BTreeMap<ChildKey, Applied>,
    campaign: Option<Instant>,
    switchover: Option<Instant>,
    change: Option<LeaderChange>,
    news: Vec<Event>,
    doubts: BTreeMap<Doubt, Instant>,
    report: Option<Instant>,
    failures: u32,
    /// Versions of the object that this operator wrote, the last ones.
    written: VecDeque<String>,
    /// The last version that somebody else wrote.
    foreign: Option<String>,
}

/// The last change of leader that this operator made.
#[derive(Clone, Debug)]
pub struct LeaderChange {
    /// What is told of it.
    pub record: LastFailover,
    /// Whether the old leader made room by itself.
    pub planned: bool,
    /// When it was noticed that nobody led.
    pub noticed: Instant,
    /// Its end was told.
    pub told: bool,
}

#[derive(Debug)]
struct Telling {
    incarnation: u64,
    assignment: Arc<Assignment>,
    refusal: String,
    at: Instant,
}

/// A child of a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChildKey {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What was applied last.
#[derive(Debug)]
struct Applied {
    hash: u64,
    seen: Seen,
    at: Instant,
}

/// A child as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Rises when what is wanted of it changes; not every kind has one.
    pub generation: Option<i64>,
    /// Changes whenever anything does.
    pub version: Option<String>,
}

impl Seen {
    /// What metadata say.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            generation: meta.generation,
            version: meta.resource_version.clone(),
        }
    }
}

/// What was applied is applied again after this, whatever the watches said.
const APPLIED_TTL: Duration = Duration::from_mins(10);
/// Own writes of an object that are known as such when they are seen.
const WRITTEN: usize = 16;

impl Memory {
    fn with<T>(&self, store: &StoreKey, change: impl FnOnce(&mut StoreMemory) -> T) -> T {
        change(self.stores.lock().entry(store.clone()).or_default())
    }

    /// The most that replicas are known to have had on disk: what the status noted, what was heard since,
    /// and what is heard now.
    pub fn held(
        &self,
        store: &StoreKey,
        noted: BTreeMap<ReplicaId, Held>,
        pods: &BTreeMap<u32, PodView>,
    ) -> BTreeMap<ReplicaId, Held> {
        self.with(store, |memory| {
            let told = pods.values().flat_map(PodView::held);
            let noted = noted.into_iter().map(|(id, held)| (id, held, Epoch(0)));
            for (id, held, cut) in noted.chain(told) {
                let known = memory.held.entry(id).or_default();
                *known = known.join(held, cut);
            }
            memory.held.clone()
        })
    }

    /// The newest register that is known to have been in force.
    pub fn witnessed(&self, store: &StoreKey) -> Option<Witnessed> {
        self.with(store, |memory| memory.witnessed)
    }

    /// Notes it.
    pub fn witness(&self, store: &StoreKey, register: Option<Witnessed>) {
        self.with(store, |memory| memory.witnessed = register);
    }

    /// Fills in which claims the Pods have, which is for good; says whether one of them is not known yet.
    pub fn recall_claims(&self, store: &StoreKey, pods: &mut BTreeMap<u32, PodView>) -> bool {
        self.with(store, |memory| {
            for pod in pods.values_mut() {
                pod.claim = memory.claims.get(&pod.uid).cloned();
            }
            pods.values().any(|pod| pod.claim.is_none())
        })
    }

    /// Notes which claims the Pods have.
    pub fn note_claims(&self, store: &StoreKey, pods: &BTreeMap<u32, PodView>) {
        let known = pods
            .values()
            .filter_map(|pod| Some((pod.uid.clone(), pod.claim.clone()?)));
        self.with(store, |memory| memory.claims = known.collect());
    }

    /// What replicas were told, by ordinal.
    pub fn told(&self, store: &StoreKey) -> BTreeMap<u32, Told> {
        self.with(store, |memory| {
            let told = memory.told.iter().map(|(ordinal, telling)| {
                let told = Told {
                    incarnation: telling.incarnation,
                    assignment: Arc::clone(&telling.assignment),
                    refusal: telling.refusal.clone(),
                    age: telling.at.elapsed(),
                };
                (*ordinal, told)
            });
            told.collect()
        })
    }

    /// Notes what a replica was told, and what it answered.
    pub fn tell(
        &self,
        store: &StoreKey,
        ordinal: u32,
        incarnation: u64,
        assignment: &Arc<Assignment>,
        refusal: String,
    ) {
        let telling = Telling {
            incarnation,
            assignment: Arc::clone(assignment),
            refusal,
            at: Instant::now(),
        };
        self.with(store, |memory| memory.told.insert(ordinal, telling));
    }

    /// Time since promises were last asked for.
    pub fn since_campaign(&self, store: &StoreKey) -> Option<Duration> {
        self.with(store, |memory| memory.campaign.map(|at| at.elapsed()))
    }

    /// Notes that promises are asked for.
    pub fn campaign(&self, store: &StoreKey) {
        self.with(store, |memory| memory.campaign = Some(Instant::now()));
    }

    /// Time since a leader was last asked to make room, if it did not.
    pub fn since_switchover(&self, store: &StoreKey) -> Option<Duration> {
        self.with(store, |memory| memory.switchover.map(|at| at.elapsed()))
    }

    /// Notes that a leader did not make room, or that it did.
    pub fn switchover(&self, store: &StoreKey, refused: bool) {
        self.with(store, |memory| {
            memory.switchover = refused.then(Instant::now);
        });
    }

    /// The last change of leader that was made here.
    pub fn change(&self, store: &StoreKey) -> Option<LeaderChange> {
        self.with(store, |memory| memory.change.clone())
    }

    /// Notes a change of leader, or how it went on.
    pub fn changed(&self, store: &StoreKey, change: LeaderChange) {
        self.with(store, |memory| memory.change = Some(change));
    }

    /// Keeps an event until there is time to publish it.
    pub fn tell_later(&self, store: &StoreKey, event: Event) {
        self.with(store, |memory| memory.news.push(event));
    }

    /// Takes the events that were kept.
    pub fn news(&self, store: &StoreKey) -> Vec<Event> {
        self.with(store, |memory| std::mem::take(&mut memory.news))
    }

    /// Notes what looks wrong now; answers for how long each has done so.
    pub fn doubts(&self, store: &StoreKey, doubts: &BTreeSet<Doubt>) -> BTreeMap<Doubt, Duration> {
        self.with(store, |memory| {
            memory.doubts.retain(|doubt, _| doubts.contains(doubt));
            let now = Instant::now();
            let ages = doubts.iter().map(|doubt| {
                let since = *memory.doubts.entry(*doubt).or_insert(now);
                (*doubt, now.duration_since(since))
            });
            ages.collect()
        })
    }

    /// Whether exactly this was applied before, and nobody has touched it since.
    pub fn is_applied(&self, store: &StoreKey, child: &ChildKey, hash: u64) -> bool {
        self.with(store, |memory| {
            let applied = memory.applied.get(child);
            applied.is_some_and(|it| it.hash == hash && it.at.elapsed() < APPLIED_TTL)
        })
    }

    /// Whether this operator has applied this object before.
    pub fn knows(&self, store: &StoreKey, child: &ChildKey) -> bool {
        self.with(store, |memory| memory.applied.contains_key(child))
    }

    /// Notes what was applied, and what came of it.
    pub fn applied(&self, store: &StoreKey, child: ChildKey, hash: u64, seen: Seen) {
        let at = Instant::now();
        self.with(store, |memory| {
            memory.applied.insert(child, Applied { hash, seen, at })
        });
    }

    /// Notes how a child is seen; says whether that is news. It is applied again if anybody has
    /// changed what is wanted of it, which its own controller never does.
    pub fn seen(&self, store: &StoreKey, child: &ChildKey, seen: &Seen) -> bool {
        self.with(store, |memory| {
            let Some(applied) = memory.applied.get(child).map(|applied| &applied.seen) else {
                return true;
            };
            let (echo, touched) = (
                applied.version == seen.version,
                match seen.generation {
                    Some(generation) => applied.generation != Some(generation),
                    None => applied.version != seen.version,
                },
            );
            if touched {
                memory.applied.remove(child);
            }
            !echo
        })
    }

    /// Notes that a child was deleted.
    pub fn deleted(&self, store: &StoreKey, child: &ChildKey) {
        self.with(store, |memory| memory.applied.remove(child));
    }

    /// Notes a version of the object that this operator has made.
    pub fn wrote(&self, store: &StoreKey, version: Option<String>) {
        self.with(store, |memory| {
            memory.written.extend(version);
            let old = memory.written.len().saturating_sub(WRITTEN);
            memory.written.drain(..old);
        });
    }

    /// The last version of the object that somebody else made, as far as it is seen: `version` is there now.
    /// One of our own that is seen before we know that it is one counts as somebody else's, which costs a look.
    pub fn foreign(&self, store: &StoreKey, version: Option<&String>) -> Option<String> {
        self.with(store, |memory| {
            if let Some(version) = version.filter(|it| !memory.written.contains(it)) {
                memory.foreign = Some(version.clone());
            }
            memory.foreign.clone()
        })
    }

    /// Time since the status was last written.
    pub fn since_report(&self, store: &StoreKey) -> Option<Duration> {
        self.with(store, |memory| memory.report.map(|at| at.elapsed()))
    }

    /// Notes that the status is written.
    pub fn reported(&self, store: &StoreKey) {
        self.with(store, |memory| memory.report = Some(Instant::now()));
    }

    /// Notes a failed reconcile; answers how many there were in a row before.
    pub fn failed(&self, store: &StoreKey) -> u32 {
        self.with(store, |memory| {
            memory.failures += 1;
            memory.failures - 1
        })
    }

    /// Notes a reconcile that went well.
    pub fn succeeded(&self, store: &StoreKey) {
        self.with(store, |memory| memory.failures = 0);
    }
}

/// The reference that events about a store go to.
pub fn reference(store: &ReplicatedStore) -> ObjectReference {
    store.object_ref(&())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status may be taken away, or edited, while nothing else happens.
    #[test]
    fn what_somebody_else_writes_is_news() {
        let (memory, store) = (
            Memory::default(),
            StoreKey::of(&crate::operator::testing::store("orders")),
        );
        let seen = |version: &str| memory.foreign(&store, Some(&version.to_owned()));
        let first = seen("10");
        memory.wrote(&store, Some("11".into()));
        memory.wrote(&store, Some("12".into()));
        assert_eq!(seen("11"), first, "our own");
        assert_eq!(seen("12"), first, "our own");
        let edited = seen("13");
        assert_ne!(edited, first, "somebody's");
        memory.wrote(&store, Some("14".into()));
        assert_eq!(seen("14"), edited);
        for version in 20..60 {
            memory.wrote(&store, Some(version.to_string()));
            assert_eq!(seen(&version.to_string()), edited);
        }
    }

    fn seen(generation: Option<i64>, version: &str) -> Seen {
        Seen {
            generation,
            version: Some(version.to_owned()),
        }
    }

    #[test]
    fn what_somebody_has_touched_is_applied_again() {
        let (memory, store) = (
            Memory::default(),
            StoreKey {
                namespace: "shop".into(),
                name: "orders".into(),
            },
        );
        let child = ChildKey {
            kind: "StatefulSet".into(),
            name: "orders".into(),
        };
        memory.applied(&store, child.clone(), 7, seen(Some(1), "10"));
        assert!(
            !memory.seen(&store, &child, &seen(Some(1), "10")),
            "our own write"
        );
        assert!(
            memory.seen(&store, &child, &seen(Some(1), "11")),
            "its status is news"
        );
        assert!(
            memory.is_applied(&store, &child, 7),
            "and nothing to put right"
        );
        assert!(
            !memory.is_applied(&store, &child, 8),
            "something else is wanted"
        );
        assert!(memory.seen(&store, &child, &seen(Some(2), "12")));
        assert!(
            !memory.is_applied(&store, &child, 7),
            "somebody has changed it"
        );
        memory.applied(&store, child.clone(), 7, seen(None, "10"));
        assert!(memory.seen(&store, &child, &seen(None, "11")));
        assert!(
            !memory.is_applied(&store, &child, 7),
            "without a generation, any change counts"
        );
        memory.applied(&store, child.clone(), 7, seen(None, "12"));
        memory.deleted(&store, &child);
        assert!(!memory.is_applied(&store, &child, 7));
    }
}
