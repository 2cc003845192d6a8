//! What clients saw ([`super::sessions`]), and what must be true of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::client::{LEADER_PORT, connect, get_all};
use super::register::{Event, Time, check};

/// What a client asked for, and saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Writes a value that is written only once.
    Set(String),
    /// Reads, from a leader or from whoever it was.
    Get { value: Option<String>, leader: bool },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered.
    Done,
    /// It was not done.
    Refused(String),
    /// It may have been done, or will be.
    Unknown(String),
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) host: Arc<str>,
    pub(crate) key: String,
    pub(crate) action: Action,
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    pub(crate) outcome: Outcome,
}

impl Operation {
    /// A write that was acknowledged.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.outcome == Outcome::Done && matches!(self.action, Action::Set(_))
    }
}

/// All operations of all clients, in the order of their ends.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    pub(crate) operations: Vec<Operation>,
}

impl Record {
    /// Acknowledged writes.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = &Operation> {
        self.operations
            .iter()
            .filter(|found| found.is_acknowledged())
    }

    /// Operations that were refused, or not answered.
    pub(crate) fn failed(&self) -> Vec<&Operation> {
        let failed = self.operations.iter();
        failed
            .filter(|found| found.outcome != Outcome::Done)
            .collect()
    }

    /// Only what clients of one address saw.
    pub(crate) fn at(&self, host: &str) -> Self {
        let operations = self.operations.iter().filter(|found| *found.host == *host);
        Self {
            operations: operations.cloned().collect(),
            ..*self
        }
    }

    /// When the first write was acknowledged that was called after a moment.
    pub(crate) fn first_after(&self, moment: Instant) -> Option<Instant> {
        let after = self.acknowledged().filter(|found| found.start >= moment);
        after.map(|found| found.end).min()
    }

    /// When the last write was acknowledged.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.acknowledged().map(|found| found.end).max()
    }

    /// No client saw an error, and none waited longer than its patience.
    pub(crate) fn nothing_failed(&self) {
        let failed = self.failed();
        assert!(
            failed.is_empty(),
            "{} of {} operations failed:{}",
            failed.len(),
            self.operations.len(),
            self.some(&failed)
        );
    }

    /// What was seen of each shared key could have happened one after the other; and whatever was read at
    /// a leader's port was read as at the leader.
    pub(crate) fn is_linearizable(&self) {
        let strict = format!(":{LEADER_PORT}");
        let at_leaders = self
            .operations
            .iter()
            .filter(|it| it.host.ends_with(&strict));
        for operation in at_leaders.filter(|it| it.outcome == Outcome::Done) {
            let stale = matches!(operation.action, Action::Get { leader: false, .. });
            assert!(!stale, "a leader's port is a follower's: {operation:?}");
        }
        let mut keys: BTreeMap<&str, Vec<Event>> = BTreeMap::new();
        let mut reads = 0;
        for operation in self
            .operations
            .iter()
            .filter(|found| found.key.starts_with("shared:"))
        {
            let (start, end) = (self.nanos(operation.start), self.nanos(operation.end));
            let event = match (&operation.action, &operation.outcome) {
                (Action::Set(value), Outcome::Done) => Event::Written {
                    value: value.clone(),
                    start,
                    end,
                },
                (Action::Set(value), Outcome::Refused(_)) => Event::Refused {
                    value: value.clone(),
                },
                (Action::Set(value), Outcome::Unknown(_)) => Event::Perhaps {
                    value: value.clone(),
                    start,
                },
                (
                    Action::Get {
                        value,
                        leader: true,
                    },
                    Outcome::Done,
                ) => {
                    reads += 1;
                    Event::Read {
                        value: value.clone(),
                        start,
                        end,
                    }
                }
                (Action::Get { .. }, _) => continue,
            };
            keys.entry(&operation.key).or_default().push(event);
        }
        assert!(
            reads > 0,
            "no read was answered by a leader: nothing can be said"
        );
        for (key, events) in &keys {
            if let Err(reason) = check(events) {
                panic!("key {key}, {} operations: {reason}", events.len());
            }
        }
    }

    /// Every acknowledged write of a key that is written once is at `host`.
    pub(crate) async fn nothing_lost(&self, host: &str) {
        let once = self
            .acknowledged()
            .filter(|found| found.key.starts_with("own:"));
        let written: Vec<&Operation> = once.collect();
        assert!(
            !written.is_empty(),
            "no write was acknowledged:{}",
            self.some(&self.failed())
        );
        let keys: Vec<String> = written.iter().map(|found| found.key.clone()).collect();
        let found = get_all(&mut connect(host).await, &keys)
            .await
            .expect("the store answers");
        let lost: Vec<&Operation> = written
            .iter()
            .zip(&found)
            .filter(|(wrote, found)| match &wrote.action {
                Action::Set(value) => found.as_ref() != Some(value),
                Action::Get { .. } => false,
            })
            .map(|(wrote, _)| *wrote)
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged writes are lost:{}",
            lost.len(),
            keys.len(),
            self.some(&lost)
        );
    }

    /// A summary for the test's output.
    pub(crate) fn tell(&self) {
        let mut errors: HashMap<String, usize> = HashMap::new();
        for operation in self.failed() {
            if let Outcome::Refused(text) | Outcome::Unknown(text) = &operation.outcome {
                *errors.entry(text.chars().take(60).collect()).or_default() += 1;
            }
        }
        eprintln!(
            "sessions: {} operations in {:?}, {} writes acknowledged, longest gap {:?}; errors: {errors:?}",
            self.operations.len(),
            self.end - self.begin,
            self.acknowledged().count(),
            longest_gap(&self.operations, self.begin, self.end)
        );
    }

    fn nanos(&self, at: Instant) -> Time {
        // 1 is after the empty state, which was there at 0.
        Time::try_from((at - self.begin).as_nanos()).unwrap_or(Time::MAX - 1) + 1
    }

    fn some(&self, operations: &[&Operation]) -> String {
        let lines = operations.iter().take(8).map(|found| {
            let (called, took) = (found.start - self.begin, found.end - found.start);
            format!(
                "\n  client {} at {}, called at {called:?}, {took:?} later: {:?} of {} is {:?}",
                found.client, found.host, found.action, found.key, found.outcome
            )
        });
        lines.collect()
    }
}

/// The longest time without an acknowledged write, of what lies between two moments.
pub(crate) fn longest_gap<'o>(
    operations: impl IntoIterator<Item = &'o Operation>,
    from: Instant,
    to: Instant,
) -> Duration {
    let acknowledged = operations
        .into_iter()
        .filter(|found| found.is_acknowledged());
    let mut ends: Vec<Instant> = acknowledged.map(|found| found.end).collect();
    ends.retain(|end| (from..=to).contains(end));
    ends.extend([from, to]);
    ends.sort();
    ends.windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or_default()
}

/// Median, least and most, for a test's output; and the median. The line with all of them is for
/// `benches/failover`.
pub(crate) fn spread(what: &str, name: &str, times: &mut [Duration]) -> Duration {
    times.sort();
    let median = times[times.len() / 2];
    let millis: Vec<String> = times
        .iter()
        .map(|time| time.as_millis().to_string())
        .collect();
    eprintln!(
        "{what}: median {median:?}\nmeasured {name} ms: {}",
        millis.join(" ")
    );
    median
}
