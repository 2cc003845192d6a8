//! Wiring: the lease, the watches, the workers, and how all of it stops.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, future, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{self, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::predicates;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{PredicateConfig, WatchStreamExt};
use kube::{Client, Config, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::context::{ChildKey, Context, Memory, Seen, StoreKey};
use super::error::causes;
use super::http::{self, Health, Readiness};
use super::lease::{Contender, LeaseError};
use super::metrics::Metrics;
use super::reconcile::{reconcile, retry};
use super::replica_client::{HttpAdmin, ReplicaAdmin};
use super::standby;
use super::supervisor::Supervisor;
use super::supervisor::wake::Wake;
use crate::api::{ReplicatedStore, labels};

/// Stores that are reconciled at the same time. A promotion waits for disks, so one slow store
/// must not hold up the others; the API server need not see them all at once.
const CONCURRENCY: u16 = 16;
/// Between two looks for the definition of the custom resource.
const CRD_PERIOD: Duration = Duration::from_secs(3);

type Guarded = DeserializeGuard<ReplicatedStore>;

/// How an operator is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace of the stores; empty for all.
    pub namespace: String,
    /// Image of stores that name none, when they are created.
    pub default_image: String,
    /// Where probes and metrics are served.
    pub listen_http: SocketAddr,
    /// Namespace of the lease; empty for the client's own.
    pub lease_namespace: String,
    /// This process among several operators.
    pub identity: String,
    /// Whether there may be several operators at all.
    pub leader_election: bool,
}

/// Why an operator ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No cluster to talk to.
    #[error("no cluster: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client cannot be made.
    #[error("cannot talk to the cluster: {0}")]
    Client(#[source] Box<kube::Error>),
    /// Probes and metrics cannot be served.
    #[error("cannot serve probes and metrics: {0}")]
    Http(#[from] std::io::Error),
    /// Another operator is at work, or may be soon.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

impl From<kube::Error> for RunError {
    fn from(error: kube::Error) -> Self {
        Self::Client(Box::new(error))
    }
}

/// Runs until `stop`.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), RunError> {
    let config = Config::infer().await?;
    let client = Client::try_from(config.clone())?;
    let wake = Arc::new(Wake::default());
    let admin: Arc<dyn ReplicaAdmin> = Arc::new(HttpAdmin);
    let supervisor = Arc::new(Supervisor::new(Arc::clone(&admin), Arc::clone(&wake)));
    let metrics = Arc::new(Metrics::new(Arc::clone(&supervisor)));
    let health = Health::new(Arc::clone(&metrics));
    let reporter = Reporter {
        controller: labels::MANAGER.to_owned(),
        instance: Some(options.identity.clone()),
    };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        metrics,
        admin,
        supervisor,
        default_image: options.default_image.clone(),
        standby_delay: standby::DELAY + jitter(&options.identity),
        memory: Memory::default(),
    });
    // Probes are answered to the very end: a Pod that drains is alive.
    let served = CancellationToken::new();
    let http = http::serve(options.listen_http, health.clone(), served.clone());
    let work = async {
        let result = elect(&options, config, context, wake, &health, &stop).await;
        served.cancel();
        result
    };
    let (http, work) = tokio::join!(
        async {
            let result = http.await;
            // Without probes it is of no use.
            stop.cancel();
            result
        },
        work
    );
    work?;
    Ok(http?)
}

