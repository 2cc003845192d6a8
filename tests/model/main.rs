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
mod start;
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

use scope::Scope;

/// Explored besides those of the mistakes.
const SCOPES: &[&str] = &[];

/// The scopes to explore: those of `MODEL_SCOPES` if that is set, one a line.
fn scopes() -> Vec<Scope> {
    let set = std::env::var("MODEL_SCOPES").ok();
    let texts: Vec<&str> = match &set {
        Some(set) => set.lines().filter(|line| !line.trim().is_empty()).collect(),
        None => MUTANTS.iter().map(|it| it.scope).chain(SCOPES.iter().copied()).collect(),
    };
    let mut scopes: Vec<Scope> = Vec::new();
    for text in texts {
        let scope: Scope = text.parse().expect("a scope");
        if scopes.iter().all(|it| it.name != scope.name) {
            scopes.push(scope);
        }
    }
    scopes
}

/// States after which an exploration is given up.
fn most() -> usize {
    let set = std::env::var("MODEL_STATES").ok();
    set.and_then(|it| it.parse().ok()).unwrap_or(3_000_000)
}

/// Goal: whatever happens within a scope, the protocol keeps what it promises.
/// Method: every state of every scope.
#[test]
fn the_protocol_holds() {
    explore::keep_panics();
    switch::choose(None);
    for scope in scopes() {
        let explored = explore::exhaust(&scope, most());
        println!("{}: {explored}", scope.name);
        if let Some(found) = explored.found {
            panic!("{}", explore::shorten(&scope, found));
        }
    }
}

/// Goal: the model would notice.
/// Method: every mistake of the table is put into the core, or the operator, and found.
#[test]
fn every_mistake_is_found() {
    explore::keep_panics();
    let mut missed = Vec::new();
    let chosen = std::env::var("MODEL_MUTANT").unwrap_or_default();
    let mutants = MUTANTS.iter().enumerate();
    for (number, mutant) in mutants.filter(|(_, it)| it.name.contains(&chosen)) {
        switch::choose(Some(number));
        println!("{}", mutant.name);
        let own = mutant.scope.parse().expect("a scope");
        let scopes = if std::env::var_os("MODEL_SCOPES").is_some() {
            scopes()
        } else {
            vec![own]
        };
        if !scopes.iter().any(|scope| finds(scope, !chosen.is_empty())) {
            missed.push(mutant.name);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

fn finds(scope: &Scope, tell: bool) -> bool {
    let explored = explore::exhaust(scope, most());
    println!("    {}: {explored}", scope.name);
    let Some(found) = explored.found else {
        return false;
    };
    let found = explore::shorten(scope, found);
    println!("    {} steps: {}", found.path.len(), found.wrong);
    if tell {
        println!("{found}");
    }
    true
}
