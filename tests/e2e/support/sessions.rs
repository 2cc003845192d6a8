//! Clients that read and write all the time, and the record of what each of them saw: every
//! operation with the times of its call and its answer, and what became of it.
//!
//! A client stays with one address (a Service's, or a Pod's), connects anew by itself, and does one
//! operation at a time: a third are writes of a key that is written only once (is it there in the
//! end?), a third writes of a few shared keys, a third reads of these. A read counts as the leader's
//! only if the same connection is told before and after it that a leader answers: a follower may
//! answer with an older state. One client in four connects anew after a read that was not: a Service
//! may well lead all of them to followers. What the record must be is asked of [`Record`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::client::connect_within;
use super::record::{Action, Operation, Outcome, Record, longest_gap};
use super::wait::eventually;

/// How clients go about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    /// Clients for each address.
    pub(crate) clients: usize,
    /// Rest after each operation.
    pub(crate) pause: Duration,
    /// An operation without an answer for so long is given up, and its connection with it.
    pub(crate) patience: Duration,
}

impl Habit {
    /// Enough to notice a gap, too little to cause one.
    pub(crate) const LIGHT: Self = Self {
        clients: 4,
        pause: Duration::from_millis(3),
        patience: Duration::from_secs(1),
    };
    /// As [`Self::LIGHT`], of those that soon give up: a gap is measured to about this.
    pub(crate) const HASTY: Self = Self {
        patience: Duration::from_millis(250),
        ..Self::LIGHT
    };
    /// A few that wait for an answer that comes very late.
    pub(crate) const PATIENT: Self = Self {
        clients: 2,
        patience: Duration::from_secs(30),
        ..Self::LIGHT
    };
    /// As much as goes, of those that wait for an answer.
    pub(crate) const FULL: Self = Self {
        clients: 12,
        pause: Duration::ZERO,
        patience: Duration::from_secs(10),
    };
}

/// Keys that all clients read and write.
const SHARED: u64 = 5;
/// A client gives up to look for the leader after so many reads in a row that none answered: its
/// address is a follower's.
const TRIES: u32 = 20;
/// After an error.
const REST: Duration = Duration::from_millis(10);

