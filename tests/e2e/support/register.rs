//! Whether what clients saw of one key could have happened one operation after the other, each at
//! some moment between its call and its answer: linearizability of a register.
//!
//! Every write has a value of its own, so it is known which write a read saw, and the question needs
//! no search (Gibbons and Korach, *Testing shared memories*, 1997). A write and the reads that saw it
//! are a group. Its value has certainly been there at `first_end`, the first answer in the group, and
//! at `last_start`, the last call. Of two groups, one must come wholly before the other; it cannot if
//! each has an answer before a call of the other. If no two groups are in each other's way, there is
//! an order. The tests hold this to a search through all orders.
//!
//! A write without an answer may happen at any time after its call, or never: its end is infinity,
//! and if nobody saw it, it is in nobody's way. A write that was refused must never be seen.

use std::collections::{HashMap, HashSet};

/// Since some moment, in nanoseconds.
pub(crate) type Time = u64;

/// One operation on the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was answered.
    Written {
        value: String,
        start: Time,
        end: Time,
    },
    /// It was sent, and nobody knows.
    Perhaps { value: String, start: Time },
    /// It was answered that it was not done.
    Refused { value: String },
    /// `None` is what there is before the first write.
    Read {
        value: Option<String>,
        start: Time,
        end: Time,
    },
}

/// A write and the reads that saw it.
#[derive(Clone, Debug)]
struct Group {
    value: Option<String>,
    written: Time,
    first_end: Time,
    last_start: Time,
}

impl Group {
    fn new(value: Option<&str>, start: Time, end: Time) -> Self {
        Self {
            value: value.map(str::to_owned),
            written: start,
            first_end: end,
            last_start: start,
        }
    }

    /// It has an answer before its last call: between the two its value was there all the time.
    fn lasts(&self) -> bool {
        self.first_end < self.last_start
    }

    fn tell(&self) -> String {
        let millis = |time: Time| match time {
            Time::MAX => "never".to_owned(),
            time => format!("{:.3} ms", time as f64 / 1e6),
        };
        format!(
            "{:?} (write called at {}, first answer at {}, last call that saw it at {})",
            self.value,
            millis(self.written),
            millis(self.first_end),
            millis(self.last_start)
        )
    }
}

/// `Ok` if there is an order, else what stands against it. The register is empty at first.
pub(crate) fn check(events: &[Event]) -> Result<(), String> {
    let mut groups = HashMap::from([(None, Group::new(None, 0, 0))]);
    let mut refused = HashSet::new();
    for event in events {
        let group = match event {
            Event::Written { value, start, end } => Group::new(Some(value), *start, *end),
            Event::Perhaps { value, start } => Group::new(Some(value), *start, Time::MAX),
            Event::Refused { value } => {
                refused.insert(value.as_str());
                continue;
            }
            Event::Read { .. } => continue,
        };
        let before = groups.insert(group.value.clone(), group);
        assert!(before.is_none(), "values must differ: {before:?}");
    }
    for event in events {
        let Event::Read { value, start, end } = event else {
            continue;
        };
        let Some(group) = groups.get_mut(value) else {
            let known = value
                .as_deref()
                .is_some_and(|value| refused.contains(value));
            let why = if known {
                "whose write was refused"
            } else {
                "that nobody wrote"
            };
            return Err(format!("a read saw {value:?}, {why}"));
        };
        if *end < group.written {
            return Err(format!("a read saw {value:?} before it was written"));
        }
        group.first_end = group.first_end.min(*end);
        group.last_start = group.last_start.max(*start);
    }
    in_order(groups.into_values().collect())
}

