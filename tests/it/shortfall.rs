//! A store that blocks: no reply rests on what too few followers hold, whatever becomes of the voters.

use std::time::{Duration, Instant};

use replicated_store::replication::admin::{Settings, Shortfall};
use replicated_store::resp::reply::Reply;

use super::support::{Client, TestStore, eventually};

/// For so long a reply that must not come is waited for: one that is given comes with the commit.
const WATCHED: Duration = Duration::from_millis(700);

fn blocking(sync: u32) -> Settings {
    Settings {
        sync_replicas: sync,
        on_shortfall: Shortfall::Block,
        ..Settings::default()
    }
}

/// A store of voters, with `a` written and known to everybody.
fn store_of(count: usize, sync: u32) -> TestStore {
    let mut store = TestStore::start_with(count, blocking(sync));
    store.vote_all(sync);
    store.replicas[0].client().set("a", "1").unwrap();
    store.settle();
    store
}

/// Freezes a follower; a write is under way when the voters shrink to these.
fn cut_short(store: &mut TestStore, frozen: usize, left: &[usize], sync: u32) -> Client {
    store.replicas[frozen].freeze();
    store.away.insert(frozen);
    let mut writing = store.replicas[0].client();
    let before = store.replicas[0].status().unwrap().last.lsn;
    writing.send(&["SET", "a", "2"]).unwrap();
    eventually("the leader has the write on its disk", || {
        (store.replicas[0].status()?.last.lsn > before).then_some(())
    });
    let left = left.iter().map(|index| store.id(*index)).collect();
    store.vote(left, sync);
    writing
}

fn asked(store: &TestStore, index: usize, key: &str) -> Client {
    let mut client = store.replicas[index].client();
    client.send(&["GET", key]).unwrap();
    client
}

fn value(reply: &Reply) -> &[u8] {
    match reply {
        Reply::Bulk(value) => value,
        other => panic!("no value: {other:?}"),
    }
}

fn refused(reply: &Reply, code: &str) {
    let begins = |text: &[u8]| text.starts_with(code.as_bytes());
    assert!(
        matches!(reply, Reply::Error(text) if begins(text)),
        "not refused with {code}: {reply:?}"
    );
}

/// Goal: the write under way and reads of it wait until followers hold it; others do not.
/// Method: the only follower is frozen, taken out of the voters, and comes back.
#[test]
fn what_no_follower_holds_waits_for_one() {
    let mut store = store_of(2, 1);
    let mut writing = cut_short(&mut store, 1, &[0], 1);
    let mut reading = asked(&store, 0, "a");
    let mut counting = store.replicas[0].client();
    counting.send(&["DBSIZE"]).unwrap();
    let until = Instant::now() + WATCHED;
    let mut other = store.replicas[0].client();
    for client in [&mut writing, &mut reading, &mut counting] {
        let early = client.reply_by(until).unwrap();
        assert!(early.is_none(), "one disk is not enough for {early:?}");
    }
    assert_eq!(other.get("b").unwrap(), None, "nothing else waits");
    refused(&other.call(&["SET", "b", "1"]).unwrap(), "NOREPLICAS");
    assert!(store.replicas[0].status().unwrap().withheld_bytes > 0);
    store.replicas[1].thaw();
    store.away.clear();
    store.assign();
    assert_eq!(writing.reply().unwrap(), Reply::Simple(b"OK".to_vec()));
    assert_eq!(value(&reading.reply().unwrap()), b"2");
    assert_eq!(counting.reply().unwrap(), Reply::Integer(1));
    store.vote_all(1);
    assert_eq!(store.replicas[0].status().unwrap().withheld_bytes, 0);
    store.assert_same();
}

/// Goal: who waits for long is told that the write may or may not be kept, and what was shown stays
/// when the leader is lost.
/// Method: the follower stays away, and leads once the leader is gone. It may have been sent the write before it
/// stood still, and finds it then: it is shown to nobody before the old leader is back, either.
#[test]
fn what_no_follower_holds_is_in_doubt_and_was_shown_to_nobody() {
    let mut store = store_of(2, 1);
    let mut writing = cut_short(&mut store, 1, &[0], 1);
    refused(&writing.reply().unwrap(), "INDOUBT");
    assert!(writing.reply().is_err(), "the connection ends");
    refused(&asked(&store, 0, "a").reply().unwrap(), "INDOUBT");
    let mut other = store.replicas[0].client();
    assert_eq!(other.get("b").unwrap(), None);
    store.replicas[0].kill();
    store.replicas[1].thaw();
    store.away.clear();
    store.register.voters.insert(store.id(1));
    store.promote_only(1);
    store.leader_serves();
    let kept = match asked(&store, 1, "a").reply().unwrap() {
        Reply::Bulk(found) => {
            assert_eq!(found, b"1", "nobody saw the other value");
            found
        }
        reply => {
            refused(&reply, "INDOUBT");
            b"2".to_vec()
        }
    };
    store.replicas[0].start();
    store.assign();
    store.vote_all(1);
    assert_eq!(value(&asked(&store, 1, "a").reply().unwrap()), kept);
    store.assert_same();
}

