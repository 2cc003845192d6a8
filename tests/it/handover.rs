//! A leader makes room: for a follower that is named, and when it is asked to stop.

use std::time::{Duration, Instant};

use replicated_store::replication::admin::{PromiseAnswer, Role, Settings, SwitchoverRequest};

use replicated_store::replication::ReplicaId;

use super::support::{TestStore, eventually};

/// Three voters, one of which must have a write besides the leader.
fn synchronous() -> TestStore {
    let settings = Settings {
        sync_replicas: 1,
        ..Settings::default()
    };
    let mut store = TestStore::start_with(3, settings);
    store.everybody_votes(1);
    store.settle();
    store
}

fn switchover(store: &TestStore, target: ReplicaId) -> (u16, String) {
    let request = SwitchoverRequest {
        epoch: store.register.epoch.next(),
        target,
        deadline_ms: 2000,
        to: None,
        store: None,
    };
    let body = serde_json::to_string(&request).unwrap();
    let leader = &store.replicas[store.leader()];
    leader
        .http("POST", "/switchover", &body)
        .expect("an answer")
}

fn write(store: &TestStore, from: usize, to: usize) {
    let mut client = store.replicas[store.leader()].client();
    for i in from..to {
        client.set(&format!("key:{i}"), "value").expect("a write");
    }
}

#[test]
fn a_leader_promises_when_the_target_has_everything() {
    let mut store = synchronous();
    write(&store, 0, 500);
    let (code, text) = switchover(&store, store.id(1));
    assert_eq!(code, 200, "{text}");
    let answer: PromiseAnswer = serde_json::from_str(&text).unwrap();
    assert!(answer.granted && answer.leases.is_empty(), "{answer:?}");
    let target = store.replicas[1].status().unwrap();
    assert_eq!(target.last, answer.last, "the target has the whole log");
    let read = store.replicas[0].client().get("key:499").unwrap();
    assert_eq!(read.as_deref(), Some("value"), "it goes on serving reads");
    store.promote_to(1);
    store.leader_serves();
    assert_eq!(store.replicas[1].status().unwrap().role, Role::Leader);
    write(&store, 500, 600);
    store.assert_same();
    assert_eq!(store.replicas[0].log().matches("a seed begins").count(), 0);
}

/// A target that cannot follow costs a pause, and nothing else.
#[test]
fn a_leader_leads_on_when_the_target_does_not_get_there() {
    let store = synchronous();
    let target = store.id(1);
    store.replicas[1].freeze();
    write(&store, 0, 10);
    let (code, text) = switchover(&store, target);
    assert_eq!(code, 409, "{text}");
    assert!(text.contains("not get everything in time"), "{text}");
    write(&store, 10, 20);
    store.replicas[1].thaw();
    store.assert_same();
}

#[test]
fn a_leader_that_is_asked_to_stop_waits_for_another_one() {
    let mut store = synchronous();
    write(&store, 0, 100);
    store.replicas[0].restart_with(&["--leave-timeout", "30"]);
    store.assign();
    store.promote_to(0);
    store.settle();
    let asked = Instant::now();
    store.replicas[0].ask_to_stop();
    eventually("it says that it leaves", || {
        store.replicas[0].status().filter(|status| status.leaving)
    });
    write(&store, 100, 200);
    let (code, text) = switchover(&store, store.id(2));
    assert_eq!(code, 200, "{text}");
    assert!(store.replicas[0].wait().success());
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "it did not wait for the end of its patience"
    );
    store.promote_to(2);
    store.assert_same();
}
