//! How clients' connections begin and end: how many there may be, CLIENT KILL, and a replica that stops.

use std::io::ErrorKind;

use replicated_store::replication::admin::Settings;
use replicated_store::resp::reply::Reply;

use super::support::{Client, Replica, TestStore, eventually};

fn alone(arguments: &[&str]) -> (tempfile::TempDir, Replica) {
    let root = tempfile::tempdir().unwrap();
    let arguments = [&["--standalone"], arguments].concat();
    let mut replica = Replica::new(root.path(), "alone", &arguments);
    replica.start();
    drop(replica.ready());
    (root, replica)
}

fn id(client: &mut Client) -> String {
    match client.call(&["CLIENT", "ID"]).unwrap() {
        Reply::Integer(id) => id.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The connection ends cleanly: a client sees no reset.
fn ends(client: &mut Client) {
    assert_eq!(client.reply().unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_client_that_is_killed_goes_and_the_others_stay() {
    let (_root, replica) = alone(&[]);
    let [mut idle, mut waiting, mut killer] = [(); 3].map(|()| replica.client());
    let victims = [id(&mut idle), id(&mut waiting)];
    // One follower, of none: it waits for ever.
    waiting.send(&["WAIT", "1", "0"]).unwrap();
    for victim in victims {
        let killed = killer.call(&["CLIENT", "KILL", "ID", &victim]).unwrap();
        assert_eq!(killed, Reply::Integer(1));
    }
    ends(&mut idle);
    ends(&mut waiting);
    eventually("they are out of the list", || {
        let Ok(Reply::Bulk(list)) = killer.call(&["CLIENT", "LIST"]) else {
            panic!("no list");
        };
        let list = String::from_utf8(list).unwrap();
        (list.lines().count() == 1).then_some(())
    });
    let again = killer.call(&["CLIENT", "KILL", "ID", "1"]).unwrap();
    assert_eq!(again, Reply::Integer(0), "it is gone");
    killer.set("key", "value").unwrap();
}

#[test]
fn a_client_too_many_is_told_so() {
    let (_root, replica) = alone(&["--max-clients", "2"]);
    let mut first = eventually("no other client is left", || {
        let mut client = replica.client();
        client.call(&["PING"]).ok().map(|_| client)
    });
    let second = eventually("the second one is let in", || {
        let mut client = replica.client();
        client.call(&["PING"]).ok().map(|_| client)
    });
    let mut third = replica.client();
    match third.reply().unwrap() {
        Reply::Error(error) => assert!(error.starts_with(b"ERR max number of clients")),
        other => panic!("{other:?}"),
    }
    ends(&mut third);
    drop(first.call(&["PING"]).unwrap());
    drop(second);
    eventually("there is room again", || {
        replica.client().call(&["PING"]).ok()
    });
    first.set("key", "value").unwrap();
}

/// Goal: what a stopping replica executed it answers, and whoever has nothing to wait for is let go at once.
/// Method: one client is idle, and one has sent more than is read at a time when the replica is asked to stop.
#[test]
fn a_replica_that_stops_answers_what_it_executed() {
    const MANY: usize = 20_000;
    let (_root, mut replica) = alone(&[]);
    let [mut idle, mut busy] = [(); 2].map(|()| replica.client());
    idle.set("key", "value").unwrap();
    for number in 0..MANY {
        busy.send(&["SET", &format!("key:{number}"), "value"])
            .unwrap();
    }
    // It has begun with them.
    assert_eq!(busy.reply().unwrap(), Reply::Simple(b"OK".to_vec()));
    replica.ask_to_stop();
    let mut answered = 1;
    loop {
        match busy.reply() {
            Ok(reply) => assert_eq!(reply, Reply::Simple(b"OK".to_vec())),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
                break;
            }
        }
        answered += 1;
    }
    ends(&mut idle);
    assert!(replica.wait().success(), "{}", replica.log());
    assert!(
        !replica.log().contains("did not end in time"),
        "{}",
        replica.log()
    );
    replica.start();
    let mut client = replica.ready();
    for number in (0..answered).rev().take(100) {
        let found = client.get(&format!("key:{number}")).unwrap();
        assert_eq!(
            found.as_deref(),
            Some("value"),
            "key {number} of {answered}"
        );
    }
    assert!(client.get("key").unwrap().is_some());
}

fn says(reply: Reply, what: &str) {
    match reply {
        Reply::Error(text) if text.starts_with(what.as_bytes()) => {}
        other => panic!("not {what}: {other:?}"),
    }
}

/// Goal: who waits for followers of a follower is told at once that there are none.
/// Method: a connection that has asked for nothing else, so that nothing is known from before.
#[test]
fn a_wait_on_a_follower_is_refused() {
    let settings = Settings {
        forward_writes: false,
        ..Settings::default()
    };
    let store = TestStore::start_with(2, settings);
    let mut client = store.replicas[1].client();
    let reply = client.call(&["WAIT", "1", "0"]);
    says(reply.unwrap(), "ERR WAIT cannot be used with replica");
}

/// Goal: WAIT, HELLO and ROLE go by what the replica is when they are executed, and a WAIT ends with the lead.
/// Method: one connection from before to after a change of leader.
#[test]
fn a_wait_goes_by_what_the_replica_is() {
    let mut store = TestStore::start(2);
    store.vote_all(1);
    store.settle();
    let [mut old, mut waiting] = [(); 2].map(|()| store.replicas[0].client());
    let mut new = store.replicas[1].client();
    for client in [&mut old, &mut new] {
        assert!(!matches!(
            client.call(&["HELLO", "2"]).unwrap(),
            Reply::Error(_)
        ));
    }
    waiting.send(&["WAIT", "5", "0"]).unwrap();
    store.promote_to(1);
    store.settle();
    says(waiting.reply().unwrap(), "UNBLOCKED");
    new.set("key", "value").unwrap();
    assert_eq!(new.call(&["WAIT", "1", "0"]).unwrap(), Reply::Integer(1));
    let role = |client: &mut Client| format!("{:?}", client.call(&["ROLE"]).unwrap());
    let [old, new] = [&mut old, &mut new].map(role);
    let master = format!("{:?}", b"master".to_vec());
    assert!(
        new.contains(&master) && !old.contains(&master),
        "{old} {new}"
    );
}
