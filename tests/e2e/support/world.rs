//! The world of one test: a client of the cluster, a namespace of its own, and what is done around
//! the test: install the product once, dump on failure, clean up.

use std::env;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::leadership::is_long;
use super::{dump, installation};

/// Longer takes no test, whatever hangs.
const LIMIT: Duration = Duration::from_mins(10);
/// With `E2E_LONG`.
const LONG: Duration = Duration::from_mins(90);

/// Label of all namespaces of tests.
const MARK: &str = "replicated-store-e2e";

/// Whether a test can run beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It minds nobody.
    Shared,
    /// It measures time, or breaks what others need.
    Alone,
}

static GATE: RwLock<()> = RwLock::new(());
static PREPARED: OnceCell<()> = OnceCell::const_new();

/// What a test acts on.
pub(crate) struct World {
    /// A client with all rights.
    pub(crate) client: Client,
    /// The test's own namespace.
    pub(crate) namespace: String,
}

/// Runs a test in a world of its own.
pub(crate) fn run(name: &str, gate: Gate, test: impl AsyncFnOnce(&World)) {
    let _shared =
        (gate == Gate::Shared).then(|| GATE.read().unwrap_or_else(PoisonError::into_inner));
    let _alone =
        (gate == Gate::Alone).then(|| GATE.write().unwrap_or_else(PoisonError::into_inner));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let world = World::new(name).await;
        let limited = async {
            let limit = if is_long() { LONG } else { LIMIT };
            let done = timeout(limit, test(&world)).await;
            assert!(done.is_ok(), "{name} took more than {limit:?}");
        };
        let outcome = AssertUnwindSafe(limited).catch_unwind().await;
        if outcome.is_err() {
            dump::print(&world, name).await;
        }
        if outcome.is_ok() || env::var("E2E_KEEP").is_err() {
            world.remove().await;
        } else {
            eprintln!("namespace {} is kept", world.namespace);
        }
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    });
}

impl World {
    async fn new(name: &str) -> Self {
        let client = connect().await;
        PREPARED.get_or_init(|| prepare(&client)).await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let prefix = format!("e2e-{name}-");
        let manifest = json!({"metadata": {"generateName": prefix, "labels": {MARK: "true"}}});
        let manifest = serde_json::from_value(manifest).expect("a namespace");
        let created = namespaces.create(&PostParams::default(), &manifest).await;
        let namespace = created.expect("creating a namespace").name_any();
        Self { client, namespace }
    }

    async fn remove(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let deleted = namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await;
        if let Err(error) = deleted {
            eprintln!("deleting namespace {}: {error}", self.namespace);
        }
    }
}

async fn connect() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    assert!(
        env::var("E2E_KUBECONFIG").is_ok_and(|path| env::var("KUBECONFIG") == Ok(path)),
        "these tests change a whole cluster: run them with `make e2e`, which names it"
    );
    Client::try_default()
        .await
        .expect("a client of the cluster that KUBECONFIG names")
}

/// Once: no leftovers of a run that was stopped, and the product is installed.
async fn prepare(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let leftovers = ListParams::default().labels(MARK);
    for namespace in namespaces.list(&leftovers).await.expect("namespaces") {
        let _ = namespaces
            .delete(&namespace.name_any(), &DeleteParams::default())
            .await;
    }
    installation::install(&[]).await;
}
