//! The steps in the life of a table, a manifest, a snapshot and an installation, each of which fails in turn, with
//! the replica going on after it, or starting again: whatever was acknowledged is there, and no start loops.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use replicated_store::replication::admin::{Digest, Settings};
use replicated_store::resp::reply::Reply;

use super::support::{
    Action, Client, Fault, FaultyDisk, Replica, TestStore, Wrong, eventually, link_to, seed,
};

const NOT_RUN: &str = "not run: it needs to mount a FUSE file system, as root";
const KEYS: u64 = 300;
/// Steps of a flush, a snapshot and a compaction.
const STEPS: u64 = 24;

fn value(round: u64, key: u64) -> String {
    format!("{round}:{key}:{}", "v".repeat(500))
}

/// Writes all keys; how many were acknowledged.
fn write(replica: &Replica, round: u64) -> u64 {
    let Ok(mut client) = Client::connect(&replica.client_address()) else {
        return 0;
    };
    for key in 0..KEYS {
        if client
            .set(&format!("key:{key}"), &value(round, key))
            .is_err()
        {
            return key;
        }
    }
    KEYS
}

/// Flushes and makes a snapshot, if the replica can.
fn flush(replica: &Replica) -> Option<Digest> {
    let (code, body) = replica.http("GET", "/digest", "").ok()?;
    (code == 200).then(|| serde_json::from_str(&body).unwrap())
}

/// Each key has the value of the last round in which it was acknowledged, or of the one after.
fn check(replica: &Replica, acknowledged: &[u64], what: &str) {
    let mut client = replica.ready();
    for key in 0..KEYS {
        let last = acknowledged.iter().rposition(|count| key < *count);
        let Some(last) = last else { continue };
        let found = client.call(&["GET", &format!("key:{key}")]).unwrap();
        let rounds = last as u64..acknowledged.len() as u64;
        let right = rounds.map(|round| Reply::Bulk(value(round, key).into_bytes()));
        assert!(
            right.into_iter().any(|right| right == found),
            "{what}, key {key}: {found:?}"
        );
    }
}

/// Goal: no step of a flush, a compaction or a snapshot may fail in a way that loses anything or keeps the replica
/// from starting.
/// Method: each call below the state, or below the snapshots, fails once, in turn; the replica goes on, or ends;
/// then it is killed, the power goes, and it starts.
#[test]
fn each_step_of_a_flush_and_a_snapshot_may_fail() {
    let mut rng = SmallRng::seed_from_u64(seed("each_step_of_a_flush_and_a_snapshot_may_fail"));
    let places = [("/state", STEPS), ("/snapshots", 8)];
    let (mut struck, mut ended) = (0, 0);
    for (below, steps) in places {
        for on in [Action::Write, Action::Sync, Action::Name] {
            let Some(disk) = FaultyDisk::new() else {
                println!("{NOT_RUN}");
                return;
            };
            let mut replica = Replica::new(&disk.path(), "alone", &["--standalone"]);
            let mut acknowledged = Vec::new();
            for after in 0..steps {
                let what = format!("{on:?} {after} below {below}");
                replica.start();
                check(&replica, &acknowledged, &what);
                disk.breaks(Fault {
                    on,
                    below,
                    after,
                    wrong: Wrong::FailsOnce,
                });
                for _ in 0..3 {
                    let round = acknowledged.len() as u64;
                    acknowledged.push(write(&replica, round));
                    flush(&replica);
                }
                let hit = disk.heals();
                struck += hit;
                match replica.try_wait() {
                    Some(_) => ended += 1,
                    None => replica.kill(),
                }
                // What was believed by another process on the same machine must be there after that, too.
                if after % 2 == 1 {
                    replica.start();
                    check(&replica, &acknowledged, &format!("{what}, started again"));
                    let round = acknowledged.len() as u64;
                    acknowledged.push(write(&replica, round));
                    flush(&replica);
                    replica.kill();
                }
                disk.power_cut(&mut rng);
                if hit == 0 {
                    break;
                }
            }
            replica.start();
            check(&replica, &acknowledged, "at the end");
            replica.kill();
        }
    }
    println!("{struck} calls failed, {ended} times the replica ended");
    assert!(struck > 40);
}

/// Goal: no step of the installation of a seed may fail in a way that keeps a follower from being whole.
/// Method: each call of a follower that is seeded fails once, in turn; it goes on, or ends and starts again.
#[test]
fn each_step_of_an_installation_may_fail() {
    let mut rng = SmallRng::seed_from_u64(seed("each_step_of_an_installation_may_fail"));
    let (mut struck, mut ended) = (0, 0);
    let mut steps: Vec<(Action, u64)> = Vec::new();
    for on in [Action::Write, Action::Sync, Action::Name] {
        steps.extend((0..40).step_by(2).map(|after| (on, after)));
    }
    let Some(disk) = FaultyDisk::new() else {
        println!("{NOT_RUN}");
        return;
    };
    let path = disk.path();
    let mut store = TestStore::start_in(2, Settings::default(), |root| {
        link_to(root, [root.join("leader"), path]);
        std::fs::create_dir(root.join("leader")).unwrap();
    });
    write(&store.replicas[0], 0);
    for (on, after) in steps {
        store.replicas[1].kill();
        store.replicas[1].lose_disk();
        store.replicas[1].start();
        disk.breaks(Fault {
            on,
            below: "",
            after,
            wrong: Wrong::FailsOnce,
        });
        store.assign();
        let whole = |store: &TestStore| {
            let end = store.replicas[0].status()?.last.lsn;
            let status = store.replicas[1].status()?;
            (status.ready && status.applied_lsn == end).then_some(())
        };
        eventually(&format!("{on:?} {after}: it is whole"), || {
            if store.replicas[1].try_wait().is_some() {
                ended += 1;
                disk.power_cut(&mut rng);
                store.replicas[1].start();
                store.assign();
            }
            whole(&store)
        });
        struck += disk.heals();
        store.replicas[1].kill();
        disk.power_cut(&mut rng);
        store.replicas[1].start();
        store.assign();
        store.settle();
        assert_eq!(
            store.replicas[0].digest(),
            store.replicas[1].digest(),
            "{on:?} {after}"
        );
    }
    println!("{struck} calls failed, {ended} times the follower ended");
    assert!(struck > 20);
}
