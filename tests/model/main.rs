//! A bounded model of the protocol over the real core: all that may happen within a scope happens,
//! to the core as it is shipped, which must hold, and to the core with each mistake of the table,
//! which must not.

mod actions;
mod check;
mod disk;
mod explore;
mod hash;
mod network;
mod operator;
mod scope;
mod scopes;
mod state;
mod switch;
mod world;

#[allow(warnings, clippy::all, clippy::pedantic, clippy::panic, clippy::unwrap_used)] // linted where it stands
mod copied {
    include!(concat!(env!("OUT_DIR"), "/replication/include.rs"));
}
use copied::replication;

use replication_model::MUTANTS;

/// How many times the usual bounds, for long runs.
fn states() -> usize {
    let set = std::env::var("MODEL_STATES").ok();
    set.and_then(|it| it.parse().ok()).unwrap_or(3_000_000)
}

/// Goal: whatever happens within a scope, the protocol keeps what it promises.
/// Method: every state of every scope.
#[test]
fn the_protocol_holds() {
    explore::keep_panics();
    switch::choose(None);
    let chosen = std::env::var("MODEL_SCOPE").ok();
    for scope in scopes::all() {
        if chosen.as_ref().is_some_and(|it| it != scope.name) {
            continue;
        }
        let explored = explore::exhaust(&scope, states());
        println!(
            "{}: {} states, {:.1} s, {}",
            scope.name,
            explored.states,
            explored.seconds,
            if explored.complete { "complete" } else { "NOT COMPLETE" }
        );
        if let Some(found) = explored.found {
            let found = explore::shorten(&scope, found);
            panic!("{}: {}", scope.name, found);
        }
    }
}

/// Goal: the model would notice.
/// Method: every mistake of the table is put into the core, or the operator, and found.
#[test]
fn every_mistake_is_found() {
    explore::keep_panics();
    let mut missed = Vec::new();
    let chosen = std::env::var("MODEL_MUTANT").ok();
    for (number, mutant) in MUTANTS.iter().enumerate() {
        if chosen.as_ref().is_some_and(|it| !mutant.name.contains(it.as_str())) {
            continue;
        }
        switch::choose(Some(number));
        let Some(scope) = scopes::all().into_iter().find(|it| it.name == mutant.scope) else {
            panic!("{:?}: there is no scope {:?}", mutant.name, mutant.scope);
        };
        let explored = explore::exhaust(&scope, states());
        let Some(found) = explored.found else {
            println!("{}: NOT FOUND in {} states, {:.1} s", mutant.name, explored.states, explored.seconds);
            missed.push(mutant.name);
            continue;
        };
        let found = explore::shorten(&scope, found);
        println!(
            "{}: {} states, {:.1} s, {} steps: {}",
            mutant.name,
            explored.states,
            explored.seconds,
            found.path.len(),
            found.wrong
        );
        if chosen.is_some() {
            println!("{found}");
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
#[test]
fn dbg() {
    explore::keep_panics();
    use actions::Action::*;
    let scope = &scopes::all()[0];
    let p = [Crash(1), SlowDisk(1), Ask(1), ConfigureOlder(1), Connect(1, [false, false]), Work(1), Write(0), Ask(0), Elect { leader: 0, wait: 1000, given_up: None }, Configure(0), Connect(1, [false, false]), Work(1), Work(1), Work(1)];
    explore::replay(scope, &p);
}
