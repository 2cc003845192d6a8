//! A client that reads and writes a few keys, stays with one replica until that is gone, and notes what
//! it saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::SmallRng;
use replicated_store::resp::reply::Reply;

use super::super::support::{Answer, Client, ask};
use super::history::{Command, Event, Op, Seen, Stale, Time};

/// Keys that all clients read and write, and those with large values, which make for flushes.
pub(super) const SHARED: usize = 5;
pub(super) const LARGE: usize = 300;
const LARGE_BYTES: usize = 32 << 10;
/// Between two operations of a client: what it does takes a part of one processor.
const PAUSE: Duration = Duration::from_millis(10);
/// Nanoseconds since the test began; 1 is after the empty state, which was there at 0.
pub(super) fn nanos(begin: Instant) -> Time {
    begin.elapsed().as_nanos() as Time + 1
}

pub(super) fn own(number: usize) -> String {
    format!("own:{number}")
}

pub(super) fn counter(round: usize) -> String {
    format!("count:{round}")
}

/// What tells a value from others; the rest is there for its size.
pub(super) fn head(value: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(value);
    let head = text.split(' ').next().unwrap_or_default();
    (!head.is_empty()).then(|| head.to_owned())
}

/// A client.
pub(super) struct Session {
    pub(super) number: usize,
    pub(super) begin: Instant,
    pub(super) addresses: Arc<Vec<String>>,
    /// They are leader's ports.
    pub(super) strict: bool,
    /// Reads that were answered there.
    pub(super) strict_reads: usize,
    pub(super) random: SmallRng,
    /// Values that it wrote.
    pub(super) count: u64,
    pub(super) connection: Option<Client>,
    /// The newest of its own values that this connection has written or seen.
    pub(super) floor: u64,
}

impl Session {
    /// Works until `stop`, and for one operation more if that takes its time.
    pub(super) fn work(&mut self, round: usize, stop: &AtomicBool) -> Seen {
        let mut seen = Seen::default();
        while !stop.load(Ordering::Relaxed) {
            let shared = format!("shared:{}", self.random.random_range(0..SHARED));
            let large = format!("large:{}", self.random.random_range(0..LARGE));
            match self.random.random_range(0..100) {
                0..12 => self.set(own(self.number), 0, &mut seen),
                12..22 => self.get(&own(self.number), &mut seen),
                22..42 => self.set(shared, 0, &mut seen),
                42..75 => self.get(&shared, &mut seen),
                75..85 => self.set(large, LARGE_BYTES, &mut seen),
                85..94 => self.get(&large, &mut seen),
                94..97 => self.incr(round, &mut seen),
                _ => self.read_counter(round, &mut seen),
            }
            // A client's pace, not a wait for anything.
            std::thread::sleep(PAUSE);
        }
        seen
    }

    fn connected(&mut self) -> Option<&mut Client> {
        if self.connection.is_none() {
            let at = self.random.random_range(0..self.addresses.len());
            self.connection = Client::connect(&self.addresses[at]).ok();
            self.floor = 0;
        }
        self.connection.as_mut()
    }

    fn write(&mut self, args: &[&str]) -> Answer {
        self.connected();
        ask(&mut self.connection, &[args])
    }

    fn set(&mut self, key: String, bytes: usize, seen: &mut Seen) {
        self.count += 1;
        let value = format!("{}.{}", self.number, self.count);
        let start = nanos(self.begin);
        let full = format!("{value} {}", "x".repeat(bytes));
        let event = match self.write(&["SET", &key, &full]) {
            Answer::Done(reply) => {
                assert_eq!(reply, Reply::Simple(b"OK".to_vec()), "{key}");
                if key == own(self.number) {
                    self.floor = self.count;
                }
                let end = nanos(self.begin);
                Event::Written { value, start, end }
            }
            Answer::Refused => Event::Refused { value },
            Answer::Unknown => Event::Perhaps { value, start },
        };
        seen.events.push((key, event));
    }

    /// Reads; `true` if it was a leader all the while that answered.
    fn read(&mut self, key: &str) -> Option<(Option<Vec<u8>>, bool)> {
        let client = self.connected()?;
        let commands: [&[&str]; 3] = [&["ROLE"], &["GET", key], &["ROLE"]];
        let mut replies = Vec::new();
        for command in commands {
            if client.send(command).is_err() {
                self.connection = None;
                return None;
            }
        }
        for _ in commands {
            match client.reply() {
                Ok(reply) => replies.push(reply),
                Err(_) => {
                    self.connection = None;
                    return None;
                }
            }
        }
        let leader = is_leader(&replies[0]) && is_leader(&replies[2]);
        // Whoever answered, what a leader's port answers is as its leader's.
        let leader = leader || self.strict;
        match replies.swap_remove(1) {
            Reply::Bulk(value) => {
                self.strict_reads += usize::from(self.strict);
                Some((Some(value), leader))
            }
            Reply::Null => Some((None, leader)),
            _ => {
                self.connection = None;
                None
            }
        }
    }

    fn get(&mut self, key: &str, seen: &mut Seen) {
        let start = nanos(self.begin);
        let Some((found, leader)) = self.read(key) else {
            return;
        };
        let end = nanos(self.begin);
        let value = found.and_then(|value| head(&value));
        if key == own(self.number) {
            let number = value.as_deref().map_or(0, number_of);
            assert!(
                number >= self.floor,
                "a connection has seen {} of {key}, and now {value:?}; leader: {leader}",
                self.floor
            );
            self.floor = number;
        }
        let key = key.to_owned();
        if leader {
            seen.events.push((key, Event::Read { value, start, end }));
        } else {
            seen.stale.push(Stale { key, value, end });
        }
    }

    fn incr(&mut self, round: usize, seen: &mut Seen) {
        let asked = self.begin.elapsed();
        let outcome = self.write(&["INCR", &counter(round)]);
        let refused = matches!(outcome, Answer::Refused);
        let result = match outcome {
            Answer::Done(Reply::Integer(value)) => Some(value as u64),
            Answer::Done(other) => panic!("INCR: {other:?}"),
            Answer::Refused | Answer::Unknown => None,
        };
        seen.counts.push(Op {
            client: self.number,
            command: Command::Incr(0),
            asked,
            answered: result.map(|_| self.begin.elapsed()),
            result,
            refused,
        });
    }

    fn read_counter(&mut self, round: usize, seen: &mut Seen) {
        let asked = self.begin.elapsed();
        let Some((found, true)) = self.read(&counter(round)) else {
            return;
        };
        let number = |value: Vec<u8>| String::from_utf8_lossy(&value).parse().expect("a number");
        seen.counts.push(Op {
            client: self.number,
            command: Command::Get(0),
            asked,
            answered: Some(self.begin.elapsed()),
            result: found.map(number),
            refused: false,
        });
    }
}

/// The number of a value that its own client wrote.
fn number_of(value: &str) -> u64 {
    let (_, number) = value.split_once('.').expect("a value of ours");
    number.parse().expect("a number")
}

pub(super) fn is_leader(role: &Reply) -> bool {
    let Reply::Array(parts) = role else {
        return false;
    };
    matches!(parts.first(), Some(Reply::Bulk(name)) if name == b"master")
}
