//! The chart gives a store, and the store takes writes.

use replicated_store::api::Phase;
use serde_json::json;

use crate::support::client::{connect, get_all};
use crate::support::{Gate, Store, World, run, writer};

/// Goal: `helm install` and one object are all that it takes to have a replicated store.
/// Method: the chart is installed; a store of three is created and waited for; a Redis client writes
/// 100,000 keys through the leader's Service; the digests of all three replicas at one LSN are equal,
/// and every Service gives what was written.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_store_of_three_holds_100000_writes_on_all_three() {
    const KEYS: u64 = 100_000;
    run("installation", Gate::Shared, async |world: &World| {
        let store = Store::ready(world, 3, &json!({})).await;
        writer::fill(&store.leader_service().await, "key", KEYS, 100).await;

        let digest = store.same_data().await;
        assert_eq!(digest.keys, KEYS);
        for service in ["", "leader", "followers"] {
            let mut connection = connect(&store.service(service).await).await;
            let keys: Vec<String> = (0..1000).map(|n| format!("key:{}", n * 97)).collect();
            let values = get_all(&mut connection, &keys).await.expect("values");
            assert!(
                values.iter().all(Option::is_some),
                "Service {service:?} lacks keys"
            );
        }
        let status = store.becomes_ready(crate::support::secs(30)).await;
        assert_eq!(status.phase, Phase::Healthy);
        assert_eq!(status.ready, "3/3");
    });
}

/// Goal: a client works on whatever replica it has found.
/// Method: SET on a follower's own address; the value is read there and at the leader.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_follower_hands_writes_to_the_leader() {
    run("forwarding", Gate::Shared, async |world: &World| {
        let store = Store::ready(world, 2, &json!({})).await;
        let followers = store.followers().await;
        let follower = store.host(followers.first().expect("a follower")).await;
        let leader = store.host(&store.leader().await).await;
        let mut connection = connect(&follower).await;
        let set = redis::cmd("SET")
            .arg("key")
            .arg("value")
            .exec_async(&mut connection)
            .await;
        set.expect("the leader takes the write");
        for mut connection in [connection, connect(&leader).await] {
            let value: Result<String, _> = redis::cmd("GET")
                .arg("key")
                .query_async(&mut connection)
                .await;
            assert_eq!(value.as_deref(), Ok("value"));
        }
    });
}
