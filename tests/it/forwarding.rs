//! A client that sits on a follower: its writes are executed by the leader, and it notices nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use replicated_store::resp::reply::Reply;

use super::support::{Client, TestStore, eventually};

fn ok() -> Reply {
    Reply::Simple(b"OK".to_vec())
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn call(client: &mut Client, line: &str) -> Reply {
    let args: Vec<&str> = line.split(' ').collect();
    client.call(&args).unwrap()
}

fn error(reply: Reply) -> String {
    match reply {
        Reply::Error(text) => String::from_utf8(text).unwrap(),
        other => panic!("no error: {other:?}"),
    }
}

/// Goal: writes, and reads of what was just written, work on a follower.
/// Method: single commands, each read back at once; the state of both replicas at the end.
#[test]
fn a_client_of_a_follower_reads_what_it_wrote() {
    let store = TestStore::start(2);
    let mut client = store.replicas[1].client();
    for i in 0..200 {
        client.set("key", &i.to_string()).unwrap();
        assert_eq!(client.get("key").unwrap(), Some(i.to_string()));
        assert_eq!(call(&mut client, "INCR n"), Reply::Integer(i + 1));
    }
    let text = error(call(&mut client, "INCRBY n x"));
    assert!(text.starts_with("ERR value is not an integer"), "{text}");
    assert_eq!(call(&mut client, "DEL key nothing"), Reply::Integer(1));
    assert_eq!(client.get("key").unwrap(), None);
    let Reply::Bulk(info) = call(&mut client, "INFO stats") else {
        panic!("no INFO")
    };
    let info = String::from_utf8(info).unwrap();
    assert!(info.contains("forwarded_commands:402\r\n"), "{info}");
    store.assert_same();
}

/// Goal: a pipeline is answered in order, whoever executes its commands.
/// Method: writes, reads and commands of the connection in one stream.
#[test]
fn replies_of_a_pipeline_keep_their_order() {
    let store = TestStore::start(2);
    let mut client = store.replicas[1].client();
    for i in 0..3000 {
        client.send(&["INCR", "n"]).unwrap();
        match i % 7 {
            0 => client.send(&["GET", "n"]).unwrap(),
            3 => client.send(&["PING"]).unwrap(),
            _ => {}
        }
    }
    for i in 0..3000 {
        assert_eq!(client.reply().unwrap(), Reply::Integer(i + 1));
        match i % 7 {
            0 => assert_eq!(client.reply().unwrap(), bulk(&(i + 1).to_string())),
            3 => assert_eq!(client.reply().unwrap(), Reply::Simple(b"PONG".to_vec())),
            _ => {}
        }
    }
    store.assert_same();
}

/// Goal: replies come in the form of the client's protocol, and not at all where it wants none.
/// Method: the bytes of "no value" in RESP2 and RESP3; CLIENT REPLY.
#[test]
fn replies_have_the_form_that_the_client_asked_for() {
    let store = TestStore::start(2);
    let mut stream = TcpStream::connect(store.replicas[1].client_address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut expect = |commands: &str, expected: &str| {
        stream.write_all(commands.as_bytes()).unwrap();
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    };
    expect("SET a 1 GET\r\n", "$-1\r\n");
    expect("CLIENT REPLY SKIP\r\nINCR a\r\nINCR a\r\n", ":3\r\n");
    expect(
        "CLIENT REPLY OFF\r\nINCR a\r\nINCR a\r\nCLIENT REPLY ON\r\nINCR a\r\n",
        "+OK\r\n:6\r\n",
    );
    expect("HELLO 3\r\n", "%7\r\n");
    let mut rest = [0; 4096];
    while !rest.ends_with(b"*0\r\n") {
        let read = stream.read(&mut rest).unwrap();
        rest.rotate_left(read);
    }
    let mut expect = |commands: &str, expected: &str| {
        stream.write_all(commands.as_bytes()).unwrap();
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    };
    expect("SET b 1 GET\r\n", "_\r\n");
    expect(
        "WATCH a\r\nMULTI\r\nSET a 2\r\nGET nothing\r\nEXEC\r\n",
        "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n_\r\n",
    );
}

/// Goal: a transaction with writes is one step at the leader.
/// Method: its replies, an error within, an abort, a discard, and what cannot travel.
#[test]
fn transactions_are_executed_whole_by_the_leader() {
    let store = TestStore::start(2);
    let mut client = store.replicas[1].client();
    assert_eq!(call(&mut client, "MULTI"), ok());
    for line in ["SET a 1", "GET a", "INCRBY a 41", "INCRBY a x", "DBSIZE"] {
        assert_eq!(call(&mut client, line), Reply::Simple(b"QUEUED".to_vec()));
    }
    let Reply::Array(replies) = call(&mut client, "EXEC") else {
        panic!("not executed")
    };
    assert_eq!(replies[..3], [ok(), bulk("1"), Reply::Integer(42)]);
    assert!(matches!(replies[3], Reply::Error(_)), "{replies:?}");
    assert_eq!(replies[4], Reply::Integer(1));
    assert_eq!(client.get("a").unwrap().as_deref(), Some("42"));

    call(&mut client, "MULTI");
    call(&mut client, "SET a");
    let text = error(call(&mut client, "EXEC"));
    assert!(text.starts_with("EXECABORT"), "{text}");

    call(&mut client, "MULTI");
    call(&mut client, "SET a 1");
    call(&mut client, "CLIENT ID");
    let text = error(call(&mut client, "EXEC"));
    assert!(text.starts_with("EXECABORT"), "{text}");

    call(&mut client, "MULTI");
    call(&mut client, "SET a 1");
    assert_eq!(call(&mut client, "DISCARD"), ok());
    assert_eq!(client.get("a").unwrap().as_deref(), Some("42"));
    store.assert_same();
}

/// Goal: EXEC at a follower fails exactly if a watched key has changed at the leader.
/// Method: keys that are flushed, keys that are not, and keys that are not there.
#[test]
fn a_watched_key_is_compared_at_the_leader() {
    let store = TestStore::start(2);
    let (mut there, mut here) = (store.replicas[0].client(), store.replicas[1].client());
    let exec = |here: &mut Client, watched: &str, meanwhile: &mut dyn FnMut()| {
        assert_eq!(call(here, &format!("WATCH {watched}")), ok());
        meanwhile();
        call(here, "MULTI");
        call(here, "INCR done");
        call(here, "EXEC")
    };
    let done = |n| Reply::Array(vec![Reply::Integer(n)]);
    there.set("a", "1").unwrap();
    store.settle();
    assert_eq!(exec(&mut here, "a b", &mut || ()), done(1));
    store.assert_same(); // both have flushed
    assert_eq!(exec(&mut here, "a b", &mut || ()), done(2));
    let changed = exec(&mut here, "a b", &mut || there.set("a", "1").unwrap());
    assert_eq!(changed, Reply::Null);
    let changed = exec(&mut here, "b", &mut || there.set("b", "1").unwrap());
    assert_eq!(changed, Reply::Null);
    let changed = exec(&mut here, "b", &mut || drop(call(&mut there, "DEL b")));
    assert_eq!(changed, Reply::Null);
    // Its own writes count, too; and it has seen what made the last one fail.
    assert_eq!(call(&mut here, "WATCH done"), ok());
    assert_eq!(call(&mut here, "INCR done"), Reply::Integer(3));
    assert_eq!(call(&mut here, "MULTI"), ok());
    call(&mut here, "INCR done");
    assert_eq!(call(&mut here, "EXEC"), Reply::Null);
    assert_eq!(exec(&mut here, "done", &mut || ()), done(4));
}

/// Goal: WAIT tells the truth at a follower.
/// Method: after a forwarded write; for as many followers as there are, and for more.
#[test]
fn wait_waits_at_the_leader() {
    let store = TestStore::start(3);
    let mut client = store.replicas[1].client();
    client.set("a", "1").unwrap();
    assert_eq!(call(&mut client, "WAIT 2 10000"), Reply::Integer(2));
    let start = Instant::now();
    assert_eq!(call(&mut client, "WAIT 3 1500"), Reply::Integer(2));
    assert!(start.elapsed() >= Duration::from_millis(1500));
    store.replicas[2].freeze();
    client.set("a", "2").unwrap();
    assert_eq!(call(&mut client, "WAIT 2 300"), Reply::Integer(1));
    store.replicas[2].thaw();
    assert_eq!(call(&mut client, "WAIT 2 0"), Reply::Integer(2));
    assert!(error(call(&mut client, "WAIT 2 x")).contains("timeout is not an integer"));
}

/// Goal: a client goes on through a change of leader; without a leader it is told so.
/// Method: the leader is killed; a write waits until another one leads, one more waits in vain.
#[test]
fn a_write_waits_for_the_next_leader() {
    let mut store = TestStore::start(3);
    store.vote_all(1);
    store.settle();
    let mut client = store.replicas[1].client();
    client.set("a", "1").unwrap();
    store.replicas[0].kill();
    // What was on its way when the leader died is of unknown outcome: then there is no reply.
    let mut start = Instant::now();
    let reply = eventually("an answer", || {
        client.call(&["SET", "a", "2"]).ok().or_else(|| {
            client = store.replicas[1].client();
            start = Instant::now();
            None
        })
    });
    let text = error(reply);
    assert!(text.starts_with("READONLY"), "{text}");
    assert!(
        start.elapsed() >= Duration::from_secs(4),
        "it gave up early"
    );
    client.send(&["SET", "a", "3"]).unwrap();
    store.promote();
    assert_eq!(client.reply().unwrap(), ok());
    store.assert_same();
    for replica in [1, 2] {
        let value = store.replicas[replica].client().get("a").unwrap();
        assert_eq!(value.as_deref(), Some("3"));
    }
}

/// Goal: a leader that falls silent holds nobody up for longer than there is no other.
/// Method: the leader stands still, with a write of a follower's client on its way to it; once the follower
/// knows that it hears nothing, another client writes. As soon as another one leads, the second write is
/// answered, and the first client is told by the end of its connection that nobody knows.
#[test]
fn what_was_not_sent_to_a_silent_leader_waits_for_the_next_one() {
    let mut store = TestStore::start(3);
    store.vote_all(1);
    store.settle();
    let (mut first, mut second) = (store.replicas[1].client(), store.replicas[1].client());
    first.set("a", "1").unwrap();
    store.replicas[0].freeze();
    store.away.insert(0);
    first.send(&["SET", "a", "2"]).unwrap();
    eventually("the follower hears nothing", || {
        (!store.replicas[1].status()?.leader_heard).then_some(())
    });
    second.send(&["SET", "b", "1"]).unwrap();
    store.promote();
    store.leader_serves();
    let led = Instant::now();
    assert_eq!(second.reply().unwrap(), ok());
    let took = led.elapsed();
    assert!(took < Duration::from_secs(2), "answered after {took:?}");
    assert!(first.reply().is_err(), "nobody knows");
    let took = led.elapsed();
    assert!(took < Duration::from_secs(3), "told after {took:?}");
    store.replicas[0].thaw();
    store.away.clear();
}

/// What one writer knows: the increments that were acknowledged, and those of which it heard nothing.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
}

/// Ends the writers.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn increment(address: &str, key: &str, tally: &Tally, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let Ok(mut client) = Client::connect(address) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        while !stop.load(Ordering::SeqCst) {
            match client.call(&["INCR", key]) {
                Ok(Reply::Integer(_)) => tally.acknowledged.fetch_add(1, Ordering::SeqCst),
                Ok(Reply::Error(_)) => continue,
                Ok(other) => panic!("{other:?}"),
                Err(_) => {
                    tally.unknown.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            };
        }
    }
}

