//! `kill -9` again and again under clients, and the proof that nothing went wrong: what each client saw is
//! judged, the leader's successors have everything that was acknowledged, and all replicas end up the same.
//!
//! `IT_KILLS=1h` (`make kills FOR=1h`) makes it long.

mod history;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use replicated_store::replication::admin::Settings;
use replicated_store::resp::reply::Reply;

use self::history::{Event, History, Seen};
use self::session::{LARGE, SHARED, Session, counter, head, is_leader, nanos, own};
use super::support::{SmallDisk, TestStore, how_long, link_to, seed};

const CLIENTS: usize = 6;
/// Of these, who come to the leader's port of any replica: all that they see must be linearizable.
const STRICT: usize = 3;
/// Kills between two judgements.
const KILLS: usize = 4;
/// Judgements between two comparisons of whole states: these flush everything, which it should do by
/// itself most of the time.
const COMPARED: usize = 4;
/// So small that the log's files are used again, and tables merged, between one kill and the next.
const DISK: u64 = 256 << 20;

fn settings() -> Settings {
    Settings {
        sync_replicas: 1,
        log_retention: 8 << 20,
        max_memory: 8 << 20,
        ..Settings::default()
    }
}

/// What was done to the store.
#[derive(Debug, Default)]
struct Done {
    rounds: usize,
    kills: usize,
    leaders_killed: usize,
    killed_while_starting: usize,
    frozen: usize,
    same_leader_again: usize,
    changes_of_leader: usize,
    compared: usize,
}

/// Goal: a store survives any kills: nothing acknowledged is lost, and nobody sees what cannot be.
/// Method: three replicas, a write is on two of them. Some or all are killed at random moments, when some
/// stood still before, and started again, while clients read and write at all of them, half of them at
/// the leader's ports, where reads must be as the leader's; the histories are judged round by round.
#[test]
fn a_store_survives_being_killed_again_and_again() {
    let length = how_long("IT_KILLS", Duration::from_secs(8));
    let seed = seed("a_store_survives_being_killed_again_and_again");
    let mut random = SmallRng::seed_from_u64(seed);
    // Without small file systems of their own they share a large one: then the log changes files less.
    let disks: Vec<SmallDisk> = (0..3).map_while(|_| SmallDisk::new(DISK)).collect();
    let mut store = TestStore::start_in(3, settings(), |root| {
        link_to(root, disks.iter().map(SmallDisk::path));
    });
    store.vote_all(1);
    store.settle();
    let begin = Instant::now();
    let addresses = |strict: bool| {
        let replicas = store.replicas.iter();
        let each = replicas.map(|replica| {
            if strict {
                replica.leader_address()
            } else {
                replica.client_address()
            }
        });
        Arc::new(each.collect::<Vec<_>>())
    };
    let (any, leaders) = (addresses(false), addresses(true));
    let mut sessions: Vec<Session> = (0..CLIENTS)
        .map(|number| Session {
            number,
            begin,
            addresses: Arc::clone(if number < STRICT { &leaders } else { &any }),
            strict: number < STRICT,
            random: SmallRng::seed_from_u64(seed.wrapping_add(number as u64 + 1)),
            count: 0,
            connection: None,
            floor: 0,
            strict_reads: 0,
        })
        .collect();
    let (mut history, mut done) = (History::default(), Done::default());
    let (mut told, mut counted) = (Instant::now(), None);
    while begin.elapsed() < length || done.rounds < 2 || done.leaders_killed == 0 {
        let round = done.rounds;
        let seen = work(&mut sessions, round, || {
            for _ in 0..KILLS {
                kill_some(&mut store, &mut random, &mut done);
            }
        });
        store.settle();
        let count = look_at_counter(&store, round, &seen, counted);
        counted = Some(count);
        let last = read_all(&store, begin);
        if let Err(reason) = history.judge(seen, last) {
            panic!("round {round}: {reason}");
        }
        done.rounds += 1;
        if done.rounds.is_multiple_of(COMPARED) {
            store.assert_same();
            done.compared += 1;
        }
        if told.elapsed() > Duration::from_mins(1) {
            told = Instant::now();
            tell(&store, begin, &done, &history);
        }
    }
    store.assert_same();
    tell(&store, begin, &done, &history);
    assert!(history.operations > 0 && history.at_followers > 0);
    let strict = sessions.iter().map(|session| session.strict_reads);
    assert!(strict.sum::<usize>() > 0);
}

fn tell(store: &TestStore, begin: Instant, done: &Done, history: &History) {
    let status = store.replicas[store.leader()].status().expect("it runs");
    println!(
        "{:5} s: {done:?}; {} operations, {} in doubt, {} reads at followers, {} counters not judged; \
         the log goes from {} to {}",
        begin.elapsed().as_secs(),
        history.operations,
        history.in_doubt,
        history.at_followers,
        history.unknown,
        status.oldest_lsn,
        status.last.lsn
    );
}

/// Clients work while this is done.
fn work(sessions: &mut [Session], round: usize, meanwhile: impl FnOnce()) -> Vec<Seen> {
    /// Also when the work panics, as the clients are waited for then.
    struct Stops<'a>(&'a AtomicBool);
    impl Drop for Stops<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stops = Stops(&stop);
        let each = |session| scope.spawn(|| Session::work(session, round, &stop));
        let threads: Vec<_> = sessions.iter_mut().map(each).collect();
        meanwhile();
        drop(stops);
        let ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended
            .map(|seen| seen.expect("a client saw nothing wrong"))
            .collect()
    })
}

