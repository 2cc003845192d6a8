//! What transcripts cannot show of transactions.

use super::world::{READONLY, World};
use crate::command::View;
use crate::resp::OwnedArgs;

#[test]
fn exec_of_writes_is_refused_as_a_whole_when_the_replica_no_longer_leads() {
    let mut world = World::default();
    world.run("MULTI");
    world.run("SET a 1");
    world.view.refuses_writes = Some(READONLY);
    let refused = format!("-EXECABORT Transaction discarded because of: {READONLY}\r\n");
    assert_eq!(world.run("EXEC"), refused.as_bytes());
    assert!(world.view.keys().is_empty());
    // The transaction is over.
    assert_eq!(world.run("EXEC"), b"-ERR EXEC without MULTI\r\n");
}

#[test]
fn exec_of_reads_is_served_where_writes_are_not() {
    let mut world = World::default();
    world.view.refuses_writes = Some(READONLY);
    world.run("MULTI");
    world.run("GET a");
    assert_eq!(world.run("EXEC"), b"*1\r\n$-1\r\n");
}

#[test]
fn exec_of_reads_is_refused_while_loading() {
    let mut world = World::default();
    world.run("MULTI");
    world.run("GET a");
    world.view.refuses_reads = Some("LOADING wait");
    let refused = b"-EXECABORT Transaction discarded because of: LOADING wait\r\n";
    assert_eq!(world.run("EXEC"), refused);
}

#[test]
fn a_refused_write_spoils_the_transaction() {
    let mut world = World::default();
    world.view.refuses_writes = Some(READONLY);
    world.run("MULTI");
    assert_eq!(world.run("SET a 1"), format!("-{READONLY}\r\n").as_bytes());
    let aborted = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
    assert_eq!(world.run("EXEC"), aborted);
}

#[test]
fn a_watched_key_written_with_the_same_value_has_changed() {
    let mut world = World::default();
    world.run("SET a 1");
    world.run("WATCH a");
    world.view.put(b"a", b"1", 0).unwrap();
    world.run("MULTI");
    world.run("SET b 1");
    assert_eq!(world.run("EXEC"), b"*-1\r\n");
}

#[test]
fn a_transaction_is_bounded() {
    let mut world = World::default();
    world.run("MULTI");
    let large: OwnedArgs = [b"SET".as_slice(), b"a", &vec![b'x'; 300 << 10]]
        .iter()
        .collect();
    for _ in 0..3 {
        assert_eq!(world.execute(1, &large).0, b"+QUEUED\r\n");
    }
    assert_eq!(
        world.execute(1, &large).0,
        b"-ERR the transaction is too large\r\n"
    );
    let aborted = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
    assert_eq!(world.run("EXEC"), aborted);
}

#[test]
fn keys_of_very_many_in_a_transaction_is_refused_and_the_rest_is_executed() {
    let mut world = World::default();
    for number in 0..100_000 {
        world
            .view
            .put(format!("{number:06}").as_bytes(), b"", 0)
            .unwrap();
    }
    let mut replies = Vec::new();
    for more in ["a", "b"] {
        for line in ["MULTI", "KEYS 00000?", &format!("SET {more} 1")] {
            world.run(line);
        }
        replies.push(String::from_utf8(world.run("EXEC")).unwrap());
    }
    assert!(replies[0].starts_with("*2\r\n*10\r\n"), "{}", replies[0]);
    assert!(
        replies[1].starts_with("*2\r\n-ERR KEYS over"),
        "{}",
        replies[1]
    );
    assert!(replies[1].ends_with("+OK\r\n"), "{}", replies[1]);
}
