//! Damage on disk of a running replica: it is found, told, and put right from another replica.

use std::fs;

use replicated_store::replication::admin::Settings;

use super::support::{Replica, TestStore, eventually, files, flip, largest_table};

const KEYS: usize = 20_000;

/// Verifies all the time.
const SCRUBS: [&str; 4] = ["--scrub-interval", "1", "--scrub-rate", "1000000000"];

/// Two replicas that have everything on disk.
fn filled(settings: Settings) -> TestStore {
    let mut store = TestStore::start_with(2, settings);
    write(&store, 0);
    store.assert_same();
    for replica in &mut store.replicas {
        replica.restart_with(&SCRUBS);
    }
    store.promote();
    store.settle();
    store
}

fn write(store: &TestStore, round: usize) {
    let mut client = store.replicas[store.leader()].client();
    for i in 0..KEYS {
        client
            .send(&["SET", &format!("key:{i}"), &format!("{round}:{i:0>100}")])
            .unwrap();
        if i % 100 == 99 {
            for _ in 0..100 {
                client.reply().unwrap();
            }
        }
    }
}

fn says(replica: &Replica, text: &str) {
    eventually(&format!("{} says: {text}", replica.name), || {
        replica.status()?.message.contains(text).then_some(())
    });
}

fn repaired(replica: &Replica) {
    eventually("the state is replaced", || {
        replica
            .log()
            .contains("the damaged state is replaced")
            .then_some(())
    });
    assert!(!replica.dir.join("damaged").exists());
}

/// Goal: a follower whose state is damaged puts itself right, and keeps its log.
/// Method: a bit of a table is flipped under it; it says so, fetches the state anew, and has the same as
/// the leader, its log from before included.
#[test]
fn a_damaged_follower_fetches_its_state_anew() {
    let mut store = filled(Settings::default());
    let follower = 1 - store.leader();
    let replica = &store.replicas[follower];
    let before = replica.status().unwrap();
    let file = largest_table(&replica.dir);
    flip(&file, fs::metadata(&file).unwrap().len() / 3);
    repaired(replica);
    assert!(replica.log().contains("the state on disk is damaged"));
    store.settle();
    let after = store.replicas[follower].status().unwrap();
    assert_eq!(after.oldest_lsn, before.oldest_lsn, "the log is kept");
    assert_eq!((after.id, after.message), (before.id, String::new()));
    store.assert_same();
    store.replicas[follower].kill();
    store.replicas[follower].start();
    store.assign();
    store.assert_same();
}

/// Goal: the damage is remembered, and survives a kill in the middle of the repair.
/// Method: the follower's only source is throttled; it is killed while it copies, and goes on.
#[test]
fn a_repair_that_is_killed_goes_on() {
    let settings = Settings {
        seed_bandwidth: 1 << 20,
        ..Settings::default()
    };
    let mut store = filled(settings);
    let follower = 1 - store.leader();
    flip(&largest_table(&store.replicas[follower].dir), 5000);
    eventually("a part is copied", || {
        let seed = store.replicas[follower].status()?.seed?;
        (seed.bytes > 0).then_some(())
    });
    says(&store.replicas[follower], "is damaged");
    store.replicas[follower].kill();
    store.replicas[follower].start();
    store.assign();
    store.leader_serves();
    write(&store, 1);
    repaired(&store.replicas[follower]);
    store.assert_same();
}

/// Goal: a leader whose state is damaged says what will happen, and is put right once another one leads.
#[test]
fn a_damaged_leader_is_put_right_once_another_one_leads() {
    let mut store = filled(Settings::default());
    let damaged = store.leader();
    flip(&largest_table(&store.replicas[damaged].dir), 5000);
    says(&store.replicas[damaged], "once another replica leads");
    store.vote_all(0);
    store.promote_to(1 - damaged);
    store.leader_serves();
    repaired(&store.replicas[damaged]);
    store.assert_same();
}

/// Goal: a damaged part of the log is dropped as soon as the state on disk makes it superfluous.
/// Method: a bit in the middle of the leader's log is flipped; after some more writes the message is gone,
/// and both replicas start again with everything.
#[test]
fn a_damaged_log_is_cut_behind_the_state() {
    let mut store = filled(Settings::default());
    let leader = store.leader();
    write(&store, 1);
    let log = store.replicas[leader].dir.join("log");
    let segments = files(&log).into_iter();
    let segment = segments
        .filter(|path| path.to_string_lossy().contains("/log-0"))
        // The first one may be a short one.
        .filter(|path| path.metadata().is_ok_and(|it| it.len() > 1_000_000))
        .min();
    flip(&segment.expect("a segment"), 1_000_000);
    says(&store.replicas[leader], "its log is damaged after LSN");
    let mut client = store.replicas[leader].client();
    eventually("the damaged part is gone", || {
        client.set("more", "writes").unwrap();
        let status = store.replicas[leader].status()?;
        (status.message.is_empty() && status.oldest_lsn.0 > 1_000_000).then_some(())
    });
    store.assert_same();
    store.replicas[leader].kill();
    store.replicas[leader].start();
    store.promote();
    store.assert_same();
}
