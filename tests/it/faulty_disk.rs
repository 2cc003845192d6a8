//! Disks that fail, are slow, or lose power: nothing that was acknowledged is lost, and no wrong value is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use replicated_store::replication::admin::Settings;
use replicated_store::resp::reply::Reply;

use super::support::{
    Action, Client, Fault, FaultyDisk, Replica, TestStore, Wrong, eventually, link_to, seed,
};

const WRITERS: usize = 4;
/// So little memory that flushes and compactions are under way all the time.
const MEMORY: &str = "16777216";
const NOT_RUN: &str = "not run: it needs to mount a FUSE file system, as root";

/// Clients that count up, each in keys of its own, and what was acknowledged to them.
struct Counters(Vec<Arc<AtomicU64>>);

/// A number, and much that comes with it.
fn value(number: u64) -> String {
    format!("{number}:{}", "x".repeat(number as usize * 37 % 2000))
}

/// A counter writes to many keys in turn: what it wrote last to one of them is known.
const KEYS: u64 = 3000;
const PIPELINE: usize = 200;

fn key(writer: usize, number: u64) -> String {
    format!("writer:{writer}:{}", number % KEYS)
}

impl Counters {
    fn new() -> Self {
        Self((0..WRITERS).map(|_| Arc::default()).collect())
    }

    /// Clients that write until the connection breaks, or a write is refused.
    fn start(&self, address: &str) -> Vec<JoinHandle<()>> {
        let all = self.0.iter().enumerate();
        all.map(|(writer, acknowledged)| {
            let (address, acknowledged) = (address.to_owned(), Arc::clone(acknowledged));
            std::thread::spawn(move || {
                let Ok(mut client) = Client::connect(&address) else {
                    return;
                };
                loop {
                    let next = acknowledged.load(Ordering::SeqCst) + 1;
                    if client.set(&key(writer, next), &value(next)).is_err() {
                        return;
                    }
                    acknowledged.store(next, Ordering::SeqCst);
                }
            })
        })
        .collect()
    }

    /// Everything is as it was acknowledged, but for one write of each that may have been on its way.
    fn check(&self, client: &mut Client) {
        for (writer, acknowledged) in self.0.iter().enumerate() {
            let last = acknowledged.load(Ordering::SeqCst);
            let first = last.saturating_sub(KEYS - 1).max(1);
            for some in (first..=last).collect::<Vec<_>>().chunks(PIPELINE) {
                for number in some {
                    client.send(&["GET", &key(writer, *number)]).unwrap();
                }
                for number in some {
                    let found = client.reply().unwrap();
                    let is = |number| found == Reply::Bulk(value(number).into_bytes());
                    let on_its_way = number + KEYS == last + 1;
                    let right = is(*number) || on_its_way && is(number + KEYS);
                    assert!(right, "writer {writer}: {number} of {last}: {found:?}");
                }
            }
        }
    }

    fn total(&self) -> u64 {
        let all = self.0.iter();
        all.map(|acknowledged| acknowledged.load(Ordering::SeqCst))
            .sum()
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

fn alone(disk: &FaultyDisk) -> Replica {
    Replica::new(
        &disk.path(),
        "alone",
        &["--standalone", "--max-memory", MEMORY],
    )
}

/// Goal: a power cut loses nothing that was acknowledged.
/// Method: the replica is killed under writers, and of what it had not synced a random part is undone.
#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let Some(disk) = FaultyDisk::new() else {
        println!("{NOT_RUN}");
        return;
    };
    let seed = seed("a_power_cut_loses_nothing_that_was_acknowledged");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut replica = alone(&disk);
    let counters = Counters::new();
    let mut undone = 0;
    for _ in 0..25 {
        replica.start();
        counters.check(&mut replica.ready());
        let threads = counters.start(&replica.client_address());
        // The moment is what is random, so this is a pause and not a wait.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..300_000)));
        replica.kill();
        join(threads);
        undone += disk.power_cut(&mut rng);
    }
    replica.start();
    counters.check(&mut replica.ready());
    println!("{} writes, {undone} sectors undone", counters.total());
    assert!(undone > 0, "a cut that undoes nothing tests nothing");
}

