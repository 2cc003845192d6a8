//! The leader's port: every answer is as the leader's own, on whatever replica the connection is.

use std::time::{Duration, Instant};

use replicated_store::replication::admin::Settings;
use replicated_store::resp::reply::Reply;

use super::support::{Client, TestStore, eventually};

fn ok() -> Reply {
    Reply::Simple(b"OK".to_vec())
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn call(client: &mut Client, line: &str) -> Reply {
    let args: Vec<&str> = line.split(' ').collect();
    client.call(&args).unwrap()
}

fn error(reply: Reply) -> String {
    match reply {
        Reply::Error(text) => String::from_utf8(text).unwrap(),
        other => panic!("no error: {other:?}"),
    }
}

fn text(reply: Reply) -> String {
    match reply {
        Reply::Bulk(text) => String::from_utf8(text).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

fn at(store: &TestStore, index: usize) -> Client {
    Client::connect(&store.replicas[index].leader_address()).unwrap()
}

/// Goal: a read at the leader's port is never older than what anybody was answered before.
/// Method: one client writes at the leader, another one reads at a follower's leader port at once, again
/// and again; a third one does the same at the port for everybody, which may be behind.
#[test]
fn a_read_on_another_connection_is_never_stale() {
    let store = TestStore::start(2);
    let mut writer = store.replicas[0].client();
    let mut strict = at(&store, 1);
    let mut any = store.replicas[1].client();
    let mut behind = 0;
    for count in 0..500 {
        let value = count.to_string();
        writer.set("key", &value).unwrap();
        behind += usize::from(any.get("key").unwrap().as_ref() != Some(&value));
        assert_eq!(strict.get("key").unwrap(), Some(value));
    }
    println!("{behind} of 500 reads at the port for everybody were behind");
    assert_eq!(call(&mut strict, "DBSIZE"), Reply::Integer(1));
    store.assert_same();
}

/// Goal: what tells of the leader is the leader's word; what is the connection's own stays here.
/// Method: ROLE, INFO and HELLO at a follower's leader port, beside its other port.
#[test]
fn it_speaks_for_the_leader() {
    let store = TestStore::start(2);
    let mut strict = at(&store, 1);
    let mut any = store.replicas[1].client();
    let role = |client: &mut Client| match call(client, "ROLE") {
        Reply::Array(parts) => text(parts[0].clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(role(&mut strict), "master");
    assert_eq!(role(&mut any), "slave");
    let info = text(call(&mut strict, "INFO replication"));
    assert!(info.contains("role:master\r\n"), "{info}");
    assert!(info.contains("connected_slaves:1\r\n"), "{info}");
    let hello = |client: &mut Client| format!("{:?}", call(client, "HELLO 2"));
    let master = format!("{:?}", bulk("master"));
    assert!(hello(&mut strict).contains(&master));
    assert!(!hello(&mut any).contains(&master));
    assert_eq!(call(&mut strict, "PING"), Reply::Simple(b"PONG".to_vec()));
    assert_eq!(call(&mut strict, "CLIENT SETNAME me"), ok());
    assert_eq!(call(&mut strict, "CLIENT GETNAME"), bulk("me"));
    assert_eq!(call(&mut strict, "RESET"), Reply::Simple(b"RESET".to_vec()));
    assert_eq!(role(&mut strict), "master");
}

/// Goal: pipelines, large replies, scans and all keys come through as from the leader itself.
/// Method: reads and writes in one stream, replies of more than a step's size, a whole scan, KEYS over more
/// keys than are walked in one step.
#[test]
fn everything_that_reads_comes_through() {
    let store = TestStore::start(2);
    let mut strict = at(&store, 1);
    for _ in 0..1000 {
        strict.send(&["INCR", "n"]).unwrap();
        strict.send(&["GET", "n"]).unwrap();
        strict.send(&["PING"]).unwrap();
    }
    for count in 1..=1000 {
        assert_eq!(strict.reply().unwrap(), Reply::Integer(count));
        assert_eq!(strict.reply().unwrap(), bulk(&count.to_string()));
        assert_eq!(strict.reply().unwrap(), Reply::Simple(b"PONG".to_vec()));
    }
    let large = "x".repeat(300 << 10);
    strict.set("large", &large).unwrap();
    for _ in 0..40 {
        strict.send(&["GET", "large"]).unwrap();
        strict.send(&["STRLEN", "large"]).unwrap();
    }
    for _ in 0..40 {
        assert_eq!(strict.reply().unwrap(), bulk(&large));
        assert_eq!(strict.reply().unwrap(), Reply::Integer(300 << 10));
    }
    let many: i64 = 110_000;
    for chunk in 0..110 {
        let mut args = vec!["MSET".to_owned()];
        for number in 0..1000 {
            args.extend([format!("key:{chunk}:{number}"), "v".to_owned()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        assert_eq!(strict.call(&args).unwrap(), ok());
    }
    let Reply::Array(keys) = call(&mut strict, "KEYS key:*") else {
        panic!("no keys")
    };
    assert_eq!(keys.len() as i64, many);
    let (mut cursor, mut found) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let Reply::Array(parts) = call(&mut strict, &format!("SCAN {cursor} COUNT 5000")) else {
            panic!("no page")
        };
        let Reply::Array(page) = parts[1].clone() else {
            panic!("no keys")
        };
        found.extend(page.into_iter().map(text));
        cursor = text(parts[0].clone());
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len() as i64, many + 2);
    let unknown = error(call(&mut strict, "SCAN 123456789 COUNT 10"));
    assert!(unknown.starts_with("ERR"), "{unknown}");
    strict.send(&["CLIENT", "REPLY", "SKIP"]).unwrap();
    strict.send(&["GET", "large"]).unwrap();
    assert_eq!(call(&mut strict, "GET n"), bulk("1000"));
    assert_eq!(call(&mut strict, "PING"), Reply::Simple(b"PONG".to_vec()));
}

/// Goal: transactions are the leader's, and WATCH sees what the leader has.
/// Method: a follower that stands still knows nothing of a key that another client writes; WATCH there,
/// with and without a change afterwards; a transaction that only reads.
#[test]
fn watched_keys_are_looked_up_at_the_leader() {
    let store = TestStore::start(2);
    let (mut there, mut strict) = (store.replicas[0].client(), at(&store, 1));
    for count in 0..200 {
        there.set("a", &count.to_string()).unwrap();
        assert_eq!(call(&mut strict, "WATCH a b"), ok());
        assert_eq!(call(&mut strict, "MULTI"), ok());
        let queued = Reply::Simple(b"QUEUED".to_vec());
        assert_eq!(call(&mut strict, "GET a"), queued);
        assert_eq!(call(&mut strict, "INCR done"), queued);
        let done = Reply::Array(vec![bulk(&count.to_string()), Reply::Integer(count + 1)]);
        assert_eq!(call(&mut strict, "EXEC"), done, "nobody has changed it");
    }
    assert_eq!(call(&mut strict, "WATCH a"), ok());
    there.set("a", "new").unwrap();
    call(&mut strict, "MULTI");
    call(&mut strict, "GET a");
    assert_eq!(call(&mut strict, "EXEC"), Reply::Null);
    call(&mut strict, "MULTI");
    call(&mut strict, "GET a");
    call(&mut strict, "ROLE");
    let Reply::Array(replies) = call(&mut strict, "EXEC") else {
        panic!("not executed")
    };
    assert_eq!(replies[0], bulk("new"));
    let watch = error(call(&mut strict, "WATCH"));
    assert!(watch.contains("wrong number of arguments"), "{watch}");
    call(&mut strict, "MULTI");
    assert!(error(call(&mut strict, "WATCH a")).contains("inside MULTI"));
    assert_eq!(call(&mut strict, "DISCARD"), ok());
    assert_eq!(call(&mut strict, "WAIT 1 10000"), Reply::Integer(1));
}

/// Goal: a connection stays where it is through changes of leader, and is told in time when there is none.
/// Method: the lead goes round among three replicas, whose leader ports are read and written on the same
/// connections throughout; then the leader is killed, and nobody is named for a while.
#[test]
fn a_connection_stays_through_any_number_of_changes() {
    let mut store = TestStore::start(3);
    store.vote_all(1);
    store.settle();
    let mut clients: Vec<Client> = (0..3).map(|index| at(&store, index)).collect();
    for round in 0..6 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.set("key", &format!("{round}.{number}")).unwrap();
        }
        for client in &mut clients {
            assert_eq!(client.get("key").unwrap(), Some(format!("{round}.2")));
        }
        store.promote_to((store.leader() + 1) % 3);
        for client in &mut clients {
            let found = client.get("key").unwrap();
            assert_eq!(
                found,
                Some(format!("{round}.2")),
                "it is held, and answered"
            );
        }
    }
    let dead = store.leader();
    store.replicas[dead].kill();
    let mut client = clients.remove((dead + 1) % 3);
    let start = Instant::now();
    let refused = error(call(&mut client, "GET key"));
    assert!(refused.starts_with("CLUSTERDOWN"), "{refused}");
    let took = start.elapsed();
    let bounds = Duration::from_secs(4)..Duration::from_secs(20);
    assert!(bounds.contains(&took), "{took:?}");
    client.send(&["GET", "key"]).unwrap();
    store.promote();
    assert_eq!(client.reply().unwrap(), bulk("5.2"));
    assert_eq!(call(&mut client, "PING"), Reply::Simple(b"PONG".to_vec()));
}

/// Goal: a follower that has no data yet, or is behind, serves the leader's port all the same.
/// Method: a follower stands still while much is written, and is asked as soon as it goes on; a new one is
/// asked from its first moment on.
#[test]
fn a_replica_without_the_data_serves_it() {
    let mut store = TestStore::start(2);
    let mut there = store.replicas[0].client();
    store.replicas[1].freeze();
    for count in 0..2000 {
        there.set(&format!("key:{count}"), "v").unwrap();
    }
    let mut client = at(&store, 1);
    client.send(&["GET", "key:1999"]).unwrap();
    store.replicas[1].thaw();
    assert_eq!(client.reply().unwrap(), bulk("v"));
    let new = store.add();
    store.assign();
    let mut client = at(&store, new);
    let found = eventually("it has a way to the leader", || {
        match client.call(&["GET", "key:1999"]) {
            Ok(Reply::Bulk(found)) => Some(found),
            _ => None,
        }
    });
    assert_eq!(found, b"v");
}

/// Goal: where nothing is handed on, the leader's port refuses what it cannot answer, and says who leads.
/// Method: `forward_writes: false`; every kind of command at a follower's leader port, and at the leader's.
#[test]
fn without_forwarding_it_refuses_rather_than_serve_the_past() {
    let settings = Settings {
        forward_writes: false,
        ..Settings::default()
    };
    let store = TestStore::start_with(2, settings);
    let mut strict = at(&store, 1);
    for line in [
        "GET a", "SET a 1", "DBSIZE", "WATCH a", "SCAN 0", "KEYS *", "WAIT 1 0",
    ] {
        let refused = error(call(&mut strict, line));
        assert!(refused.starts_with("READONLY"), "{line}: {refused}");
        assert!(refused.contains("The leader is replica-0 at "), "{refused}");
    }
    call(&mut strict, "MULTI");
    assert!(error(call(&mut strict, "GET a")).starts_with("READONLY"));
    assert!(error(call(&mut strict, "EXEC")).starts_with("EXECABORT"));
    let Reply::Array(role) = call(&mut strict, "ROLE") else {
        panic!("no role")
    };
    assert_eq!(role[0], bulk("slave"), "it says what it is");
    let mut leader = at(&store, 0);
    leader.set("a", "1").unwrap();
    assert_eq!(leader.get("a").unwrap().as_deref(), Some("1"));
}

/// Goal: a fenced replica serves nobody there either.
#[test]
fn a_fenced_replica_refuses_there_too() {
    let mut store = TestStore::start(2);
    store.fenced.insert("replica-1".to_owned());
    store.assign();
    let mut strict = at(&store, 1);
    eventually("it is fenced", || {
        let refused = strict.call(&["GET", "a"]).ok()?;
        matches!(refused, Reply::Error(text) if text.starts_with(b"READONLY this replica is fenced"))
            .then_some(())
    });
}
