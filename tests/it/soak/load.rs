//! The load: clients with keys of their own, of which each knows what they hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use replicated_store::resp::reply::Reply;

use super::super::support::{Answer, Client, ask};
use super::model::{Key, Value};

/// Operations a second of all clients together: they take about half a processor, replicas included.
const RATE: u32 = 150;
pub(super) const CLIENTS: usize = 6;
/// Operations after which a client goes to another replica.
const STAY: u64 = 500;
/// Sizes of values, and how many in a thousand have them; about 6 KiB on average.
const SIZES: [(usize, u32); 6] = [
    (10, 400),
    (100, 250),
    (1 << 10, 200),
    (10 << 10, 110),
    (64 << 10, 30),
    (256 << 10, 10),
];
/// Keys of a client that are numbers, and pairs that are written by transactions.
const NUMBERS: usize = 50;
const PAIRS: usize = 50;
/// Seconds after which a key expires, at most.
const EXPIRY: u64 = 5;

/// Shared with the test.
#[derive(Default)]
pub(super) struct Gauges {
    pub(super) stop: AtomicBool,
    pub(super) operations: AtomicU64,
    pub(super) in_doubt: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Bytes of keys and values that are there, at most.
    pub(super) live: AtomicU64,
    /// Nobody may write, and everybody ends, when one has found something wrong.
    pub(super) wrong: AtomicBool,
}

/// Ends the load when the test has failed.
pub(super) struct Ends(pub(super) Arc<Gauges>);

impl Drop for Ends {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.wrong.store(true, Ordering::Relaxed);
        }
    }
}

/// A client and what it knows.
pub(super) struct Load {
    number: usize,
    addresses: Arc<Vec<String>>,
    gauges: Arc<Gauges>,
    random: SmallRng,
    /// Random text, of which values are cut.
    noise: String,
    connection: Option<Client>,
    texts: Vec<Key>,
    numbers: Vec<Key>,
    pairs: Vec<Key>,
    written: u64,
    live: u64,
}

impl Load {
    pub(super) fn new(
        number: usize,
        keys: usize,
        addresses: &Arc<Vec<String>>,
        gauges: &Arc<Gauges>,
        seed: u64,
    ) -> Self {
        let mut random = SmallRng::seed_from_u64(seed.wrapping_add(number as u64));
        let noise = (0..1 << 20).map(|_| random.random_range('!'..='9'));
        Self {
            number,
            addresses: Arc::clone(addresses),
            gauges: Arc::clone(gauges),
            noise: noise.collect(),
            random,
            connection: None,
            texts: vec![Key::default(); keys],
            numbers: vec![Key::default(); NUMBERS],
            pairs: vec![Key::default(); PAIRS],
            written: 0,
            live: 0,
        }
    }

    /// The value of a number, which no other key has.
    fn text(&self, written: u64, bytes: usize) -> String {
        let mut text = format!("{}:{written}:{bytes}:", self.number);
        let from = (written.wrapping_mul(7919) as usize) % (self.noise.len() / 2);
        let more = bytes.saturating_sub(text.len());
        text.push_str(&self.noise[from..from + more]);
        text
    }

    /// What was read, checked to the last byte.
    fn parse(&self, key: &str, found: Option<&[u8]>) -> Value {
        let Some(found) = found else {
            return Value::Nothing;
        };
        let text = std::str::from_utf8(found).expect("text");
        if let Ok(number) = text.parse() {
            return Value::Number(number);
        }
        let mut parts = text.split(':').skip(1);
        let mut next = || parts.next().and_then(|part| part.parse().ok());
        let (Some(written), Some(bytes)) = (next(), next()) else {
            panic!("{key}: {:?}", &text[..text.len().min(60)]);
        };
        let expected = self.text(written, bytes as usize);
        assert!(
            text == expected,
            "{key}: write {written} of {bytes} bytes is not what was written"
        );
        Value::Text(written, bytes as usize)
    }

    fn new_value(&mut self) -> (u64, usize) {
        let mut at = self.random.random_range(0..1000);
        let size = SIZES.iter().find(|(_, share)| {
            let found = at < *share;
            at = at.saturating_sub(*share);
            found
        });
        self.written += 1;
        (self.written, size.map_or(10, |(bytes, _)| *bytes))
    }

    fn text_key(&self, at: usize) -> String {
        format!("text:{}:{at}", self.number)
    }