/// Goal: where the log or the state cannot be written, the replica ends and says why, and nothing that was
/// acknowledged is lost.
/// Method: the disk fails after some writes, or some syncs, below the log or below the state, also at each sync
/// of a flush in turn, of which the last ones come when its manifest is in place; the power goes with it; then
/// the replica is started on a disk that is well.
#[test]
fn a_disk_that_fails_ends_the_replica_and_loses_nothing() {
    let seed = seed("a_disk_that_fails_ends_the_replica_and_loses_nothing");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut faults = [
        (Action::Write, "/log/", Wrong::Fails),
        (Action::Write, "/log/", Wrong::Torn),
        (Action::Sync, "/log/", Wrong::Fails),
        (Action::Write, "/state", Wrong::Fails),
        (Action::Write, "/state", Wrong::Torn),
    ]
    .map(|(on, below, wrong)| (on, below, wrong, rng.random_range(0..10)))
    .to_vec();
    faults.extend((0..10).map(|after| (Action::Sync, "/state", Wrong::Fails, after)));
    for (on, below, wrong, after) in faults {
        let Some(disk) = FaultyDisk::new() else {
            println!("{NOT_RUN}");
            return;
        };
        let mut replica = alone(&disk);
        let counters = Counters::new();
        replica.start();
        drop(replica.ready());
        disk.breaks(Fault {
            on,
            below,
            after,
            wrong,
        });
        let threads = counters.start(&replica.client_address());
        let ended = replica.wait();
        assert!(!ended.success(), "{on:?} below {below}: it goes on");
        join(threads);
        let log = replica.log();
        assert!(
            log.contains("this replica cannot go on"),
            "{on:?} below {below}: {log}"
        );
        assert!(!log.contains("did not end in time"), "{log}");
        assert!(disk.heals() > 0);
        disk.power_cut(&mut rng);
        replica.start();
        counters.check(&mut replica.ready());
        let threads = counters.start(&replica.client_address());
        let before = counters.total();
        eventually("it takes writes", || {
            (counters.total() > before).then_some(())
        });
        replica.kill();
        join(threads);
    }
}

/// Goal: what cannot be read is an error, and never a wrong value, or none.
/// Method: reads below the state fail for a while.
#[test]
fn a_read_that_fails_is_told_and_nothing_is_made_up() {
    let Some(disk) = FaultyDisk::new() else {
        println!("{NOT_RUN}");
        return;
    };
    let mut replica = alone(&disk);
    replica.start();
    let mut client = replica.ready();
    let keys = 30_000;
    let text = |number: u64| format!("{number}:{}", "y".repeat(1000));
    for some in (0..keys).collect::<Vec<u64>>().chunks(100) {
        for number in some {
            let (key, value) = (format!("key:{number}"), text(*number));
            client.send(&["SET", &key, &value]).unwrap();
        }
        for _ in some {
            assert_eq!(client.reply().unwrap(), Reply::Simple(b"OK".to_vec()));
        }
    }
    disk.breaks(Fault {
        on: Action::Read,
        below: "/state",
        after: 0,
        wrong: Wrong::Fails,
    });
    let (mut failed, mut right) = (0, 0);
    for number in 0..keys {
        match client.call(&["GET", &format!("key:{number}")]) {
            Ok(Reply::Bulk(found)) => {
                assert_eq!(found, text(number).into_bytes());
                right += 1;
            }
            Ok(Reply::Error(_)) => failed += 1,
            Ok(other) => panic!("key:{number}: {other:?}"),
            // A flush or a compaction that cannot read ends the replica.
            Err(_) => break,
        }
    }
    println!("{right} were in memory, {failed} could not be read");
    assert!(disk.heals() > 0 && failed > 0);
    replica.ask_to_stop();
    replica.wait();
    replica.start();
    let mut client = replica.ready();
    for number in 0..keys {
        let found = client.get(&format!("key:{number}")).unwrap();
        assert_eq!(found, Some(text(number)), "key:{number}");
    }
}

