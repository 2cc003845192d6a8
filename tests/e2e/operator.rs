//! The operator may go at any time: a new one goes on, and no replica notices.

use replicated_store::api::ReplicatedStoreStatus;
use replicated_store::replication::admin::ReplicaState;
use serde_json::json;

use crate::support::wait::expect;
use crate::support::{
    Gate, Load, Store, World, Writer, eventually, installation, run, secs, writer,
};

/// Goal: an operator that is killed while a store grows leaves nothing half done.
/// Method: both operator Pods are killed again and again while a store is scaled from two to three:
/// at once, when the Pod is there, while it is seeded, and when it streams.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn it_is_killed_while_a_follower_is_added() {
    run("operator-scaling", Gate::Alone, async |world: &World| {
        let slow = json!({"seeding": {"maxBandwidth": "4Mi"}});
        let store = Store::ready(world, 2, &slow).await;
        let service = store.leader_service().await;
        writer::fill(&service, "old", 30_000, 1000).await;
        let writer = Writer::start(&service, "new", Load::LIGHT);

        store.scale(3).await;
        installation::kill(&world.client).await;
        eventually(secs(120), "the new Pod is there", async || {
            expect(store.pods().await.len() == 3, || "two Pods".to_owned())
        })
        .await;
        installation::kill(&world.client).await;
        for wanted in [ReplicaState::Seeding, ReplicaState::Streaming] {
            eventually(
                secs(120),
                &format!("the new replica is {wanted:?} or further"),
                async || {
                    let state = store.replica("store-2").await?.state;
                    let far = state == wanted || state == ReplicaState::Streaming;
                    expect(far, || format!("{state:?}"))
                },
            )
            .await;
            installation::kill(&world.client).await;
        }

        store.becomes_ready(secs(120)).await;
        let written = writer.stop().await;
        assert!(
            written.errors.is_empty(),
            "writes failed: {:?}",
            written.errors
        );
        store.same_data().await;
        installation::available(&world.client, secs(60)).await;
    });
}

/// Goal: an operator that is killed while it makes a leader leaves a store with one leader.
/// Method: the leader's Pod is deleted, and both operator Pods are killed at once, when the Pod is
/// back, and when the epoch has changed. In the end there is a leader with a new epoch, and every
/// acknowledged write.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn it_is_killed_while_a_leader_restarts() {
    run("operator-leader", Gate::Alone, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        let service = store.leader_service().await;
        let (leader, before) = (store.leader().await, store.status().await.epoch);
        let writer = Writer::start(&service, "key", Load::LIGHT);
        writer.acknowledges(400, secs(20)).await;

        store
            .kubectl(&["delete", "pod", &leader, "--wait=false"])
            .await;
        installation::kill(&world.client).await;
        eventually(secs(90), "the leader's process is back", async || {
            store.replica(&leader).await.map(drop)
        })
        .await;
        installation::kill(&world.client).await;
        let new_epoch = |status: &ReplicatedStoreStatus| {
            expect(status.epoch > before, || format!("epoch {}", status.epoch))
        };
        store
            .shows(secs(120), "there is a new epoch", new_epoch)
            .await;
        installation::kill(&world.client).await;

        store.becomes_ready(secs(120)).await;
        writer.acknowledges(400, secs(30)).await;
        let written = writer.stop().await;
        written.all_at(&service).await;
        store.same_data().await;
        installation::available(&world.client, secs(60)).await;
    });
}

/// Goal: an operator that restarts, as at its upgrade, changes no replica.
/// Method: its Deployment is rolled while clients write; then a setting that needs no restart is
/// changed, so that the new operator has surely acted on the store. Pods, their containers and the
/// StatefulSet's template are as before, and no write failed.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn its_restart_changes_no_pod() {
    run("operator-restart", Gate::Alone, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        let before = store.fingerprint().await;
        let epoch = store.status().await.epoch;
        let writer = Writer::start(&store.leader_service().await, "key", Load::LIGHT);

        installation::restart(&world.client).await;
        store
            .change(&json!({"replication": {"maxLag": "8Mi"}}))
            .await;
        let status = store.becomes_ready(secs(90)).await;
        let written = writer.stop().await;

        assert_eq!(store.fingerprint().await, before);
        assert_eq!(status.epoch, epoch, "the leader changed for no reason");
        assert!(
            written.errors.is_empty(),
            "writes failed: {:?}",
            written.errors
        );
    });
}
