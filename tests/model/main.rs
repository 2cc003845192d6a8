//! A bounded model of the protocol over the real core: all that may happen within a scope happens,
//! to the core as it is shipped, which must hold, and to the core with each mistake of the table,
//! which must not.
//!
//! Disks, messages and crashes are actions; whatever nobody has made slow happens at once. What is
//! dear has a budget, so that a scope comes to an end: see `Budget`. The operator is any number of
//! operators with views as stale as you like: whatever the text of the protocol allows.
//!
//! # What is explored
//!
//! | | |
//! | --- | --- |
//! | replicas | one to four voters with `k` of 0, 1 or 2, and learners |
//! | dear | one or two promotions, a write, a crash, a change of voters or of `k`, a disk that is lost, ... : what [`SCOPES`] and the table of mistakes say |
//! | states | 11 million in 62 scopes, each to its end; as many mistakes as the table has, most within some thousands; a million more on walks at random through larger scopes |
//! | time | about a minute on two cores, the same states each time |
//!
//! Above that of a model that only follows the text there are here: the source as it is shipped;
//! seeds, with the log that a leader has freed, flushes, and states that are half copied; a register
//! that was restored from a backup; clocks that run at different rates within the bound, and leases
//! as each of them counts; switchovers; disks that are written late, in either order;
//! seeds that go on under another leader; logs that are damaged; disks that are put back to an earlier copy of
//! themselves, copied to another place, or another store's; a register that is deleted, or goes back over restarts;
//! requests that are delivered to the wrong replica. Operators do then what the shipped one does: they
//! note what each disk is known to have had, and recover the register from what all disks remember.
//!
//! What is not there: records that differ in size, frames that are damaged, the store. What operators
//! note is exact, no campaign lasts as long as it takes to put a disk back or to start a copy, and
//! whoever may have adopted a later register is heard: the protocol's text says what else may happen.
//! No scope has a register that is deleted *and* a disk put back to before a promise that only it made.
//!
//! That each scope comes to what it is about is looked at, too: see [`reached`].
//!
//! # Other bounds
//!
//! `MODEL_LONG` explores [`LONG`] as well, and walks on for longer. `MODEL_SCOPES` (one a line, as in
//! the table) and `MODEL_STATES` choose other bounds, `MODEL_SEED` and `MODEL_WALKS` the walks;
//! `MODEL_MUTANT` is a part of the name of the mistakes to look for, whose ways are told then.

mod act;
mod actions;
mod check;
mod disk;
mod explore;
mod fate;
mod hash;
mod network;
mod operator;
mod reached;
mod recovery;
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

use explore::Explored;
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
    "voters=3 promotions=1 writes=1 changes=1 restores=1",
    // What becomes of registers and disks besides.
    "voters=2 promotions=2 writes=1 gone=1 crashes=1",
    "voters=2 learners=1 promotions=1 copies=1 stops=1 writes=1",
    "voters=3 promotions=1 writes=1 rollbacks=1",
    "voters=3 promotions=1 writes=1 damages=1",
    // Replies that wait for more copies than the voters that are left can have.
    "voters=2 block=1 promotions=1 writes=1 changes=1 slow=1 crashes=1",
    "voters=2 learners=1 block=1 writes=1 changes=1 slow=1",
    "voters=3 sync=2 block=2 promotions=1 writes=1 changes=1",
];

/// Explored when there is time, as far as that goes: some are too large to come to an end.
const LONG: &[&str] = &[
    "voters=3 promotions=2 writes=1 restores=1",
    "voters=3 promotions=2 writes=1 crashes=1",
    "voters=2 promotions=2 writes=2 crashes=2 slow=1",
    "voters=2 learners=1 promotions=2 writes=1 changes=1",
    "voters=3 promotions=1 writes=1 trims=1 breaks=1 losses=1",
    "voters=3 promotions=2 writes=1 slow=1",
    "voters=3 promotions=1 writes=2 slow=2 crashes=1",
    "voters=4 sync=2 promotions=2 writes=1",
    "voters=3 promotions=1 writes=1 rollbacks=1 crashes=1",
    "voters=3 promotions=2 losses=1 gone=1",
    "voters=2 learners=1 promotions=1 writes=1 copies=1 stops=3",
    "voters=2 learners=1 promotions=1 writes=1 changes=1 foreign=1",
    "voters=2 learners=1 promotions=1 copies=1 stops=1 time=2",
    "voters=3 parted promotions=1 rollbacks=1 slow=1",
    "voters=2 promotions=2 writes=1 rollbacks=1 slow=1",
    "voters=3 promotions=1 writes=1 damages=1 slow=1",
];

/// Walked through at random.
const WALKS: &[&str] = &[
    "voters=3 learners=1 promotions=4 writes=4 time=6 crashes=3 losses=1 breaks=3 slow=6 changes=3 \
     given-up=2 trims=2 switchovers=2 stale=3",
    "voters=2 promotions=5 writes=4 time=6 crashes=3 breaks=2 slow=6 given-up=2 changes=3 trims=1 stale=2",
    "voters=4 sync=2 promotions=3 writes=3 time=4 crashes=2 breaks=3 slow=6 changes=2 stale=1",
    "voters=3 sync=0 promotions=4 writes=4 time=6 crashes=2 breaks=3 slow=6 given-up=1 changes=2",
    "voters=2 learners=1 block=1 promotions=3 writes=4 time=6 crashes=3 losses=1 breaks=3 slow=6 changes=4 \
     trims=2 flushes=2",
    "voters=3 sync=2 block=2 promotions=3 writes=4 time=6 crashes=2 losses=1 breaks=3 slow=6 changes=4 \
     trims=1 flushes=2",
    "voters=3 promotions=4 writes=4 time=4 crashes=3 breaks=3 slow=3 changes=2 rollbacks=1 strays=1",
    "voters=3 promotions=4 writes=4 time=4 crashes=3 breaks=3 slow=3 changes=2 gone=1 stops=3",
    "voters=2 learners=1 promotions=4 writes=4 time=3 crashes=2 breaks=2 changes=2 foreign=1",
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

fn long() -> bool {
    std::env::var_os("MODEL_LONG").is_some_and(|it| !it.is_empty())
}

/// States after which an exploration is given up.
fn most() -> usize {
    let usual = if long() { 10_000_000 } else { 2_000_000 };
    setting("MODEL_STATES").unwrap_or(usual) as usize
}

/// Goal: whatever happens within a scope, the protocol keeps what it promises.
/// Method: every state of every scope.
#[test]
fn the_protocol_holds() {
    explore::keep_panics();
    switch::choose(None);
    if let Some(chosen) = chosen() {
        chosen.iter().for_each(|scope| _ = holds(scope));
        return;
    }
    let mut states = 0;
    for scope in usual() {
        let explored = holds(&scope);
        assert!(explored.complete, "{:?} is too large", scope.name);
        states += explored.states;
    }
    println!("{states} states");
    let missing = reached::missing();
    assert!(missing.is_empty(), "never came to {missing:?}");
    let more = LONG.iter().filter(|_| long());
    more.for_each(|text| _ = holds(&scope(text)));
}

fn holds(scope: &Scope) -> Explored {
    let mut explored = explore::exhaust(scope, most());
    println!("{}: {explored}", scope.name);
    let found = explored.found.take();
    let wrong = found.map(|found| explore::shorten(scope, found).to_string());
    assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    explored
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
    let usual = if long() { 100_000 } else { 3000 };
    let walks = setting("MODEL_WALKS").unwrap_or(usual) as usize;
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
