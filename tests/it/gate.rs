//! Who may be answered: leaders without leases, stores short of voters, fenced replicas.

use std::io;

use replicated_store::replication::admin::Settings;
use replicated_store::resp::reply::Reply;

use super::support::{Client, TestStore, eventually};

fn refused(reply: io::Result<Reply>, code: &str) {
    match reply.unwrap() {
        Reply::Error(text) if text.starts_with(code.as_bytes()) => {}
        other => panic!("not refused with {code}: {other:?}"),
    }
}

fn ready(store: &TestStore, index: usize) -> bool {
    let answer = store.replicas[index].http("GET", "/readyz", "");
    answer.unwrap().0 == 200
}

/// Goal: a leader that was frozen while another one took over answers nothing stale.
/// Method: requests that lie in its sockets when it wakes up; none may show the old value, or be
/// taken for an acknowledged write.
#[test]
fn a_leader_that_was_frozen_answers_nothing_stale() {
    let mut store = TestStore::start(3);
    store.vote_all(1);
    store.settle();
    let mut clients: Vec<Client> = (0..20).map(|_| store.replicas[0].client()).collect();
    clients[0].set("a", "old").unwrap();
    for client in &mut clients {
        assert_eq!(client.get("a").unwrap().as_deref(), Some("old"));
    }
    store.replicas[0].freeze();
    store.away.insert(0);
    for (index, client) in clients.iter_mut().enumerate() {
        let get = ["GET", "a"];
        let set = ["SET", "b", "lost"];
        client
            .send(if index % 2 == 0 { &get } else { &set })
            .unwrap();
    }
    store.promote();
    store.leader_serves();
    let mut other = store.replicas[store.leader()].client();
    other.set("a", "new").unwrap();
    other.set("b", "kept").unwrap();
    store.replicas[0].thaw();
    store.away.clear();
    for (index, client) in clients.iter_mut().enumerate() {
        match client.reply() {
            Err(_) => {} // closed without an answer
            Ok(Reply::Error(text)) => assert!(text.starts_with(b"CLUSTERDOWN")),
            Ok(other) => panic!("client {index} got {other:?}"),
        }
    }
    assert_eq!(other.get("b").unwrap().as_deref(), Some("kept"));
    store.assign();
    store.vote_all(1);
    store.assert_same();
    assert_eq!(
        store.replicas[0].client().get("a").unwrap().as_deref(),
        Some("new")
    );
}

/// Goal: a leader that is cut off says so, serves what needs no state, and goes on by itself.
/// Method: both followers are frozen for a few seconds.
#[test]
fn a_leader_that_is_cut_off_refuses_and_comes_back() {
    let mut store = TestStore::start(3);
    store.vote_all(1);
    store.settle();
    let mut waiting = store.replicas[0].client();
    let mut client = store.replicas[0].client();
    client.set("a", "1").unwrap();
    store.replicas[1].freeze();
    store.replicas[2].freeze();
    waiting.send(&["SET", "a", "2"]).unwrap();
    eventually("the leader is cut off", || {
        (!ready(&store, 0)).then_some(())
    });
    assert!(waiting.reply().is_err(), "it may or may not have happened");
    refused(client.call(&["GET", "a"]), "CLUSTERDOWN");
    refused(client.call(&["SET", "a", "3"]), "CLUSTERDOWN");
    for command in [&["PING"][..], &["INFO"], &["CLIENT", "ID"], &["HELLO"]] {
        let reply = client.call(command).unwrap();
        assert!(!matches!(reply, Reply::Error(_)), "{command:?}: {reply:?}");
    }
    store.replicas[1].thaw();
    store.replicas[2].thaw();
    eventually("the leader is back", || ready(&store, 0).then_some(()));
    assert!(client.get("a").unwrap().is_some());
    client.set("a", "4").unwrap();
    store.assert_same();
}

/// Goal: fewer voters than the durability needs: writes are refused, or taken, as the user wants.
#[test]
fn a_store_short_of_voters_blocks_writes() {
    let settings = Settings {
        sync_replicas: 1,
        ..Settings::default()
    };
    let mut store = TestStore::start_with(2, settings);
    for index in [0, 1] {
        let mut client = store.replicas[index].client();
        refused(client.call(&["SET", "a", "1"]), "NOREPLICAS");
        assert_eq!(client.get("a").unwrap(), None);
    }
    store.vote_all(1);
    store.replicas[0].client().set("a", "1").unwrap();
    store.replicas[1].client().set("a", "2").unwrap();
}

/// Goal: a fenced replica serves no client, says so, and goes on copying.
#[test]
fn a_fenced_replica_serves_no_client() {
    let mut store = TestStore::start(2);
    store.fenced.insert("replica-1".to_owned());
    store.assign();
    let mut client = store.replicas[1].client();
    refused(client.call(&["GET", "a"]), "READONLY");
    refused(client.call(&["SET", "a", "1"]), "READONLY");
    assert_eq!(
        client.call(&["PING"]).unwrap(),
        Reply::Simple(b"PONG".to_vec())
    );
    assert!(!ready(&store, 1));
    assert!(store.replicas[1].status().unwrap().fenced);
    store.replicas[0].client().set("a", "2").unwrap();
    let end = store.replicas[0].status().unwrap().last.lsn;
    eventually("it copies", || {
        (store.replicas[1].status()?.applied_lsn == end).then_some(())
    });
    store.fenced.clear();
    store.assign();
    assert_eq!(client.get("a").unwrap().as_deref(), Some("2"));
    store.assert_same();
}
