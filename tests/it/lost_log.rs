//! Pieces of the log that are gone: with a leader at hand the replica is made whole from it, alone it does
//! not start, and says what is missing.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::{Client, Replica, TestStore, eventually};

const KEYS: usize = 5000;
const PIPELINE: usize = 500;

fn write(client: &mut Client) {
    for some in (0..KEYS).collect::<Vec<_>>().chunks(PIPELINE) {
        for number in some {
            let value = format!("{number}:{}", "x".repeat(1000));
            client
                .send(&["SET", &format!("key:{number}"), &value])
                .unwrap();
        }
        for _ in some {
            client.reply().unwrap();
        }
    }
}

/// The segment that was written last, and its content without what is zeros at the end.
fn live(replica: &Replica) -> (PathBuf, Vec<u8>, usize) {
    let entries = fs::read_dir(replica.dir.join("log")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut used: Vec<_> = paths
        .filter(|path| path.to_string_lossy().contains("/log-0"))
        .map(|path| (fs::read(&path).unwrap(), path))
        .filter(|(bytes, _)| bytes.starts_with(b"RSLS"))
        .map(|(bytes, path)| (path, bytes))
        .collect();
    used.sort();
    let (path, bytes) = used.pop().expect("a segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    (path, bytes, end)
}

type Harm = fn(&Path, &[u8], usize);

const HARMS: [(&str, Harm); 6] = [
    ("deleted", |path, _, _| fs::remove_file(path).unwrap()),
    ("emptied", |path, _, _| fs::write(path, b"").unwrap()),
    ("replaced", |path, _, _| {
        fs::write(path, b"something else").unwrap();
    }),
    ("cut to half", |path, bytes, end| {
        fs::write(path, &bytes[..end / 2]).unwrap();
    }),
    ("half zeroed", |path, bytes, end| {
        let zeros = vec![0; bytes.len() - end / 2];
        fs::write(path, [&bytes[..end / 2], &zeros].concat()).unwrap();
    }),
    ("with all the log gone", |path, _, _| {
        let log = path.parent().unwrap();
        fs::rename(log, log.with_file_name("away")).unwrap();
    }),
];

/// Goal: nothing acknowledged is missing unnoticed after a kill.
/// Method: the segment that was written last is spoiled in each way; the replica does not start, says what is
/// missing and how to go on; put back, it starts with everything.
#[test]
fn alone_it_does_not_start_without_a_piece_of_its_log() {
    let root = tempfile::tempdir().unwrap();
    let mut replica = Replica::new(root.path(), "alone", &["--standalone"]);
    replica.start();
    write(&mut replica.ready());
    replica.kill();
    let (path, bytes, end) = live(&replica);
    let log = path.parent().unwrap().to_owned();
    for (what, harm) in HARMS {
        harm(&path, &bytes, end);
        let before = replica.log().len();
        replica.spawn();
        assert!(!replica.wait().success(), "{what}");
        let said = replica.log().split_off(before);
        let told = said.contains("does not start") && said.contains("--accept-loss");
        assert!(told, "{what}: {said}");
        if log.with_file_name("away").exists() {
            if log.exists() {
                fs::remove_dir_all(&log).unwrap();
            }
            fs::rename(log.with_file_name("away"), &log).unwrap();
        }
        fs::write(&path, &bytes).unwrap();
    }
    replica.start();
    let mut client = replica.ready();
    for number in [0, KEYS / 2, KEYS - 1] {
        let found = client.get(&format!("key:{number}")).unwrap();
        assert!(found.is_some_and(|value| value.starts_with(&format!("{number}:"))));
    }
}

/// Goal: with a leader at hand, a replica without a piece of its log is made whole from it by itself.
#[test]
fn a_follower_without_a_piece_of_its_log_is_made_whole() {
    let mut store = TestStore::start(2);
    write(&mut store.replicas[store.leader()].client());
    store.settle();
    let follower = 1 - store.leader();
    for (what, harm) in HARMS {
        let replica = &mut store.replicas[follower];
        replica.kill();
        let (path, bytes, end) = live(replica);
        harm(&path, &bytes, end);
        let before = replica.log().len();
        replica.start();
        let told = replica.status().expect("a status").message;
        assert!(
            told.contains("the log is damaged after LSN"),
            "{what}: {told}"
        );
        store.assign();
        store.settle();
        let replica = &store.replicas[follower];
        eventually("the seed is installed", || {
            let said = replica.log().split_off(before);
            assert!(
                said.contains("it is made whole from the leader"),
                "{what}: {said}"
            );
            said.contains("the seed is installed").then_some(())
        });
        eventually("the damage is told no more", || {
            let status = replica.status()?;
            status.message.is_empty().then_some(())
        });
        store.assert_same();
        let away = store.replicas[follower].dir.join("away");
        if away.exists() {
            fs::remove_dir_all(away).unwrap();
        }
        // Enough for another segment.
        write(&mut store.replicas[store.leader()].client());
        store.settle();
    }
}