fn in_order(groups: Vec<Group>) -> Result<(), String> {
    let (mut lasting, moments): (Vec<_>, Vec<_>) = groups.into_iter().partition(Group::lasts);
    lasting.sort_by_key(|group| group.first_end);
    let against = |one: &Group, other: &Group| {
        Err(format!(
            "each of two values was there before the other: {} and {}",
            one.tell(),
            other.tell()
        ))
    };
    for pair in lasting.windows(2) {
        if pair[1].first_end < pair[0].last_start {
            return against(&pair[0], &pair[1]);
        }
    }
    // What lasts does not overlap, so the last that begins before a moment also ends last.
    for moment in &moments {
        let after = lasting.partition_point(|group| group.first_end < moment.last_start);
        if let Some(before) = after.checked_sub(1).map(|index| &lasting[index])
            && moment.first_end < before.last_start
        {
            return against(before, moment);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::{Event, Time, check};

    fn written(value: &str, start: Time, end: Time) -> Event {
        Event::Written {
            value: value.to_owned(),
            start,
            end,
        }
    }

    fn perhaps(value: &str, start: Time) -> Event {
        Event::Perhaps {
            value: value.to_owned(),
            start,
        }
    }

    fn read(value: &str, start: Time, end: Time) -> Event {
        let value = (!value.is_empty()).then(|| value.to_owned());
        Event::Read { value, start, end }
    }

    /// Goal: what a single, atomic register does is allowed.
    /// Method: histories by hand.
    #[test]
    fn what_can_be_is_allowed() {
        for (what, events) in [
            ("nothing", vec![]),
            (
                "one after the other",
                vec![read("", 1, 2), written("a", 3, 4), read("a", 5, 6)],
            ),
            (
                "reads on both sides of a write",
                vec![written("a", 1, 9), read("", 2, 3), read("a", 4, 5)],
            ),
            (
                "two writes at once",
                vec![written("a", 1, 9), written("b", 2, 8), read("b", 10, 11)],
            ),
            (
                "a lost answer, seen",
                vec![perhaps("a", 1), read("", 5, 6), read("a", 7, 8)],
            ),
            (
                "a lost answer, never seen",
                vec![perhaps("a", 1), written("b", 2, 3), read("b", 4, 5)],
            ),
            (
                "a lost answer, late",
                vec![
                    perhaps("a", 1),
                    written("b", 2, 3),
                    read("b", 4, 5),
                    read("a", 6, 7),
                ],
            ),
            (
                "a refusal",
                vec![
                    Event::Refused {
                        value: "a".to_owned(),
                    },
                    read("", 1, 2),
                ],
            ),
        ] {
            assert_eq!(check(&events), Ok(()), "{what}");
        }
    }

    /// Goal: what a replicated store gets wrong is found.
    /// Method: histories by hand, one for each fault.
    #[test]
    fn what_cannot_be_is_found() {
        for (what, events) in [
            (
                "a lost write",
                vec![written("a", 1, 2), written("b", 3, 4), read("a", 5, 6)],
            ),
            (
                "a lost first write",
                vec![written("a", 1, 2), read("", 3, 4)],
            ),
            (
                "a stale read",
                vec![
                    written("a", 1, 2),
                    written("b", 3, 9),
                    read("b", 4, 5),
                    read("a", 6, 7),
                ],
            ),
            (
                "a value that comes back",
                vec![
                    written("a", 1, 2),
                    written("b", 3, 4),
                    read("b", 5, 6),
                    read("a", 7, 8),
                    read("b", 9, 10),
                ],
            ),
            (
                "a value that vanishes",
                vec![perhaps("a", 1), read("a", 2, 3), read("", 4, 5)],
            ),
            ("a value that nobody wrote", vec![read("a", 1, 2)]),
            (
                "a value from the future",
                vec![read("a", 1, 2), written("a", 3, 4)],
            ),
            (
                "a refused write that shows",
                vec![
                    Event::Refused {
                        value: "a".to_owned(),
                    },
                    read("a", 1, 2),
                ],
            ),
        ] {
            assert!(check(&events).is_err(), "{what}");
        }
    }

    /// Goal: the rule says what a search through all orders says.
    /// Method: small random histories, many of them with reads of anything; a search as Wing and
    /// Gong's must agree on each.
    #[test]
    fn it_agrees_with_a_search() {
        let seed: u64 = rand::random();
        eprintln!("seed {seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        let mut possible = 0;
        for round in 0..20_000 {
            let events = history(&mut random);
            let expected = search(&events);
            assert_eq!(
                check(&events).is_ok(),
                expected,
                "seed {seed}, round {round}: {events:#?}"
            );
            possible += usize::from(expected);
        }
        assert!(
            (2_000..18_000).contains(&possible),
            "{possible} of 20000 histories are possible"
        );
    }

    /// No two times are equal.
    fn history(random: &mut SmallRng) -> Vec<Event> {
        let count = random.random_range(2..8_u64);
        let mut times: Vec<Time> = (1..=3 * count).collect();
        let span = random.random_range(2..=3 * count as usize);
        let mut draw = |random: &mut SmallRng| {
            let near = span.min(times.len());
            times.remove(random.random_range(0..near))
        };
        (0..count)
            .map(|number| {
                let (one, other) = (draw(random), draw(random));
                let (start, end) = (one.min(other), one.max(other));
                match random.random_range(0..8) {
                    0..3 => written(&number.to_string(), start, end),
                    3 => perhaps(&number.to_string(), start),
                    _ => match random.random_range(0..=count) {
                        none if none == count => read("", start, end),
                        some => read(&some.to_string(), start, end),
                    },
                }
            })
            .collect()
    }

    fn search(events: &[Event]) -> bool {
        let times = |event: &Event| match event {
            Event::Written { start, end, .. } | Event::Read { start, end, .. } => (*start, *end),
            Event::Perhaps { start, .. } => (*start, Time::MAX),
            Event::Refused { .. } => unreachable!("the histories have none"),
        };
        let times: Vec<(Time, Time)> = events.iter().map(times).collect();
        let must: u32 = (0..events.len())
            .filter(|&n| times[n].1 != Time::MAX)
            .map(|n| 1 << n)
            .sum();
        let mut seen = HashSet::new();
        let mut open: Vec<(u32, Option<&str>)> = vec![(0, None)];
        while let Some((done, value)) = open.pop() {
            if done & must == must {
                return true;
            }
            if !seen.insert((done, value)) {
                continue;
            }
            let left = |n: &usize| done & (1 << n) == 0;
            let first_end = (0..events.len()).filter(left).map(|n| times[n].1).min();
            for next in (0..events.len()).filter(left) {
                if Some(times[next].0) > first_end {
                    continue;
                }
                match &events[next] {
                    Event::Read { value: saw, .. } if saw.as_deref() == value => {
                        open.push((done | 1 << next, value));
                    }
                    Event::Written { value, .. } | Event::Perhaps { value, .. } => {
                        open.push((done | 1 << next, Some(value)));
                    }
                    _ => {}
                }
            }
        }
        false
    }
}
