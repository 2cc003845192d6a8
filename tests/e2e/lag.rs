//! Lag is visible where people look, and costs nothing where there is none.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use replicated_store::api::{ReplicatedStore, ReplicatedStoreStatus};
use serde_json::json;
use tokio::time::timeout;

use crate::support::history::History;
use crate::support::store::{member, restarts};
use crate::support::wait::expect;
use crate::support::{Gate, Load, Store, World, Writer, eventually, fault, run, secs, writer};

/// Goal: whoever looks at the store sees within seconds that a follower is behind, and that it has
/// caught up.
/// Method: a follower's process is stopped while clients write. Within 10 s, status and
/// `kubectl get` show a lag in bytes and in seconds; after SIGCONT, both are 0 again. No write at the leader fails.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_stopped_follower_shows_its_lag() {
    run("lag", Gate::Alone, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        let follower = store.followers().await.remove(0);
        let writer = Writer::start(&store.leader_host().await, "key", Load::LIGHT);
        writer.acknowledges(400, secs(20)).await;

        fault::signal(world, &follower, "SIGSTOP").await;
        store
            .shows(secs(10), "the status shows the follower's lag", |status| {
                let member = member(status, &follower)?;
                expect(member.lag_bytes > 0 && member.lag_seconds > 0, || {
                    format!("{member:?}")
                })?;
                worst(status, |bytes, seconds| bytes > 0 && seconds > 0)
            })
            .await;
        let (seconds, bytes) = columns(&store).await;
        assert!(
            seconds > 0 && bytes > 0,
            "kubectl get shows {seconds} s and {bytes} bytes"
        );

        fault::signal(world, &follower, "SIGCONT").await;
        store
            .shows(secs(20), "the status shows no lag any more", |status| {
                let member = member(status, &follower)?;
                expect(member.lag_bytes == 0 && member.lag_seconds == 0, || {
                    format!("{member:?}")
                })?;
                worst(status, |bytes, seconds| bytes == 0 && seconds == 0)
            })
            .await;
        eventually(secs(10), "kubectl get shows no lag any more", async || {
            let (seconds, bytes) = columns(&store).await;
            expect(seconds == 0 && bytes == 0, || {
                format!("{seconds} s and {bytes} bytes")
            })
        })
        .await;
        assert_eq!(
            restarts(&store.pod(&follower).await),
            0,
            "the follower was restarted"
        );

        let written = writer.stop().await;
        assert!(
            written.errors.is_empty(),
            "writes failed: {:?}",
            written.errors
        );
        store.becomes_ready(secs(60)).await;
        store.same_data().await;
    });
}

fn worst(status: &ReplicatedStoreStatus, holds: impl Fn(i64, i64) -> bool) -> Result<(), String> {
    let (bytes, seconds) = (status.max_lag_bytes, status.max_lag_seconds);
    expect(holds(bytes, seconds), || {
        format!("the worst is {bytes} bytes, {seconds} s")
    })
}

/// The columns LAG and LAG-BYTES of `kubectl get -o wide`.
async fn columns(store: &Store<'_>) -> (u64, u64) {
    let table = store
        .kubectl(&["get", "rstore", &store.name, "-o", "wide"])
        .await;
    let mut rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let (head, row) = (rows.next().expect("a head"), rows.next().expect("a row"));
    let column = |name: &str| {
        let index = head
            .iter()
            .position(|title| *title == name)
            .expect("the column is there");
        row[index]
            .parse()
            .unwrap_or_else(|_| panic!("no number under {name}: {table}"))
    };
    (column("LAG"), column("LAG-BYTES"))
}

/// Goal: a store that nobody uses makes no work for the API server.
/// Method: once the status of a store with data has settled, its lag is 0; then no version of the
/// object appears for 30 s, and its StatefulSet and Services stay as they are.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn an_idle_store_writes_nothing() {
    run("idle", Gate::Shared, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        writer::fill(&store.leader_service().await, "key", 1000, 100).await;
        store.same_data().await;
        let history = History::<ReplicatedStore>::of_store(&store).await;
        eventually(secs(60), "the status has settled", async || {
            expect(unchanged(&history, 10).await, || {
                "it was written within 10 s".to_owned()
            })
        })
        .await;

        let status = store.status().await;
        assert_eq!((status.max_lag_bytes, status.max_lag_seconds), (0, 0));
        let lags = status
            .members
            .iter()
            .map(|member| (member.lag_bytes, member.lag_seconds));
        assert!(
            lags.into_iter().all(|lag| lag == (0, 0)),
            "{:?}",
            status.members
        );
        let before = children(world, &store).await;
        assert!(
            unchanged(&history, 30).await,
            "the object was written: {:?}",
            history.versions()
        );
        assert_eq!(
            children(world, &store).await,
            before,
            "what belongs to the store was written"
        );
    });
}

/// Whether no new version appears for so long.
async fn unchanged(history: &History<ReplicatedStore>, seconds: u64) -> bool {
    let before = history.versions().len();
    let change = eventually(secs(seconds + 10), "a change", async || {
        expect(history.versions().len() > before, String::new)
    });
    timeout(secs(seconds), change).await.is_err()
}

/// Versions of the StatefulSet and the Services.
async fn children(world: &World, store: &Store<'_>) -> Vec<Option<String>> {
    let services: Api<Service> = Api::namespaced(world.client.clone(), &world.namespace);
    let services = services
        .list(&ListParams::default())
        .await
        .expect("Services");
    let mut versions: Vec<_> = services.iter().map(ResourceExt::resource_version).collect();
    versions.push(store.stateful_set().await.resource_version());
    versions
}
