//! More data than memory: everything is there, and memory stays within its bounds.

use replicated_store::replication::admin::Settings;
use replicated_store::resp::reply::Reply;

use super::support::{Client, Replica, TestStore, eventually};

const KEYS: usize = 50_000;
const BUDGET: u64 = 16 << 20;
const PIPELINE: usize = 200;

fn key(number: usize) -> String {
    format!("key:{number}")
}

/// Different for each round of writing.
fn value(number: usize, round: usize) -> String {
    format!("{round}:{number}:{}", "x".repeat(1400))
}

fn write_all(client: &mut Client, numbers: impl Iterator<Item = usize>, round: usize) {
    let numbers: Vec<usize> = numbers.collect();
    for some in numbers.chunks(PIPELINE) {
        for number in some {
            let (key, value) = (key(*number), value(*number, round));
            client.send(&["SET", &key, &value]).unwrap();
        }
        for _ in some {
            assert_eq!(client.reply().unwrap(), Reply::Simple(b"OK".to_vec()));
        }
    }
}

fn check_all(client: &mut Client, round: impl Fn(usize) -> usize) {
    let numbers: Vec<usize> = (0..KEYS).collect();
    for some in numbers.chunks(PIPELINE) {
        for number in some {
            client.send(&["GET", &key(*number)]).unwrap();
        }
        for number in some {
            let found = client.reply().unwrap();
            let expected = value(*number, round(*number)).into_bytes();
            assert!(found == Reply::Bulk(expected), "{}", key(*number));
        }
    }
}

fn info(client: &mut Client, field: &str) -> u64 {
    let Reply::Bulk(text) = client.call(&["INFO", "everything"]).unwrap() else {
        panic!("no text");
    };
    let text = String::from_utf8(text).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = line.unwrap_or_else(|| panic!("no {field} in {text}"));
    value.parse().expect("a number")
}

fn check_memory(client: &mut Client) {
    assert_eq!(info(client, "maxmemory"), BUDGET);
    let used = info(client, "used_memory");
    assert!(used < BUDGET + BUDGET / 20, "{used}");
    assert_eq!(info(client, "evicted_keys"), 0);
}

fn caught_up(store: &TestStore, index: usize) -> &Replica {
    let replica = &store.replicas[index];
    eventually("the follower has everything", || {
        let end = store.replicas[store.leader()].status()?.last.lsn;
        (replica.status()?.applied_lsn == end).then_some(())
    });
    replica
}

/// The cache of blocks has its size for as long as a process lives: one that was not told of the budget
/// before it started has noted it for the next time.
fn restart_within_budget(store: &mut TestStore) {
    for replica in &mut store.replicas {
        eventually("the budget is noted", || {
            let noted = std::fs::read(replica.dir.join("memory")).ok()?;
            let wanted = BUDGET.to_string();
            noted.ends_with(wanted.as_bytes()).then_some(())
        });
        replica.kill();
        replica.start();
    }
    store.promote();
    store.settle();
}

/// Goal: data of four times the memory budget works.
/// Method: so much is written to a leader with a follower, some of it again, then everything is read from
/// both; the leader is killed and everything is read again. Memory is what INFO says, within the budget.
#[test]
fn data_of_four_times_the_memory_is_all_there() {
    let settings = Settings {
        max_memory: BUDGET,
        ..Settings::default()
    };
    let mut store = TestStore::start_with(2, settings);
    restart_within_budget(&mut store);
    let mut client = store.replicas[0].client();
    write_all(&mut client, 0..KEYS, 1);
    check_memory(&mut client);
    write_all(&mut client, (0..KEYS).step_by(3), 2);
    let round = |number: usize| if number.is_multiple_of(3) { 2 } else { 1 };
    for index in 0..2 {
        let mut client = caught_up(&store, index).client();
        let (hits, misses) = (
            info(&mut client, "keyspace_hits"),
            info(&mut client, "keyspace_misses"),
        );
        check_all(&mut client, round);
        check_memory(&mut client);
        assert_eq!(info(&mut client, "keyspace_hits"), hits + KEYS as u64);
        assert_eq!(client.get("nothing").unwrap(), None);
        assert_eq!(info(&mut client, "keyspace_misses"), misses + 1);
        assert!(info(&mut client, "data_on_disk") > 4 * BUDGET);
        assert!(info(&mut client, "entries_evicted_to_disk") > KEYS as u64 / 2);
        assert!(info(&mut client, "entries_read_from_disk") > KEYS as u64 / 2);
        assert_eq!(
            client.call(&["DBSIZE"]).unwrap(),
            Reply::Integer(KEYS as i64)
        );
        println!(
            "resident: {} MB",
            info(&mut client, "used_memory_rss") >> 20
        );
    }
    store.replicas[0].kill();
    store.replicas[0].start();
    store.promote();
    store.leader_serves();
    let mut client = store.replicas[store.leader()].client();
    check_all(&mut client, round);
    check_memory(&mut client);
}