/// Goal: who writes through a follower is told the same, each command of it.
/// Method: two followers are asked for, one is frozen, the other hands on.
#[test]
fn what_too_few_followers_hold_is_in_doubt_through_a_follower_too() {
    let mut store = store_of(3, 2);
    let mut through = store.replicas[1].client();
    let mut counting = store.replicas[1].client();
    through.set("b", "1").unwrap();
    store.replicas[2].freeze();
    store.away.insert(2);
    let before = store.replicas[0].status().unwrap().last.lsn;
    let both: [&[&str]; 2] = [&["SET", "a", "2"], &["SET", "a", "3"]];
    through.send_together(&both).unwrap();
    eventually("the leader has the writes on its disk", || {
        (store.replicas[0].status()?.last.lsn > before).then_some(())
    });
    counting.send(&["INCRBY", "a", "0"]).unwrap();
    let left = [0, 1].map(|index| store.id(index));
    store.vote(left.into(), 2);
    for client in [&mut through, &mut counting] {
        refused(&client.reply().unwrap(), "INDOUBT");
    }
    refused(&through.reply().unwrap(), "INDOUBT");
    refused(&through.call(&["SET", "b", "2"]).unwrap(), "NOREPLICAS");
    store.replicas[2].thaw();
    store.away.clear();
    store.assign();
    store.vote_all(2);
    eventually("the connection goes on", || through.set("b", "2").ok());
    assert_eq!(through.get("a").unwrap().as_deref(), Some("3"));
    store.assert_same();
}

/// Goal: the same where some followers hold it, but too few; followers show it as little.
#[test]
fn what_too_few_followers_hold_waits_everywhere() {
    let mut store = store_of(3, 2);
    let mut writing = cut_short(&mut store, 2, &[0, 1], 2);
    let end = store.replicas[0].status().unwrap().last.lsn;
    eventually("the other follower holds it", || {
        (store.replicas[1].status()?.last.lsn >= end).then_some(())
    });
    let mut reading = asked(&store, 0, "a");
    let until = Instant::now() + WATCHED;
    for client in [&mut writing, &mut reading] {
        let early = client.reply_by(until).unwrap();
        assert!(early.is_none(), "two disks are not enough for {early:?}");
    }
    let at_follower = asked(&store, 1, "a").reply().unwrap();
    assert_eq!(value(&at_follower), b"1", "nor at a follower");
    store.replicas[2].thaw();
    store.away.clear();
    store.assign();
    assert_eq!(writing.reply().unwrap(), Reply::Simple(b"OK".to_vec()));
    assert_eq!(value(&reading.reply().unwrap()), b"2");
    store.assert_same();
}

/// Goal: a leader does not know after a restart what others hold of what it had not flushed, and a
/// newcomer can be seeded all the same; then all is shown.
/// Method: one of two is lost for good, the other starts again and leads alone; nothing was flushed.
#[test]
fn a_leader_that_starts_alone_shows_what_a_newcomer_holds_too() {
    let mut store = store_of(2, 1);
    store.replicas[0].kill();
    store.replicas[1].kill();
    store.replicas[1].start();
    store.promote_only(1);
    store.leader_serves();
    let mut reading = asked(&store, 1, "a");
    let early = reading.reply_by(Instant::now() + WATCHED).unwrap();
    assert!(
        early.is_none(),
        "it holds that alone, for all it knows: {early:?}"
    );
    let mut other = store.replicas[1].client();
    assert_eq!(other.get("b").unwrap(), None, "nothing else waits");
    let newcomer = store.add();
    store.assign();
    assert_eq!(value(&reading.reply().unwrap()), b"1");
    let voters = [1, newcomer].map(|index| store.id(index));
    store.vote(voters.into(), 1);
    other.set("b", "2").unwrap();
    store.assert_same();
}

/// Goal: the user may have fewer copies at any time: then what waited is given.
#[test]
fn who_waits_is_answered_when_the_user_asks_for_less() {
    let mut store = store_of(2, 1);
    let mut writing = cut_short(&mut store, 1, &[0], 1);
    store.settings.on_shortfall = Shortfall::Degrade;
    store.assign();
    assert_eq!(writing.reply().unwrap(), Reply::Simple(b"OK".to_vec()));
    assert_eq!(value(&asked(&store, 0, "a").reply().unwrap()), b"2");
    store.replicas[1].thaw();
}
