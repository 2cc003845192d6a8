//! Data directories as the release before made them.

use std::fs;
use std::path::Path;
use std::process::Command;

use replicated_store::env::{RealDisk, Slots};
use replicated_store::replication::{Position, ReplicaId};
use serde_json::Value;

use super::support::{Client, TestStore, eventually};

const KEYS: usize = 3000;

fn write(client: &mut Client, prefix: &str) {
    for key in 0..KEYS {
        client
            .send(&["SET", &format!("{prefix}:{key}"), &"v".repeat(500)])
            .unwrap();
    }
    for _ in 0..KEYS {
        client.reply().unwrap();
    }
}

/// Takes away what that release did not write: second copies, the note of the log's end, what was adopted, and in
/// the hard state whose it is and by whose word the log was cut.
fn as_the_release_before(dir: &Path) {
    for name in [
        "identity.copy",
        "hard.copy",
        "memory.copy",
        "current.copy",
        "adopted",
        "adopted.copy",
        "claim",
        "claim.copy",
        "watermark",
    ] {
        let _ = fs::remove_file(dir.join(name));
    }
    let disk = RealDisk::open(dir).unwrap();
    let (mut slots, found) = Slots::open(&disk, "hard").unwrap();
    if let Some(found) = found {
        let mut hard: Value = serde_json::from_slice(&found).unwrap();
        let fields = hard.as_object_mut().unwrap();
        assert!(fields.remove("id").is_some() && fields.remove("cut").is_some());
        // Both slots, as an earlier value may be in the other.
        for _ in 0..2 {
            slots.replace(&serde_json::to_vec(&hard).unwrap()).unwrap();
        }
    }
}

/// Goal: data directories of the release before are opened as they are, with everything in them and without a
/// seed, and take on what this release remembers.
/// Method: two replicas write, flush and write more, and are killed; what that release did not have is taken away;
/// they are started, promoted, and stopped in the middle of it once more.
#[test]
fn data_directories_of_the_release_before_are_taken_over() {
    let mut store = TestStore::start(2);
    store.vote_all(1);
    let leader = store.leader();
    write(&mut store.replicas[leader].client(), "flushed");
    store.replicas[leader].digest();
    write(&mut store.replicas[leader].client(), "logged");
    store.settle();
    let ids = [store.id(0), store.id(1)];
    let ends: Vec<_> = store
        .replicas
        .iter()
        .map(|replica| replica.status().unwrap().last)
        .collect();
    let mut logged = Vec::new();
    for replica in &mut store.replicas {
        replica.kill();
        as_the_release_before(&replica.dir);
        logged.push(replica.log().len());
    }
    taken_over(&mut store, Some((ids, ends)), logged);
}

/// Goal: the same of directories that the release before has really made.
/// Method: they are unpacked: two voters of protocol version 3, killed under writes of which a half was flushed.
#[test]
fn data_directories_of_protocol_version_3_are_taken_over() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/protocol-3.tar.gz");
    let mut store = TestStore::found(2, |root| {
        let unpacked = Command::new("tar")
            .arg("-xzf")
            .arg(archive)
            .arg("-C")
            .arg(root)
            .status();
        assert!(unpacked.unwrap().success());
        fs::read(root.join("register.json")).unwrap()
    });
    taken_over(&mut store, None, vec![0; 2]);
}

/// They are started, promoted, and stopped in the middle of it once more: everything is there, nothing was seeded.
fn taken_over(
    store: &mut TestStore,
    known: Option<([ReplicaId; 2], Vec<Position>)>,
    logged: Vec<usize>,
) {
    let mut known = known;
    for round in 0..2 {
        for replica in &mut store.replicas {
            replica.start();
        }
        let found = || {
            let statuses: Vec<_> = store
                .replicas
                .iter()
                .map(|it| it.status().unwrap())
                .collect();
            let ids = [statuses[0].id, statuses[1].id];
            (ids, statuses.iter().map(|it| it.last).collect::<Vec<_>>())
        };
        let (ids, ends) = known.get_or_insert_with(found).clone();
        let (ids_now, ends_now) = found();
        assert_eq!(ids_now, ids);
        let mut pairs = ends_now.iter().zip(&ends);
        assert!(pairs.all(|(now, before)| now >= before), "round {round}");
        store.promote();
        store.leader_serves();
        store.settle();
        for replica in &mut store.replicas {
            eventually("it remembers what it adopted", || {
                let adopted = replica.status()?.adopted?;
                (adopted == store.register).then_some(())
            });
            replica.kill();
            for name in ["adopted", "hard.copy", "watermark", "identity.copy"] {
                assert!(replica.dir.join(name).exists(), "{name}");
            }
        }
    }
    for replica in &mut store.replicas {
        replica.start();
    }
    store.promote();
    store.assert_same();
    let mut client = store.replicas[store.leader()].client();
    for key in [0, KEYS / 2, KEYS - 1] {
        for prefix in ["flushed", "logged"] {
            let found = client.get(&format!("{prefix}:{key}")).unwrap();
            assert_eq!(found.map(|value| value.len()), Some(500), "{prefix}:{key}");
        }
    }
    for (replica, logged) in store.replicas.iter().zip(logged) {
        let said = replica.log().split_off(logged);
        assert!(!said.contains("a seed begins"), "{said}");
        assert!(!said.contains("ERROR"), "{said}");
    }
}