/// Works while the lease is ours.
async fn elect(
    options: &Options,
    mut config: Config,
    context: Arc<Context>,
    wake: Arc<Wake>,
    health: &Health,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    if !options.leader_election {
        work(options, context, wake, health, stop.clone()).await;
        return Ok(());
    }
    let namespace = match options.lease_namespace.as_str() {
        "" => config.default_namespace.clone(),
        namespace => namespace.to_owned(),
    };
    // Time is short for a lease: a retry that nobody counts could outlast it.
    config.default_retry = false;
    let client = Client::try_from(config)?;
    let mut contender = Contender::new(client, &namespace, options.identity.clone());
    health.set(Readiness::Standby);
    tracing::info!(
        identity = options.identity,
        namespace,
        "waiting for the lease"
    );
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        () = contender.acquire() => {}
        // Whatever of it is dropped half-way is carried through by whoever comes next.
        () = stand_by(options, &context, &wake) => {}
    }
    tracing::info!("the lease is ours");
    // Renewed until the last reconcile has ended, whatever happens first.
    let drained = CancellationToken::new();
    let stop_work = stop.child_token();
    let working = async {
        work(options, context, wake, health, stop_work.clone()).await;
        drained.cancel();
    };
    let mut working = std::pin::pin!(working);
    let held = tokio::select! {
        held = contender.hold(&drained) => held,
        () = &mut working => Ok(()),
    };
    match held {
        Ok(()) => {
            contender.release().await;
            Ok(())
        }
        Err(error) => {
            // What runs is dropped where it stands: another operator may be at work by now.
            health.set(Readiness::Waiting(error.to_string()));
            Err(error.into())
        }
    }
}

/// Looks after the lead of every store, for ever.
async fn stand_by(options: &Options, context: &Arc<Context>, wake: &Arc<Wake>) {
    let (reader, writer) = reflector::store();
    let stores = watcher(
        scoped::<Guarded>(&context.client, &options.namespace),
        watcher::Config::default(),
    )
    .default_backoff()
    .modify(prune)
    .reflect(writer)
    .inspect(forget(Arc::clone(context)))
    .touched_objects()
    .predicate_filter(predicates::generation, PredicateConfig::default());
    let config = controller::Config::default().concurrency(CONCURRENCY);
    Controller::for_stream(stores, reader)
        .with_config(config)
        .reconcile_on(touched::<Pod>(context, &options.namespace))
        .reconcile_on(Arc::clone(wake).stream().map(|key| key.object_ref()))
        .run(standby::reconcile, standby::retry, Arc::clone(context))
        .for_each(|_| future::ready(()))
        .await;
    future::pending::<()>().await;
}

/// Up to half a second, another one for each operator.
fn jitter(identity: &str) -> Duration {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    Duration::from_millis(hasher.finish() % 500)
}

/// Reconciles until `stop`, and drains.
async fn work(
    options: &Options,
    context: Arc<Context>,
    wake: Arc<Wake>,
    health: &Health,
    stop: CancellationToken,
) {
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = wait_for_definition(&context.client, &options.namespace, health) => {}
    }
    health.set(Readiness::Working);
    let client = &context.client;
    let (reader, writer) = reflector::store();
    let stores = watcher(
        scoped::<Guarded>(client, &options.namespace),
        watcher::Config::default(),
    )
    .default_backoff()
    .modify(prune)
    .reflect(writer)
    .inspect(forget(Arc::clone(&context)))
    .touched_objects()
    .predicate_filter(written_by_others(&context), PredicateConfig::default());
    let config = controller::Config::default().concurrency(CONCURRENCY);
    let controller = Controller::for_stream(stores, reader)
        .with_config(config)
        .reconcile_on(children(&context, &options.namespace))
        .reconcile_on(wake.stream().map(|key| key.object_ref()))
        .graceful_shutdown_on(stop.cancelled_owned());
    tracing::info!("at work");
    let done = controller.run(reconcile, retry, Arc::clone(&context));
    done.for_each(|result| {
        if let Err(error) = result {
            outcome(&context, &error);
        }
        future::ready(())
    })
    .await;
    tracing::info!("drained");
}

/// A failed reconcile has been logged by [`retry`]; what is left is about the controller itself.
fn outcome<E, Q>(context: &Context, error: &controller::Error<E, Q>)
where
    E: std::error::Error,
    Q: std::error::Error,
{
    match error {
        controller::Error::ReconcilerFailed(..) => {}
        controller::Error::ObjectNotFound(object) => {
            // Its children go after it; each that does asks for it once more.
            context.forget(&StoreKey {
                namespace: object.namespace.clone().unwrap_or_default(),
                name: object.name.clone(),
            });
        }
        error => tracing::warn!(error = causes(error), "a watch failed, and is begun again"),
    }
}

