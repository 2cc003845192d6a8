//! What must hold in every state.

use std::rc::Rc;

use crate::fate::STRAY;
use crate::reached::{Reached, mark};
use crate::replication::Epoch;
use crate::scope::Scope;
use crate::state::{Record, Replica, State};
use crate::world::{Violation, local};

pub(crate) fn state(state: &State, scope: &Scope) -> Result<(), Violation> {
    one_leader(state, scope)?;
    leads_above_its_log(state)?;
    shows_nothing_else(state, scope)?;
    nothing_astray(state)?;
    logs_match(state)
}

/// At most one replica answers clients, and it has everything that was ever committed.
fn one_leader(state: &State, scope: &Scope) -> Result<(), Violation> {
    let answers = |slot: &usize| {
        let core = &state.replicas[*slot].core;
        core.leading().is_some() && core.answers_until() > local(scope, state.time, *slot)
    };
    let mut answering = (0..state.replicas.len()).filter(answers);
    let Some(first) = answering.next() else {
        return Ok(());
    };
    if let Some(second) = answering.next() {
        return Err(format!("{first} and {second} answer at the same time"));
    }
    let replica = &state.replicas[first];
    if !replica.disk.complete {
        return Err(format!("{first} answers from half a state"));
    }
    reached(state, scope, first);
    if scope.lossy() {
        return Ok(());
    }
    if !replica.log.starts_with(&state.committed) {
        return Err(format!("{first} answers without all that was committed"));
    }
    let earlier = |record: &&Record| Some(record.epoch) < replica.core.leading();
    let known = replica.core.commit().0 as usize;
    if state.committed.iter().filter(earlier).count() > known {
        return Err(format!(
            "{first} answers and does not know what was committed before it"
        ));
    }
    Ok(())
}

fn reached(state: &State, scope: &Scope, answering: usize) {
    let core = &state.replicas[answering].core;
    if core.leading() >= Some(Epoch(3)) {
        mark(Reached::ThirdReign);
    }
    if core.configuration().voters.len() == 1 && scope.voters > 1 {
        mark(Reached::Alone);
    }
}

/// Nobody lets replies rest on what no leader has released, whoever led, or started, since.
fn shows_nothing_else(state: &State, scope: &Scope) -> Result<(), Violation> {
    if scope.block == 0 {
        return Ok(());
    }
    for (slot, replica) in state.replicas.iter().enumerate() {
        let shown = replica.core.released();
        if shown.0 as usize > state.released {
            return Err(format!("{slot} shows {shown}, which was not released"));
        }
        if shown < replica.core.commit() {
            mark(Reached::Withheld);
        }
    }
    Ok(())
}

/// No leader's epoch is below that of a record that it holds.
fn leads_above_its_log(state: &State) -> Result<(), Violation> {
    for (slot, replica) in state.replicas.iter().enumerate() {
        if let (Some(epoch), Some(last)) = (replica.core.leading(), replica.log.last())
            && epoch < last.epoch
        {
            return Err(format!(
                "{slot} leads {epoch} and holds a record of {}",
                last.epoch
            ));
        }
    }
    Ok(())
}

/// Nobody has promised what no operator has asked of it.
fn nothing_astray(state: &State) -> Result<(), Violation> {
    let foreign = |it: &Rc<Replica>| is_foreign(it) && it.core.view().streaming;
    if let Some(slot) = state.replicas.iter().position(foreign) {
        return Err(format!("{slot} follows with another store's log"));
    }
    let astray = |replica: &Rc<Replica>| replica.core.view().hard.promised >= STRAY;
    match state.replicas.iter().position(astray) {
        Some(slot) => Err(format!("{slot} promises what was asked of another")),
        None => Ok(()),
    }
}

/// Two logs that hold a record of the same epoch and LSN are equal up to it.
fn logs_match(state: &State) -> Result<(), Violation> {
    for (first, one) in state.replicas.iter().enumerate() {
        for (second, other) in state.replicas.iter().enumerate().skip(first + 1) {
            let foreign = [one, other].iter().any(|it| is_foreign(it));
            if !foreign && !matched(&one.log, &other.log) {
                return Err(format!("the logs of {first} and {second} part in an epoch"));
            }
        }
    }
    Ok(())
}

/// Whether this disk holds what another store wrote; then it is no part of this one.
fn is_foreign(replica: &Replica) -> bool {
    replica.log.iter().any(Record::is_foreign)
}

fn matched(one: &[Record], other: &[Record]) -> bool {
    let mut pairs = one.iter().zip(other);
    let last = pairs.rposition(|(a, b)| a.epoch == b.epoch);
    last.is_none_or(|last| one[..=last] == other[..=last])
}
