//! A bounded model of the protocol over the real core: all that may happen within a scope happens,
//! to the core as it is shipped, which must hold, and to the core with each mistake of the table,
//! which must not.
//!
//! Disks, messages and crashes are actions; whatever nobody has made slow happens at once. What is
//! dear has a budget, so that a scope comes to an end: see `Budget`.
//!
//! `MODEL_SCOPES` (one a line, as in the table) and `MODEL_STATES` choose other bounds, `MODEL_SEED`
//! and `MODEL_WALKS` the walks; `MODEL_MUTANT` is a part of the name of the mistakes to look for,
//! whose ways are told then.

mod act;
mod actions;
mod check;
mod disk;
mod explore;
mod hash;
mod network;
mod operator;
mod reached;
mod scope;
mod start;
mod state;
mod switch;
mod world;

#[allow(
    warnings,
    clippy::all,
    clippy::pedantic,
    clippy::panic,
    clippy::unwrap_used
)] // linted where it stands
mod copied {
    include!(concat!(env!("OUT_DIR"), "/replication/include.rs"));
}
use copied::replication;

use replication_model::MUTANTS;

use scope::Scope;

/// Explored besides those of the mistakes.
const SCOPES: &[&str] = &[
    "voters=3 promotions=1 writes=1 slow=1 crashes=1",
    // Changes of the voters and of k, seeds, switchovers.
    "voters=1 learners=1 promotions=2 changes=2 crashes=1",
    "voters=3 promotions=1 changes=1 writes=1",
    "voters=2 promotions=1 writes=1 trims=1 breaks=1 crashes=1",
    "voters=2 promotions=1 writes=1 switchovers=1 crashes=1 slow=1",
    // Disks that are lost, and promotions that may lose what was committed.
    "voters=3 promotions=1 writes=1 losses=1",
    "voters=2 sync=0 promotions=2 writes=1 time=2",
    "voters=3 sync=2 promotions=2 writes=1",
];

/// Walked through at random.
const WALKS: &[&str] = &[
    "voters=3 learners=1 promotions=4 writes=4 time=6 crashes=3 losses=1 breaks=3 slow=6 changes=3 \
     given-up=2 trims=2 switchovers=2 stale=3",
    "voters=2 promotions=5 writes=4 time=6 crashes=3 breaks=2 slow=6 given-up=2 changes=3 trims=1 stale=2",
    "voters=4 sync=2 promotions=3 writes=3 time=4 crashes=2 breaks=3 slow=6 changes=2 stale=1",
    "voters=3 sync=0 promotions=4 writes=4 time=6 crashes=2 breaks=3 slow=6 given-up=1 changes=2",
];

/// One a line, set by who wants others to be explored.
fn chosen() -> Option<Vec<Scope>> {
    let set = std::env::var("MODEL_SCOPES").ok()?;
    let lines = set.lines().filter(|line| !line.trim().is_empty());
    Some(lines.map(scope).collect())
}

fn scope(text: &str) -> Scope {
    text.parse().expect("a scope")
}

/// Those in which mistakes are found, each once, and the others.
fn usual() -> Vec<Scope> {
    let mut texts: Vec<&str> = Vec::new();
    for text in MUTANTS
        .iter()
        .map(|it| it.scope)
        .chain(SCOPES.iter().copied())
    {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.into_iter().map(scope).collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// States after which an exploration is given up.
fn most() -> usize {
    setting("MODEL_STATES").unwrap_or(2_000_000) as usize
}

/// Goal: whatever happens within a scope, the protocol keeps what it promises.
/// Method: every state of every scope.
#[test]
fn the_protocol_holds() {
    explore::keep_panics();
    switch::choose(None);
    let chosen = chosen();
    let all = chosen.is_none();
    for scope in chosen.unwrap_or_else(usual) {
        let explored = explore::exhaust(&scope, most());
        println!("{}: {explored}", scope.name);
        if let Some(found) = explored.found {
            panic!("{}", explore::shorten(&scope, found));
        }
        assert!(explored.complete || !all, "{:?} is too large", scope.name);
    }
    let missing = reached::missing();
    assert!(missing.is_empty() || !all, "never came to {missing:?}");
}

/// Goal: the model would notice.
/// Method: every mistake of the table is put into the core, or the operator, and found.
#[test]
fn every_mistake_is_found() {
    explore::keep_panics();
    let wanted = std::env::var("MODEL_MUTANT").unwrap_or_default();
    let mut missed = Vec::new();
    let mutants = MUTANTS.iter().enumerate();
    for (number, mutant) in mutants.filter(|(_, it)| it.name.contains(&wanted)) {
        switch::choose(Some(number));
        let scopes = chosen().unwrap_or_else(|| vec![scope(mutant.scope)]);
        println!("{}:", mutant.name);
        if !scopes.iter().any(|scope| finds(scope, !wanted.is_empty())) {
            missed.push(mutant.name);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Whether something is found to be wrong; how, if it is to be told.
fn finds(scope: &Scope, tell: bool) -> bool {
    let explored = explore::exhaust(scope, most());
    let Some(found) = explored.found else {
        println!("    not in {}: {explored}", scope.name);
        return false;
    };
    let found = explore::shorten(scope, found);
    let (steps, wrong) = (found.path.len(), &found.wrong);
    println!(
        "    after {} states, by {steps} steps: {wrong}",
        explored.states
    );
    if tell {
        println!("{found}");
    }
    true
}

/// Goal: what is too large to be explored to its end is not left alone.
/// Method: walks at random, from a seed that can be set.
#[test]
fn the_protocol_holds_on_long_walks() {
    explore::keep_panics();
    switch::choose(None);
    let seed = setting("MODEL_SEED").unwrap_or(1);
    let walks = setting("MODEL_WALKS").unwrap_or(3000) as usize;
    for text in WALKS {
        let scope = scope(text);
        let explored = explore::walk(&scope, seed, walks, 100);
        println!(
            "{text}: {walks} walks from seed {seed}, {} states",
            explored.states
        );
        if let Some(found) = explored.found {
            panic!("{}", explore::shorten(&scope, found));
        }
    }
}
