//! Every state that a scope allows, or as many as there is time for; and walks through it at random.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Instant;

use crate::actions::Action;
use crate::hash::{Fingerprint, Kept};
use crate::reached;
use crate::scope::Scope;
use crate::state::State;
use crate::world::Violation;

/// A way to something that is wrong.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) wrong: Violation,
    pub(crate) path: Vec<Action>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after", self.wrong)?;
        self.path
            .iter()
            .try_for_each(|action| writeln!(f, "  {action:?}"))
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (&self.found, self.complete) {
            (Some(_), _) => "something is wrong",
            (None, true) => "complete",
            (None, false) => "NOT COMPLETE",
        };
        write!(f, "{} states, {:.1} s, {end}", self.states, self.seconds)
    }
}

pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) seconds: f64,
    /// Nothing was left out.
    pub(crate) complete: bool,
    pub(crate) found: Option<Found>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Assertions of the core are findings: what they say is kept, and not printed.
pub(crate) fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(set_hook);
}

fn set_hook() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map_or("", |place| place.file());
        if place.contains("/replication/") {
            PANIC.set(Some(info.to_string().replace('\n', " ")));
        } else {
            print(info);
        }
    }));
}

/// One step; an assertion that fails in the core is wrong as well.
fn step(state: &State, action: Action, scope: &Scope) -> Result<State, Violation> {
    let result = catch_unwind(AssertUnwindSafe(|| state.apply(action, scope)));
    result.unwrap_or_else(|_| Err(PANIC.take().unwrap_or_else(|| "a panic".to_owned())))
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = Fingerprint::default();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Depth first, up to so many states.
pub(crate) fn exhaust(scope: &Scope, most: usize) -> Explored {
    let begun = Instant::now();
    let start = reached::apart(|| scope.start());
    let mut seen: HashSet<u64, BuildHasherDefault<Kept>> = HashSet::default();
    seen.insert(fingerprint(&start));
    let actions = start.actions();
    let mut stack = vec![(start, actions)];
    let mut path: Vec<Action> = Vec::new();
    let mut found = None;
    while let Some((state, actions)) = stack.last_mut() {
        let Some(action) = actions.pop() else {
            stack.pop();
            path.pop();
            continue;
        };
        match step(state, action, scope) {
            Ok(next) => {
                if seen.insert(fingerprint(&next)) {
                    path.push(action);
                    let actions = next.actions();
                    stack.push((next, actions));
                }
            }
            Err(wrong) => {
                path.push(action);
                found = Some(Found { wrong, path });
                break;
            }
        }
        if seen.len() >= most {
            break;
        }
    }
    Explored {
        states: seen.len(),
        seconds: begun.elapsed().as_secs_f64(),
        complete: stack.is_empty(),
        found,
    }
}

/// What happens if one does this, leaving out what cannot be done.
fn replay(scope: &Scope, path: &[Action]) -> Option<Found> {
    let mut state = scope.start();
    let mut done = Vec::new();
    for action in path {
        if !state.actions().contains(action) {
            continue;
        }
        done.push(*action);
        match step(&state, *action, scope) {
            Ok(next) => state = next,
            Err(wrong) => return Some(Found { wrong, path: done }),
        }
    }
    None
}

/// A shorter way to something that is wrong: what is not needed is left out.
pub(crate) fn shorten(scope: &Scope, found: Found) -> Found {
    let mut best = found;
    let mut size = best.path.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < best.path.len() {
            let mut shorter = best.path.clone();
            shorter.drain(at..(at + size).min(best.path.len()));
            match replay(scope, &shorter) {
                Some(found) if found.path.len() < best.path.len() => best = found,
                _ => at += size,
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    best
}

/// Walks at random: each does without some of the actions, so that others come to be tried.
pub(crate) fn walk(scope: &Scope, seed: u64, walks: usize, most: usize) -> Explored {
    let begun = Instant::now();
    let mut random = Random(seed);
    let start = scope.start();
    let mut steps = 0;
    for _ in 0..walks {
        let without = random.next() & random.next() & random.next();
        let (mut state, mut path) = (start.clone(), Vec::new());
        while path.len() < most {
            let mut actions = state.actions();
            actions.retain(|action| (without >> (kind(*action) % 64)) & 1 == 0);
            let Some(action) = random.choose(&actions) else {
                break;
            };
            path.push(action);
            steps += 1;
            match step(&state, action, scope) {
                Ok(next) => state = next,
                Err(wrong) => {
                    let found = Some(Found { wrong, path });
                    return walked(steps, begun, found);
                }
            }
        }
    }
    walked(steps, begun, None)
}

fn walked(states: usize, begun: Instant, found: Option<Found>) -> Explored {
    Explored {
        states,
        seconds: begun.elapsed().as_secs_f64(),
        complete: false,
        found,
    }
}

/// Actions of the same kind at the same place have the same number.
fn kind(action: Action) -> u64 {
    let mut hasher = Fingerprint::default();
    action.hash(&mut hasher);
    hasher.finish()
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn choose<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let at = (self.next() as usize).checked_rem(of.len())?;
        Some(of[at])
    }
}
