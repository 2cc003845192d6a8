//! A disk that does not answer: a small file system of its own for one replica, which is frozen.

use std::path::Path;

use replicated_store::replication::admin::{Role, Settings};

use super::support::{Client, SmallDisk, TestStore, eventually, link_to};

/// Goal: a leader whose disk stalls does not take the store with it.
/// Method: the leader's disk is frozen under a writer. It steps down by itself within a lease or
/// two and says why; two others elect one of them, which takes writes; after the thaw the old one
/// rejoins, and nothing acknowledged is lost.
#[test]
fn a_leader_whose_disk_stalls_steps_down() {
    let Some(disk) = SmallDisk::new(1 << 30) else {
        println!("not run: it needs to mount a file system, as root");
        return;
    };
    let settings = Settings {
        sync_replicas: 1,
        log_retention: 64 << 20,
        ..Settings::default()
    };
    let link = |root: &Path| {
        link_to(root, [disk.path()]);
    };
    let mut store = TestStore::start_in(3, settings, link);
    store.everybody_votes(1);
    store.settle();
    let mut client = store.replicas[0].client();
    for i in 0..100 {
        // On a busy machine a follower may be late for a lease.
        eventually("a write", || client.set(&format!("key:{i}"), "value").ok());
    }

    assert!(disk.freeze("-f"), "freezing a file system of ours");
    let address = store.replicas[0].client_address();
    let hanging = std::thread::spawn(move || Client::connect(&address)?.set("lost", "maybe"));
    let status = eventually("the leader steps down", || {
        let status = store.replicas[0].status()?;
        (status.role == Role::Follower).then_some(status)
    });
    assert!(status.message.contains("disk"), "{}", status.message);
    assert!(
        hanging.join().expect("no panic").is_err(),
        "no reply, as nobody knows"
    );

    store.promote_by(1, &[1, 2]);
    store.leader_serves();
    let mut client = store.replicas[1].client();
    for i in 0..100 {
        let value = client.get(&format!("key:{i}")).unwrap();
        assert_eq!(value.as_deref(), Some("value"), "key:{i}");
    }
    client.set("after", "1").expect("a write");
    assert!(disk.freeze("-u"), "thawing it");
    store.assert_same();
}