/// Clients under way. Dropping it stops them.
pub(crate) struct Sessions {
    seed: u64,
    stop: CancellationToken,
    begin: Instant,
    seen: Arc<Mutex<Vec<Operation>>>,
    acknowledged: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Sessions {
    /// Starts clients of each address.
    pub(crate) fn start(hosts: &[String], habit: Habit) -> Self {
        let seed: u64 = rand::random();
        eprintln!("sessions: {habit:?}, seed {seed}, at {hosts:?}");
        let mut sessions = Self {
            seed,
            stop: CancellationToken::new(),
            begin: Instant::now(),
            seen: Arc::default(),
            acknowledged: Arc::default(),
            tasks: JoinSet::new(),
        };
        sessions.also(hosts, habit);
        sessions
    }

    /// Starts more clients.
    pub(crate) fn also(&mut self, hosts: &[String], habit: Habit) {
        for host in hosts {
            let host: Arc<str> = host.as_str().into();
            for _ in 0..habit.clients {
                let number = self.tasks.len();
                let client = Client {
                    number,
                    run: self.seed,
                    host: Arc::clone(&host),
                    habit,
                    random: SmallRng::seed_from_u64(self.seed.wrapping_add(number as u64)),
                    connection: None,
                    tries: if number.is_multiple_of(4) { TRIES } else { 0 },
                };
                let (stop, seen) = (self.stop.clone(), Arc::clone(&self.seen));
                let count = Arc::clone(&self.acknowledged);
                self.tasks.spawn(client.run(stop, seen, count));
            }
        }
    }

    /// Writes acknowledged so far.
    pub(crate) fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` writes have been acknowledged from now on.
    pub(crate) async fn acknowledges(&self, more: u64, within: Duration) {
        let goal = self.count() + more;
        eventually(within, "writes are acknowledged", async || {
            match goal.saturating_sub(self.count()) {
                0 => Ok(()),
                missing => Err(format!(
                    "{missing} of {more} are missing; {}",
                    self.last_error()
                )),
            }
        })
        .await;
    }

    /// What is on record so far.
    pub(crate) fn so_far(&self) -> Record {
        Record {
            begin: self.begin,
            end: Instant::now(),
            operations: self.seen.lock().clone(),
        }
    }

    /// The longest time without an acknowledged write since a moment.
    pub(crate) fn gap(&self, since: Instant) -> Duration {
        let seen = self.seen.lock();
        // Ends are recorded in their order, but for what happens between two clients' locks.
        let recent = seen
            .iter()
            .rev()
            .take_while(|found| found.end + REST > since);
        longest_gap(recent, since, Instant::now())
    }

    /// As [`Self::gap`], which goes to the test's output.
    pub(crate) fn tell_gap(&self, what: &str, since: Instant) -> Duration {
        let gap = self.gap(since);
        eprintln!("without an acknowledged write when {what}: {gap:?}");
        gap
    }

    /// Stops them.
    pub(crate) async fn stop(mut self) -> Record {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client does not panic");
        }
        let record = self.so_far();
        record.tell();
        record
    }

    fn last_error(&self) -> String {
        let seen = self.seen.lock();
        let failed = seen
            .iter()
            .rev()
            .find(|found| found.outcome != Outcome::Done);
        failed.map_or_else(
            || "no errors".to_owned(),
            |found| format!("last error: {found:?}"),
        )
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Client {
    number: usize,
    /// In all of its keys: what clients of another run wrote is not these clients' matter.
    run: u64,
    host: Arc<str>,
    habit: Habit,
    random: SmallRng,
    connection: Option<MultiplexedConnection>,
    /// Connections that it makes yet to find a leader to read at.
    tries: u32,
}

impl Client {
    async fn run(
        mut self,
        stop: CancellationToken,
        seen: Arc<Mutex<Vec<Operation>>>,
        acknowledged: Arc<AtomicU64>,
    ) {
        for count in 0_u64.. {
            if stop.is_cancelled() {
                return;
            }
            let value = format!("{}.{count}", self.number);
            let shared = format!(
                "shared:{}:{}",
                self.run,
                self.random.random_range(0..SHARED)
            );
            let (key, write) = match self.random.random_range(0..3) {
                0 => (format!("own:{}:{value}", self.run), true),
                1 => (shared, true),
                _ => (shared, false),
            };
            let start = Instant::now();
            let (action, outcome) = if write {
                let outcome = self.set(&key, &value).await;
                (Action::Set(value), outcome)
            } else {
                self.get(&key).await
            };
            let failed = outcome != Outcome::Done;
            if write && !failed {
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            seen.lock().push(Operation {
                client: self.number,
                host: Arc::clone(&self.host),
                key,
                action,
                start,
                end: Instant::now(),
                outcome,
            });
            sleep(if failed { REST } else { self.habit.pause }).await;
        }
    }

    async fn set(&mut self, key: &str, value: &str) -> Outcome {
        let connection = match self.connected().await {
            Ok(connection) => connection,
            Err(error) => return Outcome::Refused(format!("connecting: {error}")),
        };
        let done: RedisResult<()> = redis::cmd("SET")
            .arg(key)
            .arg(value)
            .exec_async(connection)
            .await;
        self.outcome(done.err())
    }

    async fn get(&mut self, key: &str) -> (Action, Outcome) {
        let unseen = Action::Get {
            value: None,
            leader: false,
        };
        let connection = match self.connected().await {
            Ok(connection) => connection,
            Err(error) => return (unseen, Outcome::Refused(format!("connecting: {error}"))),
        };
        let mut pipe = redis::pipe();
        pipe.cmd("ROLE").cmd("GET").arg(key).cmd("ROLE");
        let answer: RedisResult<(Value, Option<String>, Value)> =
            pipe.query_async(connection).await;
        match answer {
            Ok((before, value, after)) => {
                let leader = is_leader(&before) && is_leader(&after);
                if leader && self.tries > 0 {
                    self.tries = TRIES;
                } else if self.tries > 0 {
                    self.tries -= 1;
                    self.connection = None;
                }
                (Action::Get { value, leader }, Outcome::Done)
            }
            Err(error) => (unseen, self.outcome(Some(error))),
        }
    }

    async fn connected(&mut self) -> RedisResult<&mut MultiplexedConnection> {
        if self.connection.is_none() {
            self.connection = Some(connect_within(&self.host, self.habit.patience).await?);
        }
        Ok(self.connection.as_mut().expect("it was just made"))
    }

    /// A connection that may still bring an old answer is never used again.
    fn outcome(&mut self, error: Option<RedisError>) -> Outcome {
        let Some(error) = error else {
            return Outcome::Done;
        };
        let code = error.code().unwrap_or_default().to_owned();
        if code.is_empty() {
            self.connection = None;
        }
        if REFUSALS.contains(&code.as_str()) {
            Outcome::Refused(error.to_string())
        } else {
            Outcome::Unknown(error.to_string())
        }
    }
}

/// Codes of errors that say that nothing was done.
const REFUSALS: [&str; 5] = [
    "READONLY",
    "NOREPLICAS",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
];

fn is_leader(role: &Value) -> bool {
    let Value::Array(parts) = role else {
        return false;
    };
    matches!(parts.first(), Some(Value::BulkString(name)) if name == b"master")
}
