//! A disk that is full: writes are refused before anything fails, reads go on, and writes come back.

use std::fs;

use replicated_store::replication::admin::Settings;
use replicated_store::resp::reply::Reply;

use super::support::{Client, Replica, SmallDisk, TestStore, eventually, link_to};

const DISK: u64 = 128 << 20;
const VALUE: usize = 10_000;

fn value(number: usize) -> String {
    format!("{number}:{}", "x".repeat(VALUE))
}

/// Takes all the room that the disk has but for so many bytes.
fn ballast(disk: &SmallDisk, leave: u64) -> fs::File {
    let file = fs::File::create(disk.path().join("ballast")).expect("a file");
    let free = rustix::fs::statvfs(disk.path()).expect("a file system");
    let free = free.f_bavail * free.f_frsize;
    let size = free.saturating_sub(leave);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).expect("room");
    file
}

/// Writes new keys until that is refused; how many were taken.
fn write_until_refused(client: &mut Client, mut number: usize) -> usize {
    loop {
        match client
            .call(&["SET", &format!("key:{number}"), &value(number)])
            .unwrap()
        {
            Reply::Simple(_) => number += 1,
            Reply::Error(text) => {
                let text = String::from_utf8(text).unwrap();
                assert!(
                    text.starts_with("OOM the disk of this replica is"),
                    "{text}"
                );
                return number;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn all_there(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let found = client.get(&format!("key:{number}")).unwrap();
        assert!(found == Some(value(number)), "key:{number}");
    }
}

fn writes_again(client: &mut Client) {
    eventually("writes are taken again", || {
        client.set("more", "value").ok()
    });
}

fn started(disk: &SmallDisk) -> TestStore {
    let settings = Settings {
        log_retention: 16 << 20,
        max_memory: 64 << 20,
        ..Settings::default()
    };
    TestStore::start_in(1, settings, |root| {
        link_to(root, [disk.path()]);
    })
}

fn incarnation(replica: &Replica) -> u64 {
    replica.status().expect("a running replica").incarnation
}

/// Goal: a full disk loses nothing and stops nobody but writers, and no restart is needed afterwards.
/// Method: a leader on a small disk takes writes until it refuses them; it serves reads; deletions bring
/// writes back. It is filled again, and by somebody else to the last byte: then nothing is written but
/// everything read, until there is room. What was acknowledged is there after a kill as well.
#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    let Some(disk) = SmallDisk::new(DISK) else {
        println!("not run: it needs to mount a file system, as root");
        return;
    };
    let mut store = started(&disk);
    let life = incarnation(&store.replicas[0]);
    let mut client = store.replicas[0].client();
    let count = write_until_refused(&mut client, 0);
    println!("{count} keys were taken");
    assert!(count * VALUE > DISK as usize / 4, "{count}");
    eventually("the status says so", || {
        store.replicas[0]
            .status()?
            .message
            .contains("disk")
            .then_some(())
    });
    all_there(&mut client, 0..count);

    let kept = count / 2;
    for number in kept..count {
        let deleted = client.call(&["DEL", &format!("key:{number}")]).unwrap();
        assert_eq!(deleted, Reply::Integer(1));
    }
    writes_again(&mut client);
    let count = write_until_refused(&mut client, kept);
    println!("{count} keys after the deletions");

    let other = ballast(&disk, 0);
    assert!(client.set("other", "value").is_err());
    all_there(&mut client, 0..count);
    other.set_len(0).expect("a smaller file");
    let size = fs::metadata(disk.path().join("ballast")).unwrap().len();
    assert_eq!(size, 0);
    assert_eq!(client.call(&["FLUSHALL"]).map(|_| ()).ok(), Some(()));
    writes_again(&mut client);
    assert_eq!(incarnation(&store.replicas[0]), life, "no restart");

    let count = write_until_refused(&mut client, 0);
    store.replicas[0].kill();
    store.replicas[0].start();
    store.promote();
    store.leader_serves();
    all_there(&mut store.replicas[0].client(), 0..count);
}

/// Goal: a disk that grows is used at once.
#[test]
fn room_that_comes_is_used_without_a_restart() {
    let Some(disk) = SmallDisk::new(DISK) else {
        println!("not run: it needs to mount a file system, as root");
        return;
    };
    let other = ballast(&disk, 64 << 20);
    let store = started(&disk);
    let mut client = store.replicas[0].client();
    let count = write_until_refused(&mut client, 0);
    other.set_len(0).expect("a smaller file");
    writes_again(&mut client);
    let more = write_until_refused(&mut client, count);
    assert!(more > count + 1000, "{count} {more}");
    all_there(&mut client, 0..more);
}

/// Goal: what has to be replayed at a start is bounded, however little of it is entries.
/// Method: one key is written again and again, much more often than the log may grow behind the state; so
/// that is flushed, and what is before it goes from the log. After a kill the newest value is there.
#[test]
fn a_log_of_overwrites_does_not_grow_without_bound() {
    let Some(disk) = SmallDisk::new(DISK) else {
        println!("not run: it needs to mount a file system, as root");
        return;
    };
    let mut store = started(&disk);
    let mut client = store.replicas[0].client();
    let mut number = 0;
    eventually("the log is trimmed", || {
        for _ in 0..500 {
            client.set("same", &value(number)).unwrap();
            number += 1;
        }
        let status = store.replicas[0].status()?;
        let kept = status.last.lsn.since(status.oldest_lsn);
        assert!(kept < DISK / 2, "{kept}");
        (status.oldest_lsn.0 > 0).then_some(())
    });
    store.replicas[0].kill();
    let begun = std::time::Instant::now();
    store.replicas[0].start();
    store.promote();
    store.leader_serves();
    println!("served after {:?}", begun.elapsed());
    let newest = store.replicas[0].client().get("same").unwrap();
    assert!(newest == Some(value(number - 1)));
}