/// The moment of a kill is what is random here, so this is a pause and not a wait.
fn pause(random: &mut SmallRng, most: u64) {
    std::thread::sleep(Duration::from_micros(random.random_range(0..most)));
}

/// Kills some replicas at a random moment, has them started again, and sees to a leader.
fn kill_some(store: &mut TestStore, random: &mut SmallRng, done: &mut Done) {
    pause(random, 1_500_000);
    let leader = store.leader();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let follower = others[random.random_range(0..2)];
    let victims = match random.random_range(0..10) {
        0..4 => vec![leader],
        4..6 => vec![follower],
        6..8 => vec![leader, follower],
        8 => vec![others[0], others[1]],
        _ => vec![leader, others[0], others[1]],
    };
    // Who stands still for a moment falls behind, or everybody would have everything at each kill.
    let frozen: Vec<usize> = others
        .into_iter()
        .filter(|_| random.random_bool(0.4))
        .collect();
    for index in &frozen {
        store.replicas[*index].freeze();
    }
    if !frozen.is_empty() {
        pause(random, 300_000);
        done.frozen += frozen.len();
    }
    for victim in &victims {
        store.replicas[*victim].kill();
    }
    for index in frozen.iter().filter(|index| !victims.contains(index)) {
        store.replicas[*index].thaw();
    }
    done.kills += victims.len();
    let dead = victims.contains(&leader);
    done.leaders_killed += usize::from(dead);
    // One of three voters may have nothing of a write that is acknowledged, so two must promise. Those that
    // were killed have lost what was still on its way to them.
    let early = dead && random.random_bool(0.5);
    pause(random, 400_000);
    for victim in victims.iter().filter(|victim| **victim != leader) {
        restart(store, *victim, random, done);
    }
    if early {
        store.promote();
    }
    pause(random, 200_000);
    if dead {
        restart(store, leader, random, done);
    }
    if dead && !early {
        lead(store, leader, random.random_bool(0.5));
    } else {
        store.assign();
    }
    store.everybody_votes(1);
    if dead && store.register.leader == Some(store.id(leader)) {
        done.same_leader_again += 1;
    } else {
        done.changes_of_leader += usize::from(dead);
    }
}

/// Starts one that was killed; now and then it is killed at once, and started again.
fn restart(store: &mut TestStore, index: usize, random: &mut SmallRng, done: &mut Done) {
    if random.random_bool(0.2) {
        store.replicas[index].spawn();
        pause(random, 150_000);
        store.replicas[index].kill();
        done.killed_while_starting += 1;
    }
    store.replicas[index].start();
}

/// All run: the old leader leads again, if that is wanted and nobody has more; or the best of all.
fn lead(store: &mut TestStore, old: usize, again: bool) {
    let last = |index: usize| store.replicas[index].status().expect("it runs").last;
    if again && (0..3).all(|index| last(index) <= last(old)) {
        store.promote_to(old);
    } else {
        store.promote();
    }
}

/// What the leader has of every key.
fn read_all(store: &TestStore, begin: Instant) -> Vec<(String, Event)> {
    let mut client = store.replicas[store.leader()].client();
    let shared = (0..SHARED).map(|number| format!("shared:{number}"));
    let large = (0..LARGE).map(|number| format!("large:{number}"));
    let keys: Vec<String> = shared.chain((0..CLIENTS).map(own)).chain(large).collect();
    let start = nanos(begin);
    client.send(&["ROLE"]).expect("a connection");
    for key in &keys {
        client
            .send(&["GETRANGE", key, "0", "40"])
            .expect("a connection");
    }
    client.send(&["ROLE"]).expect("a connection");
    assert!(is_leader(&client.reply().expect("a reply")));
    let found: Vec<_> = keys
        .iter()
        .map(|_| client.reply().expect("a reply"))
        .collect();
    assert!(is_leader(&client.reply().expect("a reply")));
    let end = nanos(begin);
    let read = |(key, reply)| {
        let Reply::Bulk(value) = reply else {
            panic!("{key}: {reply:?}");
        };
        let value = head(&value);
        (key, Event::Read { value, start, end })
    };
    keys.into_iter().zip(found).map(read).collect()
}

/// What the round's counter has, and that the last round's has what it had then, unless an increment
/// came late; the increments in doubt are those that may.
fn look_at_counter(
    store: &TestStore,
    round: usize,
    seen: &[Seen],
    before: Option<(u64, u64)>,
) -> (u64, u64) {
    let mut client = store.replicas[store.leader()].client();
    let mut read = |round| -> u64 {
        let found = client.get(&counter(round)).expect("the leader answers");
        found.map_or(0, |text| text.parse().expect("a number"))
    };
    if let Some((least, late)) = before {
        let found = read(round - 1);
        assert!(
            (least..=least + late).contains(&found),
            "{found} of {least} and {late} in doubt"
        );
    }
    let counts = seen.iter().flat_map(|seen| &seen.counts);
    let unanswered = counts.filter(|op| op.answered.is_none() && !op.refused);
    (read(round), unanswered.count() as u64)
}
