//! Pods go and come back; what was acknowledged stays.

use replicated_store::replication::admin::ReplicaStatus;
use serde_json::json;

use crate::support::history::History;
use crate::support::wait::expect;
use crate::support::{Gate, Load, Store, World, Writer, run, secs, writer};

/// Goal: a follower that only restarted goes on from its own log.
/// Method: under writes, a follower's Pod is deleted. It comes back under the same id without ever
/// being seeded, no write at the leader fails meanwhile, those through the Service go on though some of their
/// connections end with the follower, and all data is the same in the end.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_follower_comes_back_without_a_seed() {
    run("follower-restart", Gate::Shared, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        writer::fill(&store.leader_service().await, "old", 10_000, 100).await;
        let follower = store.followers().await.remove(0);
        let before = store.replica(&follower).await.expect("its status");
        let replica = History::<ReplicaStatus>::of_replica(&store, &follower);
        let writer = Writer::start(&store.leader_host().await, "new", Load::LIGHT);
        let through = Writer::start(&store.leader_service().await, "through", Load::LIGHT);
        writer.acknowledges(200, secs(20)).await;
        through.acknowledges(200, secs(20)).await;

        store.replace_pods(&[&follower], secs(120)).await;
        store.becomes_ready(secs(60)).await;
        writer.acknowledges(200, secs(20)).await;
        through.acknowledges(200, secs(20)).await;
        let (written, through) = (writer.stop().await, through.stop().await);

        assert!(
            written.errors.is_empty(),
            "writes failed: {:?}",
            written.errors
        );
        let after = store.replica(&follower).await.expect("its status");
        assert_eq!(after.id, before.id, "it has lost its data directory");
        assert_ne!(
            after.incarnation, before.incarnation,
            "it was not restarted"
        );
        assert!(
            !replica.was_seeded(),
            "it was seeded anew: {:?}",
            replica.states()
        );
        assert_eq!(
            after.epoch, before.epoch,
            "the leader changed for no reason"
        );
        store.same_data().await;
        through.all_at(&store.host(&follower).await).await;
    });
}

/// Goal: the leader's Pod may go at any time, and nothing that was acknowledged is lost.
/// Method: see [`replace`].
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_leader_comes_back_with_a_new_epoch() {
    run("leader-restart", Gate::Shared, async |world: &World| {
        replace(world, async |store| vec![store.leader().await]).await;
    });
}

/// Goal: all Pods may go at once, and nothing that was acknowledged is lost.
/// Method: see [`replace`].
#[test]
#[ignore = "needs a cluster: make e2e"]
fn all_pods_come_back_with_a_new_epoch() {
    run("all-restart", Gate::Shared, async |world: &World| {
        replace(world, async |_| {
            (0..3).map(|ordinal| format!("store-{ordinal}")).collect()
        })
        .await;
    });
}

/// Under writes, the `chosen` Pods of a store of three are deleted at once. They come back, there is
/// a leader with a higher epoch, writers go on, every acknowledged write is there, and all replicas
/// hold the same.
async fn replace(world: &World, chosen: impl AsyncFnOnce(&Store<'_>) -> Vec<String>) {
    let store = Store::ready(world, 3, &json!({})).await;
    let before = store.status().await.epoch;
    let writer = Writer::start(&store.leader_service().await, "key", Load::LIGHT);
    writer.acknowledges(1000, secs(30)).await;

    let pods = chosen(&store).await;
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    store.replace_pods(&pods, secs(120)).await;
    store
        .shows(secs(60), "there is a new epoch", |status| {
            expect(status.epoch > before, || format!("epoch {}", status.epoch))
        })
        .await;
    store.becomes_ready(secs(90)).await;
    writer.acknowledges(1000, secs(30)).await;
    let written = writer.stop().await;

    written.all_at(&store.leader_service().await).await;
    store.same_data().await;
}
