//! New followers: seeded from a snapshot of the leader, while it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use replicated_store::replication::admin::{ReplicaState, SeedSource, Settings};

use super::support::{Client, TestStore, eventually, flip, largest_table};

/// Values large enough that a seed takes a while under a bandwidth bound.
fn fill(store: &TestStore, keys: usize) {
    let mut client = store.replicas[store.leader()].client();
    let value = "x".repeat(1000);
    for i in 0..keys {
        client
            .send(&["SET", &format!("fill:{i}"), &format!("{value}{i}")])
            .unwrap();
        if i % 100 == 99 {
            for _ in 0..100 {
                client.reply().unwrap();
            }
        }
    }
}

/// Writes until told to stop; the longest pause and the number of acknowledged writes.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(usize, Duration)>,
}

impl Writer {
    fn start(store: &TestStore) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let address = store.replicas[store.leader()].client_address();
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(&address).expect("a connection");
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                client
                    .set(&format!("during:{count}"), "value")
                    .expect("an acknowledged write");
                longest = longest.max(start.elapsed());
                count += 1;
            }
            (count, longest)
        });
        Self { stop, thread }
    }

    fn stop(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no write failed")
    }
}

fn slow() -> Settings {
    Settings {
        seed_bandwidth: 4 << 20,
        ..Settings::default()
    }
}

fn half_way(store: &TestStore, index: usize) {
    eventually("half of the seed is there", || {
        let seed = store.replicas[index].status()?.seed?;
        (seed.bytes * 3 > seed.total_bytes).then_some(())
    });
}

/// The four steps, under load: no write fails, and the newcomer is not ready before the end.
#[test]
fn a_follower_is_seeded_while_writes_go_on() {
    let mut store = TestStore::start_with(1, slow());
    fill(&store, 10_000);
    let writer = Writer::start(&store);
    let new = store.add();
    store.assign();
    let mut states = Vec::new();
    eventually("the newcomer is ready", || {
        let status = store.replicas[new].status()?;
        if states.last() != Some(&status.state) {
            states.push(status.state);
        }
        assert!(
            !status.ready || status.state == ReplicaState::Streaming,
            "{status:?}"
        );
        status.ready.then_some(())
    });
    let (count, longest) = writer.stop();
    println!("{count} writes, the longest took {longest:?}, states {states:?}");
    assert!(states.contains(&ReplicaState::Seeding), "{states:?}");
    assert!(count > 0 && longest < Duration::from_secs(1));
    store.assert_same();
}

/// The LSN of the last snapshot that a replica made, and how many it made.
fn snapshots(store: &TestStore, index: usize) -> (u64, usize) {
    let log = store.replicas[index].log();
    let made = log.lines().filter(|line| line.contains("made a snapshot"));
    let lsns: Vec<u64> = made
        .filter_map(|line| {
            let lsn = line.split("lsn=").nth(1)?;
            lsn.split_whitespace().next()?.parse().ok()
        })
        .collect();
    (lsns.last().copied().unwrap_or_default(), lsns.len())
}

/// Goal: a leader that clients keep busy does not flush for a newcomer.
/// Method: something is flushed, more is written, and goes on being written: the newcomer gets the first part
/// from the snapshot and all of the rest from the log.
#[test]
fn a_newcomer_gets_what_was_flushed_while_clients_write() {
    let mut store = TestStore::start(1);
    fill(&store, 3000);
    let flushed = store.replicas[0].digest().lsn;
    fill(&store, 3000);
    let filled = store.replicas[0].status().expect("a status").last.lsn;
    assert!(filled > flushed);
    let writer = Writer::start(&store);
    let before = eventually("writes are under way", || {
        let end = store.replicas[0].status()?.last.lsn;
        (end > filled).then_some(snapshots(&store, 0).1)
    });
    let new = store.add();
    store.assign();
    eventually("the newcomer is ready", || {
        store.replicas[new].status()?.ready.then_some(())
    });
    writer.stop();
    let (lsn, made) = snapshots(&store, 0);
    assert!(made > before);
    assert_eq!(lsn, flushed.0);
    store.assert_same();
}

#[test]
fn a_seed_whose_target_is_killed_goes_on() {
    let mut store = TestStore::start_with(1, slow());
    fill(&store, 10_000);
    let new = store.add();
    store.assign();
    half_way(&store, new);
    let seed = |store: &TestStore| store.replicas[new].status()?.seed;
    let before = seed(&store).expect("a seed under way").bytes;
    store.replicas[new].kill();
    fill(&store, 100);
    store.replicas[new].start();
    store.assign();
    let after = eventually("it goes on", || seed(&store)).bytes;
    assert!(
        after >= before,
        "files go on where they were: {after}, {before}"
    );
    store.assert_same();
    assert_eq!(
        store.replicas[new].log().matches("a seed begins").count(),
        1
    );
}

