//! A leader that hands over in order: nobody sees an error, nothing is lost.

use kube::api::EvictParams;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::leadership::{synchronous, times};
use crate::support::record::{Outcome, spread};
use crate::support::{Gate, Habit, Sessions, World, run, secs};

/// Goal: the leader can be chosen at any time, under full load: a pause that hardly anybody notices,
/// no error at the one Service, nothing lost.
/// Method: see [`switch`].
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_leader_is_chosen_under_full_load() {
    run("switchover", Gate::Alone, async |world: &World| {
        switch(world, &json!({})).await;
    });
}

/// Goal: the same in asynchronous mode: a switchover loses nothing in any mode.
/// Method: see [`switch`].
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_leader_is_chosen_in_asynchronous_mode() {
    run("switchover-async", Gate::Alone, async |world: &World| {
        switch(world, &json!({"replication": {"mode": "Asynchronous"}})).await;
    });
}

/// While clients of the Service do what they can, `leader.target` names one follower after the other.
/// Each time the pause in acknowledged writes is taken.
async fn switch(world: &World, changes: &Value) {
    let store = synchronous(world, 3, changes).await;
    let failover = store.status().await.last_failover;
    let first = store.reign().await;
    let mut sessions = Sessions::start(&[store.service("").await], Habit::FULL);
    let one = Habit {
        clients: 1,
        ..Habit::FULL
    };
    sessions.also(&store.leader_ports(&first.leader).await, one);
    let begin = Instant::now();
    sessions.acknowledges(5000, secs(60)).await;
    sessions.tell_gap("nothing happens", begin);
    let (mut pauses, mut before) = (Vec::new(), first.clone());
    for _ in 0..times(5, 20) {
        let target = store.some_follower().await;
        let begin = Instant::now();
        store.change(&json!({"leader": {"target": target}})).await;
        let after = store.reign_after(&before, secs(30)).await;
        assert_eq!(
            (after.leader.as_str(), after.epoch),
            (target.as_str(), before.epoch + 1)
        );
        sessions.acknowledges(2000, secs(30)).await;
        pauses.push(sessions.gap(begin));
        store.is_whole().await;
        before = after;
    }
    let record = sessions.stop().await;

    let median = spread(
        "pause of writes at a switchover (goal: 50 ms)",
        "switchover",
        &mut pauses,
    );
    record.nothing_failed();
    record.is_linearizable();
    record.nothing_lost(&store.leader_service().await).await;
    store.same_data().await;
    let last = store.status().await.last_failover;
    assert_eq!(last, failover, "a switchover was taken for a failover");
    assert!(median < secs(1), "{pauses:?}");
}

/// Goal: a leader whose node is drained hands over first.
/// Method: the leader's Pod is evicted as `kubectl drain` does it, under writes and reads. The epoch
/// rises by one, no failover is told, and nothing is lost. Who was connected to that very Pod must
/// connect anew, once; nobody is refused anything, or waits in vain.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_drained_leader_hands_over() {
    run("drain", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let failover = store.status().await.last_failover;
        let before = store.reign().await;
        let clients = 6;
        let habit = Habit {
            clients,
            ..Habit::PATIENT
        };
        let sessions = Sessions::start(&[store.service("").await], habit);
        sessions.acknowledges(300, secs(30)).await;

        let begin = Instant::now();
        let evicted = store
            .pods_api()
            .evict(&before.leader, &EvictParams::default())
            .await;
        assert!(evicted.is_ok(), "{evicted:?}");
        let after = store.reign_after(&before, secs(30)).await;
        assert_ne!(after.leader, before.leader);
        assert_eq!(after.epoch, before.epoch + 1);
        sessions.acknowledges(300, secs(30)).await;
        let pause = sessions.tell_gap("the leader's Pod is evicted", begin);
        store.is_whole().await;
        let record = sessions.stop().await;

        // A closed connection shows at the next operation, or cuts off one.
        let told = |found: &Outcome| match found {
            Outcome::Done => false,
            Outcome::Refused(text) => !text.starts_with("connecting"),
            Outcome::Unknown(text) => text.contains("timed out") || text.contains("ERR"),
        };
        let failed = record.failed();
        let refused: Vec<_> = failed.iter().filter(|found| told(&found.outcome)).collect();
        assert!(refused.is_empty(), "{refused:?}");
        assert!(
            failed.len() <= clients,
            "more than one error a client: {failed:?}"
        );
        assert!(pause < secs(5), "{pause:?}");
        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
        assert_eq!(
            store.reign().await,
            after,
            "the leader was changed once more"
        );
        let last = store.status().await.last_failover;
        assert_eq!(last, failover, "a hand-over was taken for a failover");
    });
}
