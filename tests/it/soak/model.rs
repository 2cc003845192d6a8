//! What the keys of one client hold, as far as the client can know: nobody else writes them, so it is
//! one thing, but after a write that nobody answered, and for about the moment when a key expires.

use std::time::{Duration, Instant};

/// Clocks are read in milliseconds, and what has expired may be read until it is noticed.
const EARLY: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_secs(1);

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Nothing,
    /// The client's value of this number, of so many bytes.
    Text(u64, usize),
    Number(i64),
}

/// What a key may hold, and the least and the most moment at which it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Possible {
    pub(super) value: Value,
    expires: Option<(Instant, Instant)>,
}

impl Possible {
    pub(super) fn new(value: Value) -> Self {
        Self {
            value,
            expires: None,
        }
    }

    fn there(&self, start: Instant) -> bool {
        let still = self.expires.is_none_or(|(_, last)| last + LATE >= start);
        self.value != Value::Nothing && still
    }

    fn gone(&self, end: Instant) -> bool {
        let expired = self.expires.is_some_and(|(first, _)| first <= end + EARLY);
        self.value == Value::Nothing || expired
    }
}

/// All that a key may hold.
#[derive(Clone, Debug)]
pub(super) struct Key(Vec<Possible>);

impl Default for Key {
    fn default() -> Self {
        Self(vec![Possible::new(Value::Nothing)])
    }
}

impl Key {
    /// It was read between two moments: whether that can be.
    pub(super) fn is(&self, found: Value, start: Instant, end: Instant) -> bool {
        self.0.iter().any(|possible| match found {
            Value::Nothing => possible.gone(end),
            found => possible.value == found && possible.there(start),
        })
    }

    /// It was written, and that was acknowledged.
    pub(super) fn becomes(&mut self, value: Value) {
        self.0 = vec![Possible::new(value)];
    }

    /// Nobody knows whether it was written.
    pub(super) fn may_become(&mut self, value: Value) {
        self.add(Possible::new(value));
    }

    /// It was told to expire, and was there if that `took`; `None` if nobody knows.
    pub(super) fn expires(
        &mut self,
        took: Option<bool>,
        after: Duration,
        (start, end): (Instant, Instant),
    ) -> bool {
        let until = |possible: &Possible| Possible {
            expires: Some((start + after, end + after)),
            ..*possible
        };
        match took {
            Some(true) => {
                let there = self.0.iter().filter(|it| it.there(start));
                self.0 = there.map(until).collect();
            }
            Some(false) => self.0.retain(|it| it.gone(end)),
            None => {
                // The command may come as late as a connection is waited for.
                let expires = Some((start + after, end + after + LATE));
                for possible in self.0.clone() {
                    self.add(Possible {
                        expires,
                        ..possible
                    });
                }
            }
        }
        !self.0.is_empty()
    }

    /// What an increment may make of it.
    pub(super) fn increments(&self) -> Vec<i64> {
        let one = |possible: &Possible| match possible.value {
            Value::Number(number) => number + 1,
            _ => 1,
        };
        self.0.iter().map(one).collect()
    }

    /// The most bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let of = |possible: &Possible| match possible.value {
            Value::Text(_, bytes) => bytes,
            Value::Number(_) => 8,
            Value::Nothing => 0,
        };
        self.0.iter().map(of).max().unwrap_or(0)
    }

    fn add(&mut self, possible: Possible) {
        if !self.0.contains(&possible) {
            self.0.push(possible);
        }
    }
}