/// Goal: a slow disk makes writes slow, and loses nothing.
/// Method: each sync of the log takes long; the replica is killed in the midst of them.
#[test]
fn a_slow_disk_loses_nothing() {
    let Some(disk) = FaultyDisk::new() else {
        println!("{NOT_RUN}");
        return;
    };
    let seed = seed("a_slow_disk_loses_nothing");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut replica = alone(&disk);
    let counters = Counters::new();
    for _ in 0..5 {
        replica.start();
        counters.check(&mut replica.ready());
        disk.breaks(Fault {
            on: Action::Sync,
            below: "/log/",
            after: 0,
            wrong: Wrong::Takes(Duration::from_millis(rng.random_range(20..80))),
        });
        let threads = counters.start(&replica.client_address());
        let before = counters.total();
        eventually("writes are taken", || {
            (counters.total() >= before + 40).then_some(())
        });
        assert!(disk.struck() > 0);
        replica.kill();
        join(threads);
        disk.heals();
        disk.power_cut(&mut rng);
    }
    replica.start();
    counters.check(&mut replica.ready());
}

/// Goal: a leader with much log to apply is not taken for one whose disk has stalled.
/// Method: all of a log is to be applied from a disk that is slow to read.
#[test]
fn a_long_log_to_apply_is_no_stall() {
    let Some(disk) = FaultyDisk::new() else {
        println!("{NOT_RUN}");
        return;
    };
    let mut replica = Replica::new(&disk.path(), "alone", &["--standalone"]);
    replica.start();
    let mut client = replica.ready();
    let text = "z".repeat(100_000);
    for number in 0..120 {
        client.set(&format!("key:{number}"), &text).unwrap();
    }
    replica.kill();
    disk.breaks(Fault {
        on: Action::Read,
        below: "/log/",
        after: 0,
        wrong: Wrong::Takes(Duration::from_millis(250)),
    });
    replica.start();
    let mut client = replica.ready();
    let log = replica.log();
    assert!(!log.contains("no longer leads"), "{log}");
    assert_eq!(client.get("key:119").unwrap(), Some(text));
}

/// Goal: a standalone replica whose disk stalls serves again once the disk does.
/// Method: a sync takes longer than a leader without a disk leads.
#[test]
fn a_standalone_replica_leads_again_after_a_stall() {
    let Some(disk) = FaultyDisk::new() else {
        println!("{NOT_RUN}");
        return;
    };
    let mut replica = alone(&disk);
    replica.start();
    replica.ready().set("before", "1").unwrap();
    disk.breaks(Fault {
        on: Action::Sync,
        below: "/log/",
        after: 0,
        wrong: Wrong::Takes(Duration::from_secs(2)),
    });
    let mut client = replica.client();
    assert!(
        client.set("meanwhile", "1").is_err(),
        "nobody knows what became of it"
    );
    eventually("it has stepped down", || {
        replica.log().contains("no longer leads").then_some(())
    });
    disk.heals();
    eventually("it takes writes", || {
        replica.client().set("after", "1").ok()
    });
    assert_eq!(
        replica.client().get("before").unwrap().as_deref(),
        Some("1")
    );
}

/// Goal: with synchronous replication, a leader whose disk fails takes nothing with it.
/// Method: its log cannot be written any more; the follower that has most is named in its place, and has everything.
#[test]
fn a_follower_has_what_a_leader_with_a_failed_disk_acknowledged() {
    let Some(disk) = FaultyDisk::new() else {
        println!("{NOT_RUN}");
        return;
    };
    let settings = Settings {
        sync_replicas: 1,
        log_retention: 64 << 20,
        ..Settings::default()
    };
    let mut store = TestStore::start_in(3, settings, |root| {
        link_to(root, [disk.path()]);
    });
    store.everybody_votes(1);
    store.settle();
    let counters = Counters::new();
    let threads = counters.start(&store.replicas[0].client_address());
    eventually("writes are taken", || {
        (counters.total() > 500).then_some(())
    });
    disk.breaks(Fault {
        on: Action::Sync,
        below: "log/",
        after: 0,
        wrong: Wrong::Fails,
    });
    assert!(!store.replicas[0].wait().success());
    join(threads);
    // Each write is on one of the two, so it must be the one that has more.
    store.promote();
    store.leader_serves();
    counters.check(&mut store.replicas[store.leader()].client());
    disk.heals();
    store.replicas[0].start();
    store.assign();
    store.settle();
    store.assert_same();
}
