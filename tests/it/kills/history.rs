//! What clients saw, round by round: whether it is linearizable at the leader, and what of it the next
//! round has to know. So a long run needs no more memory than a short one.

use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) use self::client::{Command, Op};
use self::lin::Verdict;
pub(super) use self::register::{Event, Time};

/// The checkers, and the words of the second, are those of the other tests.
#[path = "../../e2e/support/register.rs"]
mod register;

#[path = "../../sim/client.rs"]
#[expect(dead_code, reason = "the simulation names operations, too")]
mod client;
#[path = "../../sim/lin.rs"]
mod lin;

/// A read that a follower answered.
#[derive(Debug)]
pub(super) struct Stale {
    pub(super) key: String,
    pub(super) value: Option<String>,
    pub(super) end: Time,
}

/// What one client saw in a round.
#[derive(Default)]
pub(super) struct Seen {
    /// Writes, and reads at a leader.
    pub(super) events: Vec<(String, Event)>,
    /// Reads at followers.
    pub(super) stale: Vec<Stale>,
    /// Operations on the round's counter.
    pub(super) counts: Vec<Op>,
}

/// What is known from the rounds before.
#[derive(Default)]
pub(super) struct History {
    /// Of each key: the write whose value it had at the end, and those that may happen yet.
    carried: HashMap<String, Vec<Event>>,
    pub(super) operations: usize,
    pub(super) in_doubt: usize,
    pub(super) at_followers: usize,
    /// Histories of counters on which the search gave up.
    pub(super) unknown: usize,
}

impl History {
    /// Judges a round. `last` is what the leader had of each key after it, when all clients had ended.
    pub(super) fn judge(
        &mut self,
        seen: Vec<Seen>,
        last: Vec<(String, Event)>,
    ) -> Result<(), String> {
        let mut keys: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        let (mut stale, mut counts) = (Vec::new(), Vec::new());
        for (key, events) in self.carried.drain() {
            keys.entry(key).or_default().extend(events);
        }
        for one in seen {
            self.operations += one.events.len() + one.stale.len() + one.counts.len();
            self.at_followers += one.stale.len();
            let doubt = |(_, event): &&(String, Event)| matches!(event, Event::Perhaps { .. });
            self.in_doubt += one.events.iter().filter(doubt).count();
            for (key, event) in one.events {
                keys.entry(key).or_default().push(event);
            }
            stale.extend(one.stale);
            counts.extend(one.counts);
        }
        for (key, event) in last {
            keys.entry(key).or_default().push(event);
        }
        for (key, events) in &keys {
            if let Err(reason) = register::check(events) {
                return Err(format!("key {key}: {reason}\n{}", tell(events)));
            }
        }
        for read in &stale {
            let events = keys.get(&read.key).map_or(&[][..], Vec::as_slice);
            if !possible(read, events) {
                return Err(format!("{read:?} of\n{}", tell(events)));
            }
        }
        match lin::check(&counts) {
            Verdict::Linearizable => {}
            Verdict::Unknown => self.unknown += 1,
            Verdict::Broken => return Err(format!("the counter: {counts:#?}")),
        }
        let keys = keys.into_iter();
        self.carried = keys.map(|(key, events)| (key, carry(events))).collect();
        Ok(())
    }
}

/// A follower may be behind, but has only what somebody wrote, and not before that.
fn possible(read: &Stale, events: &[Event]) -> bool {
    let Some(value) = &read.value else {
        return true;
    };
    events.iter().any(|event| match event {
        Event::Written {
            value: written,
            start,
            ..
        }
        | Event::Perhaps {
            value: written,
            start,
        } => written == value && *start < read.end,
        _ => false,
    })
}

/// The write whose value was read last, and those that nobody has seen and that may happen yet.
fn carry(events: Vec<Event>) -> Vec<Event> {
    let mut seen = HashSet::new();
    let mut last = (None, 0);
    for event in &events {
        if let Event::Read { value, end, .. } = event {
            seen.extend(value.clone());
            if *end >= last.1 {
                last = (value.clone(), *end);
            }
        }
    }
    let keep = |event: Event| match event {
        Event::Written { ref value, .. } => (Some(value) == last.0.as_ref()).then_some(event),
        Event::Perhaps { value, start } if Some(&value) == last.0.as_ref() => {
            Some(Event::Written {
                value,
                start,
                end: last.1,
            })
        }
        Event::Perhaps { ref value, .. } => (!seen.contains(value)).then_some(event),
        Event::Refused { .. } | Event::Read { .. } => None,
    };
    events.into_iter().filter_map(keep).collect()
}

fn tell(events: &[Event]) -> String {
    let lines = events.iter().map(|event| format!("  {event:?}\n"));
    lines.collect()
}

/// Goal: what was acknowledged in one round is missed in the next.
/// Method: histories by hand, of which the second part has lost a write, or brings an old one back.
#[test]
fn what_a_round_before_wrote_is_missed() {
    let written = |value: &str, start, end| {
        let value = value.to_owned();
        ("key".to_owned(), Event::Written { value, start, end })
    };
    let read = |value: Option<&str>, start, end| {
        let value = value.map(str::to_owned);
        ("key".to_owned(), Event::Read { value, start, end })
    };
    for (wrong, found) in [(false, Some("b")), (true, Some("a")), (true, None)] {
        let mut history = History::default();
        let events = vec![written("a", 1, 2), written("b", 3, 4)];
        let seen = Seen {
            events,
            ..Seen::default()
        };
        let first = history.judge(vec![seen], vec![read(Some("b"), 5, 6)]);
        assert_eq!(first, Ok(()));
        let second = history.judge(Vec::new(), vec![read(found, 7, 8)]);
        assert_eq!(second.is_err(), wrong, "{found:?}: {second:?}");
    }
}
