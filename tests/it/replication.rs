//! Leader and followers: what is written at the leader is read everywhere.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use replicated_store::replication::admin::{Role, Settings};
use replicated_store::resp::reply::Reply;

use super::support::{Client, TestStore, eventually};

fn write(store: &TestStore, from: usize, to: usize) {
    let mut client = store.replicas[store.leader()].client();
    for i in from..to {
        client
            .set(&format!("key:{i}"), &format!("value:{i}"))
            .expect("an acknowledged write");
    }
}

#[test]
fn followers_hold_what_the_leader_holds() {
    let store = TestStore::start(3);
    write(&store, 0, 2000);
    store.assert_same();
    for replica in &store.replicas {
        assert_eq!(
            replica.client().get("key:1999").unwrap().as_deref(),
            Some("value:1999")
        );
    }
}

#[test]
fn a_follower_refuses_writes_and_names_the_leader() {
    let settings = Settings {
        forward_writes: false,
        ..Settings::default()
    };
    let store = TestStore::start_with(2, settings);
    let reply = store.replicas[1].client().call(&["SET", "a", "1"]).unwrap();
    let Reply::Error(text) = reply else {
        panic!("not refused: {reply:?}")
    };
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("READONLY"), "{text}");
    assert!(
        text.contains("replica-0") && text.contains(&store.replicas[0].client_address()),
        "{text}"
    );
}

/// A follower that was down continues from its own log.
#[test]
fn a_follower_that_restarted_needs_no_seed() {
    let mut store = TestStore::start(2);
    write(&store, 0, 500);
    store.settle();
    store.replicas[1].kill();
    write(&store, 500, 1000);
    store.replicas[1].start();
    store.assign();
    store.assert_same();
    assert_eq!(
        store.replicas[1].log().matches("a seed begins").count(),
        1,
        "the first one only"
    );
}

/// The leader comes back as a follower and is promoted again: nothing acknowledged is lost.
#[test]
fn a_leader_that_restarted_leads_again_in_a_new_epoch() {
    let mut store = TestStore::start(3);
    write(&store, 0, 1000);
    store.replicas[0].kill();
    store.replicas[0].start();
    let status = store.replicas[0].status().unwrap();
    assert_eq!(
        status.role,
        Role::Follower,
        "an epoch belongs to one process"
    );
    store.assign();
    assert_eq!(store.replicas[0].status().unwrap().role, Role::Follower);
    store.promote();
    store.leader_serves();
    let mut client = store.replicas[store.leader()].client();
    for i in 0..1000 {
        assert_eq!(
            client.get(&format!("key:{i}")).unwrap(),
            Some(format!("value:{i}"))
        );
    }
    write(&store, 1000, 1100);
    store.assert_same();
}

#[test]
fn all_replicas_stopped_and_started() {
    let mut store = TestStore::start(3);
    write(&store, 0, 1000);
    for replica in &mut store.replicas {
        replica.terminate();
    }
    for replica in &mut store.replicas {
        replica.start();
    }
    store.promote();
    store.assert_same();
    let mut client = store.replicas[store.leader()].client();
    assert_eq!(client.get("key:999").unwrap().as_deref(), Some("value:999"));
}

/// Records that only the old leader had are cut off when it rejoins.
#[test]
fn a_deposed_leader_rejoins_by_truncation() {
    let mut store = TestStore::start(3);
    write(&store, 0, 100);
    store.settle();
    // The followers are frozen, so that the leader goes on alone, and then all are gone: what waits
    // for a frozen process in its sockets must not reach it.
    store.replicas[1].freeze();
    store.replicas[2].freeze();
    write(&store, 100, 200);
    store.replicas[0].kill();
    for follower in &mut store.replicas[1..] {
        follower.kill();
        follower.start();
    }
    store.promote();
    store.leader_serves();
    let mut client = store.replicas[store.leader()].client();
    client.set("after", "1").unwrap();
    store.replicas[0].start();
    store.assign();
    store.assert_same();
    let status = store.replicas[0].status().unwrap();
    let kept = status.divergent.expect("what it had to give up");
    assert!(kept.bytes > 100 * 10, "{kept:?}");
    let file = store.replicas[0].dir.join(&kept.file);
    let kept = std::fs::read(file).expect("the file that it tells of");
    assert!(
        kept.windows(9).any(|part| part == b"value:199"),
        "a record of it"
    );
}

/// Lag rises while a follower is frozen, and falls to nothing afterwards.
#[test]
fn lag_tells_how_far_a_follower_is_behind() {
    let store = TestStore::start(2);
    store.replicas[1].freeze();
    let lag = || {
        let status = store.replicas[0].status()?;
        let follower = status.followers.first()?.clone();
        Some((follower.lag_bytes, follower.lag_seconds))
    };
    eventually("lag of a second and some bytes", || {
        write(&store, 0, 100);
        lag().filter(|(bytes, seconds)| *bytes > 1000 && *seconds > 1.0)
    });
    store.replicas[1].thaw();
    eventually("no lag", || {
        lag().filter(|(bytes, seconds)| *bytes == 0 && *seconds == 0.0)
    });
    store.assert_same();
}

/// A follower whose connection broke is as far behind as it was, not as far as the whole log: so
/// it was reported until it had said anew how far it is.
#[test]
fn lag_does_not_jump_when_a_follower_connects_again() {
    let store = TestStore::start(2);
    write(&store, 0, 2000);
    store.settle();
    let count = |index: usize, what| store.replicas[index].log().matches(what).count();
    let connected = || count(0, "a follower connected");
    let ended = || count(1, "connection to the leader ended");
    let before = (connected(), ended());
    store.replicas[0].freeze();
    eventually("the follower gives its leader up", || {
        (ended() > before.1).then_some(())
    });
    store.replicas[0].thaw();
    eventually("a new connection", || {
        let lag = store.replicas[0].status()?.followers.first().cloned()?;
        assert!(lag.lag_bytes < 1000, "{lag:?}");
        (connected() > before.0 && lag.connected).then_some(())
    });
    store.assert_same();
}

/// A stop does not wait for whoever watches the status.
#[test]
fn a_replica_stops_at_once_while_its_status_is_watched() {
    let mut store = TestStore::start(1);
    let mut watching = store.replicas[0].watch();
    let start = Instant::now();
    store.replicas[0].terminate();
    let mut rest = Vec::new();
    let _ = watching.read_to_end(&mut rest); // the end of the stream
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "it took {:?}",
        start.elapsed()
    );
}

/// Goal: a configuration changes under load, and the leader goes on.
/// Method: many changes while clients write at the leader without a pause; each becomes established,
/// no client gets an error.
#[test]
fn a_configuration_changes_under_load() {
    let mut store = TestStore::start(2);
    store.vote_all(1);
    let address = store.replicas[0].client_address();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (address, stop) = (address.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut client = Client::connect(&address).unwrap();
                let mut written = 0;
                while !stop.load(Ordering::SeqCst) {
                    client.set(&format!("key:{writer}"), "value").unwrap();
                    written += 1;
                }
                written
            })
        })
        .collect();
    for _ in 0..200 {
        store.vote_all(1);
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        assert!(writer.join().unwrap() > 0);
    }
    store.assert_same();
}