    fn number_key(&self, at: usize) -> String {
        format!("number:{}:{at}", self.number)
    }

    fn pair_keys(&self, at: usize) -> [String; 2] {
        [
            format!("one:{}:{at}", self.number),
            format!("other:{}:{at}", self.number),
        ]
    }

    /// Writes every key once, as fast as it goes.
    pub(super) fn fill(&mut self) {
        for at in 0..self.texts.len() {
            self.set(at);
        }
    }

    /// Works at its rate until it is told to stop.
    pub(super) fn work(&mut self) {
        let gauges = Arc::clone(&self.gauges);
        let pace = Duration::from_secs(1) * CLIENTS as u32 / RATE;
        let mut due = Instant::now();
        for count in 1_u64.. {
            if gauges.stop.load(Ordering::Relaxed) || gauges.wrong.load(Ordering::Relaxed) {
                return;
            }
            if count.is_multiple_of(STAY) {
                self.connection = None;
            }
            self.step();
            gauges.operations.fetch_add(1, Ordering::Relaxed);
            // What was missed while nobody answered is not made up for.
            due = (due + pace).max(Instant::now().checked_sub(pace).unwrap_or(due));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    fn step(&mut self) {
        // Half of it is about a tenth of the keys.
        let hot = self.random.random_bool(0.5);
        let keys = if hot {
            self.texts.len() / 10
        } else {
            self.texts.len()
        };
        let at = self.random.random_range(0..keys);
        match self.random.random_range(0..100) {
            0..37 => self.set(at),
            37..72 => self.get(at),
            72..75 => self.delete(at),
            75..80 => self.expire(at),
            80..88 => self.increment(),
            88..94 => self.transaction(),
            _ => self.get_pair(),
        }
    }

    /// Asks; a connection that is new writes first, so that it sees all that was written by others.
    fn ask(&mut self, commands: &[&[&str]]) -> Answer {
        if self.connection.is_none() {
            let at = self.random.random_range(0..self.addresses.len());
            self.connection = Client::connect(&self.addresses[at]).ok();
            let mark = format!("mark:{}", self.number);
            if !matches!(
                ask(&mut self.connection, &[&["SET", &mark, "0"]]),
                Answer::Done(_)
            ) {
                self.connection = None;
                self.gauges.refused.fetch_add(1, Ordering::Relaxed);
                // So as not to ask somebody who is away as fast as it goes.
                std::thread::sleep(Duration::from_millis(20));
                return Answer::Refused;
            }
        }
        let answer = ask(&mut self.connection, commands);
        let count = match &answer {
            Answer::Done(_) => return answer,
            Answer::Refused => &self.gauges.refused,
            Answer::Unknown => &self.gauges.in_doubt,
        };
        count.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// Notes how much room its keys take, of which this one changes.
    fn changes(&mut self, at: usize, change: impl FnOnce(&mut Key)) {
        let key = &mut self.texts[at];
        let before = key.bytes() as u64;
        change(key);
        let after = key.bytes() as u64;
        self.live = self.live + after - before;
        self.gauges
            .live
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    fn set(&mut self, at: usize) {
        let (written, bytes) = self.new_value();
        let (key, text) = (self.text_key(at), self.text(written, bytes));
        let value = Value::Text(written, bytes);
        match self.ask(&[&["SET", &key, &text]]) {
            Answer::Done(reply) => {
                assert_eq!(reply, Reply::Simple(b"OK".to_vec()), "{key}");
                self.changes(at, |key| key.becomes(value));
            }
            Answer::Unknown => self.changes(at, |key| key.may_become(value)),
            Answer::Refused => {}
        }
    }

    fn get(&mut self, at: usize) {
        let key = self.text_key(at);
        let start = Instant::now();
        if let Answer::Done(reply) = self.ask(&[&["GET", &key]]) {
            self.check(&key, &self.texts[at], &reply, start);
        }
    }

    fn check(&self, name: &str, key: &Key, reply: &Reply, start: Instant) {
        let found = match reply {
            Reply::Bulk(value) => self.parse(name, Some(value)),
            Reply::Null => Value::Nothing,
            other => panic!("{name}: {other:?}"),
        };
        let right = key.is(found, start, Instant::now());
        assert!(
            right,
            "{name} is {found:?}, and may be {key:?}; now is {:?}",
            Instant::now()
        );
    }

    fn delete(&mut self, at: usize) {
        let key = self.text_key(at);
        let start = Instant::now();
        match self.ask(&[&["DEL", &key]]) {
            Answer::Done(reply) => {
                let gone = self.texts[at].is(Value::Nothing, start, Instant::now());
                assert!(
                    reply == Reply::Integer(1) || (reply == Reply::Integer(0) && gone),
                    "{key}: {reply:?}"
                );
                self.changes(at, |key| key.becomes(Value::Nothing));
            }
            Answer::Unknown => self.changes(at, |key| key.may_become(Value::Nothing)),
            Answer::Refused => {}
        }
    }

    fn expire(&mut self, at: usize) {
        let key = self.text_key(at);
        let seconds = self.random.random_range(1..=EXPIRY);
        let after = Duration::from_secs(seconds);
        let start = Instant::now();
        let took = match self.ask(&[&["EXPIRE", &key, &seconds.to_string()]]) {
            Answer::Done(Reply::Integer(took)) => Some(took == 1),
            Answer::Done(other) => panic!("{key}: {other:?}"),
            Answer::Unknown => None,
            Answer::Refused => return,
        };
        let (end, mut possible) = (Instant::now(), true);
        self.changes(at, |key| possible = key.expires(took, after, (start, end)));
        assert!(possible, "{key}: EXPIRE answered {took:?}");
    }

    fn increment(&mut self) {
        let at = self.random.random_range(0..NUMBERS);
        let key = self.number_key(at);
        let results = self.numbers[at].increments();
        match self.ask(&[&["INCR", &key]]) {
            Answer::Done(Reply::Integer(found)) => {
                assert!(results.contains(&found), "{key}: {found} of {results:?}");
                self.numbers[at].becomes(Value::Number(found));
            }
            Answer::Done(other) => panic!("{key}: {other:?}"),
            Answer::Unknown => {
                for result in results {
                    self.numbers[at].may_become(Value::Number(result));
                }
            }
            Answer::Refused => {}
        }
    }

    fn transaction(&mut self) {
        let at = self.random.random_range(0..PAIRS);
        let [one, other] = self.pair_keys(at);
        let (written, bytes) = self.new_value();
        let (text, value) = (self.text(written, bytes), Value::Text(written, bytes));
        let commands: [&[&str]; 4] = [
            &["MULTI"],
            &["SET", &one, &text],
            &["SET", &other, &text],
            &["EXEC"],
        ];
        match self.ask(&commands) {
            Answer::Done(reply) => {
                let ok = Reply::Simple(b"OK".to_vec());
                assert_eq!(reply, Reply::Array(vec![ok.clone(), ok]), "{one}");
                self.pairs[at].becomes(value);
            }
            Answer::Unknown => self.pairs[at].may_become(value),
            Answer::Refused => {}
        }
    }

    /// Either both of a pair are there, or none is.
    fn get_pair(&mut self) {
        let at = self.random.random_range(0..PAIRS);
        let [one, other] = self.pair_keys(at);
        let start = Instant::now();
        let Answer::Done(reply) = self.ask(&[&["MGET", &one, &other]]) else {
            return;
        };
        let Reply::Array(found) = reply else {
            panic!("{one}: {reply:?}");
        };
        assert!(found[0] == found[1], "half of a transaction at {one}");
        self.check(&one, &self.pairs[at], &found[0], start);
    }

    /// Reads all its keys from a replica that has everything; how many there are.
    pub(super) fn agrees(&self, client: &mut Client) -> usize {
        let texts = self.texts.iter().enumerate();
        let texts = texts.map(|(at, key)| (self.text_key(at), key));
        let numbers = self.numbers.iter().enumerate();
        let numbers = numbers.map(|(at, key)| (self.number_key(at), key));
        let pairs = self.pairs.iter().enumerate();
        let pairs = pairs.flat_map(|(at, key)| self.pair_keys(at).map(|name| (name, key)));
        let all: Vec<(String, &Key)> = texts.chain(numbers).chain(pairs).collect();
        for some in all.chunks(50) {
            let start = Instant::now();
            for (name, _) in some {
                client.send(&["GET", name]).expect("a connection");
            }
            for (name, key) in some {
                let reply = client.reply().expect("a reply");
                self.check(name, key, &reply, start);
            }
        }
        all.len()
    }
}

impl Drop for Load {
    /// What one has found stops all.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.gauges.wrong.store(true, Ordering::Relaxed);
        }
    }
}
