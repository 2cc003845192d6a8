//! Volumes are lost; the data is not, as long as another replica has it.

use replicated_store::replication::admin::{ReplicaStatus, Role};
use serde_json::json;

use crate::support::history::History;
use crate::support::wait::expect;
use crate::support::{Gate, Load, Store, World, Writer, run, secs, writer};

const KEYS: u64 = 10_000;

/// Goal: a follower without its volume is a new follower.
/// Method: under writes, a follower's volume claim and Pod are deleted. It comes back under another
/// id, is seeded, no write at the leader fails, and all data is the same in the end.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_follower_that_lost_its_volume_is_seeded_anew() {
    run("follower-volume", Gate::Shared, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        let leader = store.leader_service().await;
        writer::fill(&leader, "old", KEYS, 100).await;
        let follower = store.followers().await.remove(0);
        let before = store.replica(&follower).await.expect("its status");
        let writer = Writer::start(&store.leader_host().await, "new", Load::LIGHT);
        writer.acknowledges(200, secs(20)).await;

        store.lose_volume(&follower).await;
        store
            .shows(
                secs(120),
                "the follower is known under its new id",
                |status| {
                    let ids: Vec<_> = status.members.iter().map(|member| &member.id).collect();
                    let known = ids
                        .iter()
                        .all(|id| !id.is_empty() && **id != before.id.to_string());
                    expect(known, || format!("{ids:?}"))
                },
            )
            .await;
        store.becomes_ready(secs(120)).await;
        writer.acknowledges(200, secs(20)).await;
        let written = writer.stop().await;

        assert!(
            written.errors.is_empty(),
            "writes failed: {:?}",
            written.errors
        );
        let seeds = store.metric(&follower, "seeds_total").await;
        assert!(seeds >= 1.0, "it was not seeded");
        store.same_data().await;
        written.all_at(&store.host(&follower).await).await;
    });
}

/// Goal: an empty replica never leads a store that has data.
/// Method: the leader's volume claim and Pod are deleted once the followers have everything. Another
/// replica leads, in a new epoch; the one that is empty now never calls itself leader, and is seeded;
/// no key is lost, and the store takes writes.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_leader_that_lost_its_volume_follows() {
    run("leader-volume", Gate::Shared, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        let service = store.leader_service().await;
        writer::fill(&service, "old", KEYS, 100).await;
        let before = store.same_data().await;
        let (epoch, leader) = (store.status().await.epoch, store.leader().await);
        let old = store.replica(&leader).await.expect("its status").id;
        let replica = History::<ReplicaStatus>::of_replica(&store, &leader);

        store.lose_volume(&leader).await;
        store
            .shows(secs(120), "another replica leads", |status| {
                expect(
                    status.epoch > epoch && !status.leader.is_empty() && status.leader != leader,
                    || format!("leader {:?}, epoch {}", status.leader, status.epoch),
                )
            })
            .await;
        store.becomes_ready(secs(180)).await;

        let led = replica.first(|status| status.id != old && status.role == Role::Leader);
        assert!(led.is_none(), "the empty replica led");
        let seeds = store.metric(&leader, "seeds_total").await;
        assert!(seeds >= 1.0, "it was not seeded");
        let after = store.same_data().await;
        assert_eq!((after.keys, after.digest), (before.keys, before.digest));
        let writer = Writer::start(&service, "new", Load::LIGHT);
        writer.acknowledges(200, secs(20)).await;
        writer.stop().await.all_at(&service).await;
    });
}