/// What a reconcile reads anew anyway need not be kept.
fn prune(object: &mut Guarded) {
    object.managed_fields_mut().clear();
    if let Ok(store) = &mut object.0 {
        store.status = None;
    }
}

/// What makes a change of a store news: our own writes of its status do not, those of others do.
fn written_by_others(context: &Arc<Context>) -> impl Fn(&Guarded) -> Option<u64> + use<> {
    let context = Arc::clone(context);
    move |object| {
        let meta = object.meta();
        let version = meta.resource_version.as_ref();
        let foreign = context.memory.foreign(&StoreKey::of(object), version);
        let mut hasher = DefaultHasher::new();
        (meta.generation, foreign).hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// Forgets stores that are deleted.
fn forget(context: Arc<Context>) -> impl FnMut(&watcher::Result<Event<Guarded>>) {
    move |event| {
        if let Ok(Event::Delete(object)) = event {
            context.forget(&StoreKey::of(object));
        }
    }
}

/// Waits until the custom resource is defined, and says so while it is not.
async fn wait_for_definition(client: &Client, namespace: &str, health: &Health) {
    let api: Api<PartialObjectMeta<ReplicatedStore>> = scoped(client, namespace);
    let one = ListParams::default().limit(1);
    loop {
        match api.list(&one).await {
            Ok(_) => return,
            Err(error) => {
                let error = causes(&error);
                let why = format!(
                    "cannot list replicatedstores.{}: {error}",
                    crate::api::GROUP
                );
                tracing::warn!("{why}; is the CustomResourceDefinition installed?");
                health.set(Readiness::Waiting(why));
            }
        }
        tokio::time::sleep(CRD_PERIOD).await;
    }
}

fn scoped<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    if namespace.is_empty() {
        Api::all(client.clone())
    } else {
        Api::namespaced(client.clone(), namespace)
    }
}

/// The stores whose children somebody else has touched.
fn children(
    context: &Arc<Context>,
    namespace: &str,
) -> impl Stream<Item = ObjectRef<Guarded>> + Send + 'static + use<> {
    stream::select_all([
        touched::<StatefulSet>(context, namespace).boxed(),
        touched::<Service>(context, namespace).boxed(),
        touched::<ConfigMap>(context, namespace).boxed(),
        touched::<ServiceAccount>(context, namespace).boxed(),
        touched::<PodDisruptionBudget>(context, namespace).boxed(),
        touched::<Pod>(context, namespace).boxed(),
    ])
}

/// Watches children of one kind, by their metadata alone, and only ours.
fn touched<K>(
    context: &Arc<Context>,
    namespace: &str,
) -> impl Stream<Item = ObjectRef<Guarded>> + Send + 'static + use<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + Send + Sync + 'static,
{
    let api: Api<PartialObjectMeta<K>> = scoped(&context.client, namespace);
    let config = watcher::Config::default().labels(&labels::managed());
    let context = Arc::clone(context);
    watcher(api, config).default_backoff().filter_map(move |event| {
        let touched = match event {
            Ok(event) => news(&context, event),
            Err(error) => {
                tracing::warn!(%error, kind = %K::kind(&()), "a watch failed, and is begun again");
                None
            }
        };
        future::ready(touched.map(|key| key.object_ref()))
    })
}

/// The store of a child, if this is not just our own write of it.
fn news<K>(context: &Context, event: Event<PartialObjectMeta<K>>) -> Option<StoreKey>
where
    K: Resource<DynamicType = ()>,
{
    let (object, deleted) = match event {
        Event::Apply(object) | Event::InitApply(object) => (object, false),
        Event::Delete(object) => (object, true),
        Event::Init | Event::InitDone => return None,
    };
    let store = StoreKey {
        namespace: object.namespace().unwrap_or_default(),
        name: object.labels().get(labels::APP_INSTANCE)?.clone(),
    };
    let child = ChildKey {
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
    };
    if deleted {
        context.memory.deleted(&store, &child);
        return Some(store);
    }
    let seen = Seen::of(&object.metadata);
    context.memory.seen(&store, &child, &seen).then_some(store)
}
