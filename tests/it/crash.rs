//! Crashes of one replica: whatever was acknowledged is there afterwards.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::support::{Client, Replica, seed};

/// Writes `n = 1, 2, ...` to a few keys of its own until the connection breaks, and tells the
/// newest one that was acknowledged.
fn write_until_broken(address: &str, writer: usize, from: u64, acknowledged: &AtomicU64) {
    let Ok(mut client) = Client::connect(address) else {
        return;
    };
    let mut next = from;
    while client
        .set(&format!("writer:{writer}"), &next.to_string())
        .is_ok()
    {
        acknowledged.store(next, Ordering::SeqCst);
        next += 1;
    }
}

/// `kill -9` in the middle of writes, a hundred times.
#[test]
fn a_killed_replica_keeps_what_it_acknowledged() {
    const WRITERS: usize = 4;
    let mut rng = SmallRng::seed_from_u64(seed("a_killed_replica_keeps_what_it_acknowledged"));
    let root = tempfile::tempdir().unwrap();
    let mut replica = Replica::new(root.path(), "alone", &["--standalone"]);
    let acknowledged: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    for round in 0..100 {
        replica.start();
        let mut client = replica.ready();
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let value = client.get(&format!("writer:{writer}")).unwrap();
            let found = value.map_or(0, |value| value.parse::<u64>().unwrap());
            let expected = acknowledged.load(Ordering::SeqCst);
            // One write may have been on its way: it was not answered, so either is right.
            let right = found == expected || found == expected + 1;
            assert!(
                right,
                "round {round}: found {found}, {expected} was acknowledged"
            );
            acknowledged.store(found, Ordering::SeqCst);
        }
        let threads: Vec<_> = acknowledged
            .iter()
            .enumerate()
            .map(|(writer, acknowledged)| {
                let (address, acknowledged) = (replica.client_address(), Arc::clone(acknowledged));
                std::thread::spawn(move || {
                    let from = acknowledged.load(Ordering::SeqCst) + 1;
                    write_until_broken(&address, writer, from, &acknowledged);
                })
            })
            .collect();
        // The moment of the kill is what is random here, so this is a pause and not a wait.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..60_000)));
        replica.kill();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

/// The segment of the log that holds this.
fn segment_with(replica: &Replica, text: &[u8]) -> String {
    let log = std::fs::read_dir(replica.dir.join("log")).unwrap();
    let mut names = log
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("log-"))
        .map(|name| format!("log/{name}"));
    let found = names.find(|name| {
        let mut bytes = Vec::new();
        replica.open(name).read_to_end(&mut bytes).unwrap();
        memchr::memmem::find(&bytes, text).is_some()
    });
    found.expect("a segment")
}

/// Damage in the middle of the log is reported, and nothing is cut off.
#[test]
fn damage_in_the_log_is_reported() {
    let root = tempfile::tempdir().unwrap();
    let mut replica = Replica::new(root.path(), "damaged", &["--standalone"]);
    replica.start();
    let mut client = replica.ready();
    for i in 0..200 {
        client
            .set(
                &format!("key:{i}"),
                "0123456789012345678901234567890123456789",
            )
            .unwrap();
    }
    replica.kill();
    let segment = segment_with(&replica, b"key:100");
    let mut file = replica.open(&segment);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let at = bytes
        .windows(7)
        .position(|window| window == b"key:100")
        .expect("a key in the log");
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(b"KEY").unwrap();
    drop(file);
    replica.spawn();
    let ended = replica.wait();
    assert!(!ended.success(), "a damaged log must not be opened");
    let log = replica.log();
    assert!(
        log.contains("damaged") && log.contains("replica repair"),
        "{log}"
    );
    let mut after = Vec::new();
    replica.open(&segment).read_to_end(&mut after).unwrap();
    assert_eq!(after.len(), bytes.len());
    assert_eq!(
        after.iter().zip(&bytes).filter(|(a, b)| a != b).count(),
        3,
        "only our damage"
    );
}

#[test]
fn a_data_directory_is_used_by_one_process_only() {
    let root = tempfile::tempdir().unwrap();
    let mut first = Replica::new(root.path(), "same", &["--standalone"]);
    first.start();
    let mut second = Replica::new(root.path(), "same", &["--standalone"]);
    second.spawn();
    assert!(!second.wait().success());
    assert!(
        second.log().contains("in use by another replica process"),
        "{}",
        second.log()
    );
}