/// Increments through these replicas while `meanwhile` changes leaders three times; every
/// acknowledged one must count exactly once, every error not at all, and the broken ones at most once.
fn count_through(
    store: &mut TestStore,
    replicas: &[usize],
    mut meanwhile: impl FnMut(&mut TestStore),
) {
    let stop = AtomicBool::new(false);
    let tallies: Vec<Tally> = replicas.iter().map(|_| Tally::default()).collect();
    let addresses: Vec<String> = replicas
        .iter()
        .map(|index| store.replicas[*index].client_address())
        .collect();
    std::thread::scope(|scope| {
        let _stopped = Stop(&stop); // also if this test fails
        for (writer, tally) in tallies.iter().enumerate() {
            let (address, stop) = (&addresses[writer], &stop);
            scope.spawn(move || increment(address, &format!("n{writer}"), tally, stop));
        }
        for _ in 0..3 {
            let before: u64 = total(&tallies);
            eventually("writes go on", || {
                (total(&tallies) > before + 200).then_some(())
            });
            meanwhile(store);
        }
    });
    store.settle();
    let mut client = store.replicas[store.leader()].client();
    for (writer, tally) in tallies.iter().enumerate() {
        let value = client.get(&format!("n{writer}")).unwrap().unwrap();
        let (value, acknowledged): (u64, u64) = (
            value.parse().unwrap(),
            tally.acknowledged.load(Ordering::SeqCst),
        );
        let unknown = tally.unknown.load(Ordering::SeqCst);
        let possible = acknowledged..=acknowledged + unknown;
        assert!(possible.contains(&value), "{value} is not in {possible:?}");
    }
    store.assert_same();
}

/// Goal: whatever a follower answered is true, whenever the leader dies.
/// Method: increments through both followers while leaders are killed.
#[test]
fn no_acknowledged_write_is_lost_when_the_leader_is_killed() {
    let mut store = TestStore::start(3);
    store.vote_all(1);
    count_through(&mut store, &[1, 2, 1, 2], |store| {
        let leader = store.leader();
        store.replicas[leader].kill();
        store.promote();
        store.leader_serves();
        store.replicas[leader].start();
        store.vote_all(1);
    });
}

/// Goal: clients stay where they are when the lead moves on, those of the old leader included.
/// Method: increments through all replicas while others are promoted.
#[test]
fn clients_stay_when_the_lead_moves() {
    let mut store = TestStore::start(3);
    store.vote_all(1);
    count_through(&mut store, &[0, 1, 2, 0, 1, 2], |store| {
        store.promote();
        store.leader_serves();
    });
}

fn total(tallies: &[Tally]) -> u64 {
    let acknowledged = tallies.iter().map(|tally| &tally.acknowledged);
    acknowledged.map(|count| count.load(Ordering::SeqCst)).sum()
}
