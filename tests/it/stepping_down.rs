//! A leader that steps down: what its clients are shown then, and whether readiness says the same.

use std::sync::atomic::{AtomicBool, Ordering};

use replicated_store::replication::admin::PromiseRequest;
use replicated_store::resp::reply::Reply;

use super::support::{Client, TestStore, eventually};

/// So long a log that going over it takes a while.
const KEYS: usize = 40_000;

/// Writes many keys, and `last` = 1 behind them.
fn fill(client: &mut Client) {
    for key in 0..KEYS {
        client
            .send(&["SET", &format!("key:{key}"), "value"])
            .unwrap();
    }
    for _ in 0..KEYS {
        client.reply().unwrap();
    }
    client.set("last", "1").unwrap();
}

/// Two followers that are frozen, a leader that has executed what they have not got, and its client.
fn with_a_write_under_way() -> (TestStore, Client) {
    let mut store = TestStore::start(3);
    store.vote_all(1);
    store.settle();
    let mut client = store.replicas[0].client();
    fill(&mut client);
    store.settle();
    store.replicas[1].freeze();
    store.replicas[2].freeze();
    let mut writer = store.replicas[0].client();
    writer.send(&["SET", "last", "2"]).unwrap();
    writer.send(&["DEL", "key:0"]).unwrap();
    eventually("the writes are under way", || {
        let status = store.replicas[0].status()?;
        (status.last.lsn > status.commit_lsn).then_some(())
    });
    (store, client)
}

/// Reads what was written last before that, on connections old and new, until it is told to end: how often.
fn reads(address: &str, ended: &AtomicBool) -> u64 {
    let last = format!("key:{}", KEYS - 1);
    let mut old = Client::connect(address).unwrap();
    let mut rounds = 0;
    while !ended.load(Ordering::Relaxed) {
        let mut new = Client::connect(address).unwrap();
        for client in [&mut old, &mut new] {
            match client.call(&["GET", &last]) {
                Ok(Reply::Bulk(value)) => assert_eq!(value, b"value", "round {rounds}"),
                // A leader whose followers are silent has no leases; who waits for them when it goes is let go.
                Ok(Reply::Error(text)) if text.starts_with(b"CLUSTERDOWN") => {}
                Err(_) => *client = Client::connect(address).unwrap(),
                other => panic!("round {rounds}: {other:?}"),
            }
        }
        rounds += 1;
    }
    rounds
}

fn steps_down(store: &TestStore) {
    let epoch = store.register.epoch.next();
    let request = PromiseRequest {
        epoch,
        to: None,
        store: None,
    };
    let body = serde_json::to_string(&request).unwrap();
    let answer = store.replicas[0].http("POST", "/promise", &body).unwrap();
    assert_eq!(answer.0, 200, "{}", answer.1);
}

/// Goal: a leader that steps down drops what is not committed, and nobody notices: everything that was shown
/// stays to be seen, on old connections and on new ones, and it stays ready.
/// Method: it has executed writes that its followers, frozen, have not got; then it promises another epoch.
#[test]
fn a_leader_that_steps_down_shows_nothing_older() {
    let (store, mut client) = with_a_write_under_way();
    let (address, ended) = (store.replicas[0].client_address(), AtomicBool::new(false));
    let rounds = std::thread::scope(|scope| {
        let reader = scope.spawn(|| reads(&address, &ended));
        steps_down(&store);
        looks(&store, &mut client);
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(rounds > 10, "{rounds}");
    for follower in [1, 2] {
        store.replicas[follower].thaw();
    }
}

/// What was shown stays to be seen.
fn looks(store: &TestStore, client: &mut Client) {
    for round in 0..200 {
        let mut fresh = store.replicas[0].client();
        for client in [&mut *client, &mut fresh] {
            assert_eq!(
                client.get("last").unwrap().as_deref(),
                Some("1"),
                "round {round}"
            );
            assert_eq!(client.get("key:0").unwrap().as_deref(), Some("value"));
        }
        assert_eq!(
            fresh.call(&["DBSIZE"]).unwrap(),
            Reply::Integer(KEYS as i64 + 1)
        );
        let (code, text) = store.replicas[0].http("GET", "/readyz", "").unwrap();
        assert_eq!(code, 200, "{text}");
    }
}
