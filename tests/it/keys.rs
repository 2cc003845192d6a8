//! KEYS of many keys: whole, and at nobody's cost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use replicated_store::resp::reply::Reply;

use super::support::{Replica, TestStore, largest_table};

const KEYS: u64 = 60_000;
/// More than are walked over at once.
const MANY: usize = 120_000;

/// Goal: a KEYS returns each key once, from memory and from the disk, and other clients are answered meanwhile.
/// Method: more than fits into memory; a client that writes, and counts, beside each KEYS.
#[test]
fn keys_of_many_are_found_while_others_write() {
    let root = tempfile::tempdir().unwrap();
    let options = ["--standalone", "--max-memory", "16777216"];
    let mut replica = Replica::new(root.path(), "alone", &options);
    replica.start();
    let mut client = replica.ready();
    let value = "x".repeat(300);
    for first in (0..KEYS).step_by(1000) {
        for number in first..first + 1000 {
            let key = format!(
                "{}:{number}",
                if number % 1000 == 7 { "few" } else { "many" }
            );
            client.send(&["SET", &key, &value]).unwrap();
        }
        for _ in 0..1000 {
            assert_eq!(client.reply().unwrap(), Reply::Simple(b"OK".to_vec()));
        }
    }
    let table = std::fs::metadata(largest_table(&replica.dir)).unwrap();
    assert!(table.len() > 1 << 20, "hardly anything was flushed");
    let (written, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (mut writer, written, over) = (replica.client(), &written, &over);
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let next = written.load(Ordering::SeqCst) + 1;
                // It overwrites what is there.
                let key = format!("many:{}", next * 10 % KEYS);
                writer.set(&key, &"y".repeat(2000)).unwrap();
                written.store(next, Ordering::SeqCst);
            }
        });
        let mut found = Vec::new();
        for pattern in ["few:*", "*", "nothing"] {
            // One write may have been under way before, and one be answered after it. A disk that others keep
            // busy may have no time for more within one KEYS: so it is asked again.
            let enough = Instant::now() + Duration::from_mins(1);
            let mut meanwhile = 0;
            while meanwhile <= 2 && Instant::now() < enough {
                let before = written.load(Ordering::SeqCst);
                let reply = client.call(&["KEYS", pattern]).unwrap();
                meanwhile = written.load(Ordering::SeqCst) - before;
                found.push((pattern, reply, meanwhile));
            }
        }
        over.store(true, Ordering::SeqCst); // before anything fails: the writer would go on
        for (pattern, expected) in [("few:*", KEYS / 1000), ("*", KEYS), ("nothing", 0)] {
            let of = found.iter().filter(|(asked, ..)| *asked == pattern);
            let most = of.map(|(_, reply, meanwhile)| {
                assert_eq!(count(reply), expected, "{pattern}");
                meanwhile
            });
            let most = most.max().unwrap();
            assert!(*most > 2, "at most {most} writes beside a KEYS {pattern}");
        }
    });
    // A transaction's is of one moment.
    for command in [&["MULTI"][..], &["DEL", "few:7"], &["KEYS", "few:*"]] {
        client.call(command).unwrap();
    }
    let Reply::Array(replies) = client.call(&["EXEC"]).unwrap() else {
        panic!("no replies");
    };
    assert_eq!(count(&replies[1]), KEYS / 1000 - 1);
    let reply = client.call(&["KEYS", "few:*"]).unwrap();
    assert_eq!(count(&reply), KEYS / 1000 - 1);
}

/// How many there are, each of them once.
fn count(reply: &Reply) -> u64 {
    let Reply::Array(keys) = reply else {
        panic!("{reply:?}");
    };
    let each: BTreeSet<String> = keys.iter().map(|key| format!("{key:?}")).collect();
    assert_eq!(each.len(), keys.len());
    keys.len() as u64
}

/// Goal: more keys than are walked over at once are found while the leader goes on under new configurations.
/// Method: one client asks without end, the voters are told again and again.
#[test]
fn keys_of_many_are_found_under_new_configurations() {
    let mut store = TestStore::start(1);
    let mut client = store.replicas[0].client();
    for first in (0..MANY).step_by(2000) {
        for number in first..first + 2000 {
            client.send(&["SET", &format!("k{number}"), ""]).unwrap();
        }
        for _ in 0..2000 {
            assert_eq!(client.reply().unwrap(), Reply::Simple(b"OK".to_vec()));
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut client = store.replicas[0].client();
        let over = &over;
        let asking = scope.spawn(move || {
            let mut asked = 0;
            while !over.load(Ordering::SeqCst) {
                let reply = client.call(&["KEYS", "*"]).unwrap();
                assert!(
                    matches!(&reply, Reply::Array(keys) if keys.len() == MANY),
                    "{:?}",
                    matches!(reply, Reply::Error(_)).then_some(reply)
                );
                asked += 1;
            }
            asked
        });
        for _ in 0..20 {
            store.vote_all(0);
        }
        over.store(true, Ordering::SeqCst);
        assert!(asking.join().unwrap() > 0);
    });
}
