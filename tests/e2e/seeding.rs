//! Seeds that are cut get there all the same.

use replicated_store::replication::admin::ReplicaStatus;
use serde_json::json;

use crate::support::history::History;
use crate::support::wait::expect;
use crate::support::{Gate, Store, World, eventually, fault, run, secs, writer};

/// Goal: the end of the seed's source in the middle of it does no harm.
/// Method: see [`cut`]; the leader is killed.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_source_is_killed_half_way() {
    run("seed-source", Gate::Shared, async |world: &World| {
        cut(world, "store-0").await;
    });
}

/// Goal: the end of the seeded replica in the middle of it does no harm.
/// Method: see [`cut`]; the new replica is killed.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_target_is_killed_half_way() {
    run("seed-target", Gate::Shared, async |world: &World| {
        cut(world, "store-1").await;
    });
}

/// A store of one with some data is scaled to two, with a seed slow enough (15 s) to be met half-way;
/// there the process in `victim` gets SIGKILL. The new replica becomes ready by itself, with all the
/// data.
async fn cut(world: &World, victim: &str) {
    const KEYS: u64 = 30_000;
    let slow = json!({"seeding": {"maxBandwidth": "2Mi"}});
    let store = Store::ready(world, 1, &slow).await;
    writer::fill(&store.leader_service().await, "key", KEYS, 1000).await;
    store.scale(2).await;
    eventually(secs(90), "the seed is half done", async || {
        let status = store.replica("store-1").await?;
        let seed = status
            .seed
            .ok_or_else(|| format!("no seed, state {:?}", status.state))?;
        let percent = seed.bytes * 100 / seed.total_bytes.max(1);
        assert!(percent < 90, "the seed was too fast to be met half-way");
        expect(percent >= 40, || format!("{percent} %"))
    })
    .await;

    let before = store.replica(victim).await.expect("its status").incarnation;
    fault::signal(world, victim, "SIGKILL").await;
    eventually(secs(60), "the process was started again", async || {
        let now = store.replica(victim).await?.incarnation;
        expect(now != before, || "no restart yet".to_owned())
    })
    .await;
    store
        .change(&json!({"seeding": {"maxBandwidth": ""}}))
        .await;
    store.becomes_ready(secs(180)).await;
    assert_eq!(store.same_data().await.keys, KEYS);
}

/// Goal: a seed can be watched: from where, how far, since when.
/// Method: during a slow seed, status and the replica's own word show its source and a percentage
/// that only rises.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_seed_shows_its_progress() {
    run("seed-progress", Gate::Shared, async |world: &World| {
        let slow = json!({"seeding": {"maxBandwidth": "4Mi"}});
        let store = Store::ready(world, 1, &slow).await;
        writer::fill(&store.leader_service().await, "key", 40_000, 1000).await;
        let replica = History::<ReplicaStatus>::of_replica(&store, "store-1");
        store.scale(2).await;
        let seed = store
            .shows(secs(90), "the status shows a seed under way", |status| {
                let seed = status.members.iter().find_map(|member| member.seed.clone());
                let seed = seed.ok_or_else(|| format!("{:?}", status.members))?;
                expect(seed.percent > 0 && seed.percent < 100, || {
                    format!("{seed:?}")
                })?;
                Ok(seed)
            })
            .await;
        assert_eq!(seed.from, "store-0");
        assert!(seed.bytes > 0 && seed.started_at.is_some(), "{seed:?}");
        store.becomes_ready(secs(120)).await;
        let copied: Vec<u64> = replica.sequence(|status| Some(status.seed.as_ref()?.bytes));
        assert!(copied.len() > 3, "progress was told only at {copied:?}");
        assert!(copied.is_sorted(), "progress went back: {copied:?}");
    });
}
