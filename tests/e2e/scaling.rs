//! A store grows while it is in use.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use replicated_store::api::{MemberState, ReplicatedStore};
use replicated_store::replication::admin::{ReplicaState, ReplicaStatus};
use serde_json::json;

use crate::support::history::History;
use crate::support::{Gate, Load, Store, World, Writer, run, secs, writer};

/// No write may wait longer than this for a seed.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Goal: a follower that is added under load costs the writers nothing, and serves nobody before it
/// has all that they wrote.
/// Method: a store of three with some data is scaled to four by `kubectl scale` while clients write;
/// a seed that is slowed down makes its states visible. No write fails or waits long; the new
/// replica goes Seeding, CatchingUp, Streaming; its Pod is Ready only after that; in the end all
/// four have the same digest, and the new one has every acknowledged write.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_follower_is_added_under_load() {
    run("scaling", Gate::Alone, async |world: &World| {
        let slow = json!({"seeding": {"maxBandwidth": "8Mi"}});
        let store = Store::ready(world, 3, &slow).await;
        let leader = store.leader_service().await;
        writer::fill(&leader, "old", 60_000, 1000).await;

        let versions = History::<ReplicatedStore>::of_store(&store).await;
        let replica = History::<ReplicaStatus>::of_replica(&store, "store-3");
        let pod = History::<Pod>::of_pod(&store, "store-3");
        let writer = Writer::start(&leader, "new", Load::LIGHT);
        writer.acknowledges(500, secs(20)).await;
        store.scale(4).await;
        store.becomes_ready(secs(180)).await;
        writer.acknowledges(500, secs(20)).await;
        let written = writer.stop().await;

        assert!(
            written.errors.is_empty(),
            "writes failed: {:?}",
            written.errors
        );
        assert!(
            written.longest_wait < LONGEST_WAIT,
            "a write took {:?}",
            written.longest_wait
        );

        let states = replica.states();
        let told = versions.states_of("store-3");
        assert_eq!(
            states
                .iter()
                .filter(|state| **state != ReplicaState::Pending)
                .collect::<Vec<_>>(),
            [
                &ReplicaState::Seeding,
                &ReplicaState::CatchingUp,
                &ReplicaState::Streaming
            ],
            "what the new replica said of itself"
        );
        assert!(
            told.contains(&MemberState::Seeding),
            "the status told {told:?}"
        );
        assert_eq!(
            told.last(),
            Some(&MemberState::Streaming),
            "the status told {told:?}"
        );
        // The Pod is Ready when its replica says so; which of the two is seen first is chance.
        let early =
            |status: &ReplicaStatus| status.ready && status.state != ReplicaState::Streaming;
        assert_eq!(
            replica.first(early),
            None,
            "it was ready before it had caught up"
        );
        assert!(pod.first_ready().is_some(), "the Pod was never seen Ready");

        store.same_data().await;
        written.all_at(&store.host("store-3").await).await;
    });
}

/// Goal: two followers are seeded at once.
/// Method: a store of one with some data is scaled to three; both new replicas are seen Seeding at
/// the same time, and all end with the same digest.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn two_followers_are_seeded_at_once() {
    run("scaling-by-two", Gate::Shared, async |world: &World| {
        let slow = json!({"seeding": {"maxBandwidth": "8Mi"}});
        let store = Store::ready(world, 1, &slow).await;
        writer::fill(&store.leader_service().await, "old", 50_000, 1000).await;
        store.scale(3).await;
        store
            .shows(secs(90), "two members are Seeding", |status| {
                let states: Vec<_> = status.members.iter().map(|member| member.state).collect();
                let seeding = states
                    .iter()
                    .filter(|state| **state == MemberState::Seeding);
                if seeding.count() == 2 {
                    Ok(())
                } else {
                    Err(format!("{states:?}"))
                }
            })
            .await;
        store.becomes_ready(secs(120)).await;
        store.same_data().await;
    });
}