#[test]
fn a_seed_whose_source_is_killed_gets_there() {
    let mut store = TestStore::start_with(1, slow());
    fill(&store, 10_000);
    let new = store.add();
    store.assign();
    half_way(&store, new);
    store.replicas[0].kill();
    store.replicas[0].start();
    store.promote_only(0);
    store.assert_same();
}

#[test]
fn two_followers_are_seeded_at_once() {
    let mut store = TestStore::start_with(1, slow());
    fill(&store, 5_000);
    store.add();
    store.add();
    store.assign();
    store.assert_same();
}

/// A follower that is further behind than the log reaches is seeded anew, by itself.
#[test]
fn a_follower_beyond_the_log_retention_is_seeded_anew() {
    let settings = Settings {
        log_retention: 1 << 20,
        // Little, so that the state is flushed often, and the log with it is not needed.
        max_memory: 256 << 20,
        ..Settings::default()
    };
    let mut store = TestStore::start_with(2, settings);
    store.replicas[1].kill();
    fill(&store, 150_000);
    eventually("the log was trimmed", || {
        let status = store.replicas[0].status()?;
        (status.oldest_lsn.0 > 0).then_some(())
    });
    store.replicas[1].start();
    store.assign();
    store.assert_same();
    assert_eq!(store.replicas[1].log().matches("a seed begins").count(), 2);
}

/// A replica that lost its disk comes back under another id, and is seeded.
#[test]
fn a_follower_that_lost_its_disk_is_seeded() {
    let mut store = TestStore::start(2);
    fill(&store, 1000);
    let before = store.id(1);
    store.replicas[1].kill();
    store.replicas[1].lose_disk();
    store.replicas[1].start();
    assert_ne!(store.id(1), before);
    store.assign();
    store.assert_same();
}

fn sparing() -> Settings {
    Settings {
        seed_source: SeedSource::PreferFollower,
        ..slow()
    }
}

fn source_of(store: &TestStore, index: usize) -> String {
    eventually("a seed is under way", || {
        store.replicas[index].status()?.seed
    })
    .from
}

/// Goal: with `PreferFollower` the leader is spared, as long as there is a follower in sync.
/// Method: a third replica is seeded while writes go on; then a fourth, with the followers away.
#[test]
fn a_follower_in_sync_is_the_source_if_the_user_wants_it() {
    let mut store = TestStore::start_with(2, sparing());
    fill(&store, 5_000);
    store.settle();
    let writer = Writer::start(&store);
    let third = store.add();
    store.assign();
    assert_eq!(source_of(&store, third), "replica-1");
    eventually("it is ready", || {
        store.replicas[third].status()?.ready.then_some(())
    });
    let (count, _) = writer.stop();
    assert!(count > 0);
    store.assert_same();
    store.replicas[1].kill();
    store.replicas[third].kill();
    let fourth = store.add();
    store.assign();
    assert_eq!(source_of(&store, fourth), "replica-0");
    store.assert_same();
}

/// Goal: what is damaged at the source never becomes somebody's state.
/// Method: a bit of the leader's table is flipped. The newcomer fetches the file again and again, says
/// what is wrong, and gets there once the file is as it was.
#[test]
fn a_file_that_is_damaged_at_the_source_is_not_installed() {
    let mut store = TestStore::start(1);
    fill(&store, 5_000);
    store.replicas[0].digest(); // flushes
    let file = largest_table(&store.replicas[0].dir);
    flip(&file, 100_000);
    let new = store.add();
    store.assign();
    eventually("the newcomer says what is wrong", || {
        let message = store.replicas[new].status()?.message;
        let right = message.contains("of the snapshot of replica-0 is not what its checksum says");
        right.then_some(())
    });
    assert!(store.replicas[new].log().contains("fetches it again"));
    assert!(!store.replicas[new].status().unwrap().ready);
    flip(&file, 100_000);
    store.assert_same();
}

/// Goal: a leader of before that rejoins after it has trimmed its log below where the histories part gives up
/// what is left, keeps it aside, and is seeded.
/// Method: the other one is away from the beginning on, and leads after it.
#[test]
fn a_leader_of_before_rejoins_though_its_log_begins_after_the_parting() {
    let settings = Settings {
        log_retention: 1 << 20,
        max_memory: 256 << 20,
        ..Settings::default()
    };
    let mut store = TestStore::start_with(2, settings);
    fill(&store, 100);
    store.settle();
    store.replicas[1].kill();
    fill(&store, 150_000);
    eventually("the log was trimmed", || {
        let status = store.replicas[0].status()?;
        (status.oldest_lsn.0 > 1 << 20).then_some(())
    });
    store.replicas[0].kill();
    store.replicas[1].start();
    store.promote_only(1);
    store.leader_serves();
    store.replicas[1].client().set("after", "1").unwrap();
    store.replicas[0].start();
    store.assign();
    store.assert_same();
    let kept = store.replicas[0].status().unwrap().divergent;
    let kept = kept.expect("what it had to give up");
    assert!(kept.bytes > 0 && store.replicas[0].dir.join(&kept.file).is_file());
}
