//! When the lead is taken from a leader that the register names and that does not do its part.
//!
//! It is taken only on good evidence: its process is known to have ended; or as many voters as a
//! promotion needs have not heard of it for a lease's time and neither has the operator, or it says
//! itself that it has no leases. None of this is needed for safety, which rests on promises and
//! leases alone: it keeps the lead where it is while it is in good hands.

use std::collections::BTreeSet;
use std::time::Duration;

use super::doubt::{self, Doubt};
use super::promotion::{self, Campaign, Cause};
use super::{Decision, Leadership, Reason, leadership, recovery, wait};
use crate::api::FailoverMode;
use crate::operator::view::View;
use crate::replication::admin::ReplicaStatus;
use crate::replication::types::{Configuration, ReplicaId};

/// Decides about a leader that is silent, or does not answer clients; `None` to let it go on.
pub fn decide(view: &View, register: &Configuration) -> Option<Decision> {
    let witnesses = witnesses(view, register);
    let enough = promotion::enough(register, &witnesses);
    let cause = match leadership(view) {
        Leadership::Unreachable if died(view, register) => Cause::LeaderDied,
        Leadership::Unreachable if enough || given_up(view, register, &witnesses) => {
            Cause::LeaderSilent
        }
        Leadership::Unreachable => return Some(silent(view, register, &witnesses)),
        Leadership::Leads(pod, status) => {
            // With two, the other one is removed, and the leader goes on.
            let cut_off = !status.answers && register.voters.len() > 2;
            if enough && pod.stale() {
                Cause::LeaderSilent
            } else if enough && cut_off {
                Cause::LeaderCutOff
            } else if stuck(view, register, Doubt::Mute(register.epoch))
                || short_of_voters(view, register, status)
            {
                return retry(view, register, false);
            } else {
                return None;
            }
        }
        Leadership::Adopting(_) if stuck(view, register, Doubt::Adopting(register.epoch)) => {
            return retry(view, register, true);
        }
        _ => return None,
    };
    Some(take(view, register, cause))
}

/// Takes the lead, when and if the user wants it so.
pub fn take(view: &View, register: &Configuration, cause: Cause) -> Decision {
    if let Some(waiting) = manual(view, register) {
        return waiting;
    }
    let silent_for = view.doubted(Doubt::Leaderless).unwrap_or_default();
    let delay = view.store.failover_delay;
    if cause == Cause::LeaderSilent && silent_for < delay {
        return wait(
            Reason::FailoverDelayed,
            format!(
                "{} does not answer; another replica is promoted if it stays so for \
                 failover.delay, {} ms",
                leader_name(view, register),
                delay.as_millis()
            ),
        );
    }
    promotion::decide(view, register, cause)
}

/// Whether it is known to be gone: detection only, that its leases are void is another question.
fn died(view: &View, register: &Configuration) -> bool {
    let ordinal = register.leader.and_then(|id| view.ordinal_of(id));
    let pod = ordinal.and_then(|ordinal| view.pods.get(&ordinal));
    view.leader_ended(register) || pod.is_some_and(|pod| pod.terminated)
}

/// Whether the leader is silent for good and given up by the user, and those who are left are enough without it and
/// whoever else is given up, and bear witness against it, every one.
fn given_up(view: &View, register: &Configuration, witnesses: &BTreeSet<ReplicaId>) -> bool {
    let campaign = Campaign::new(view, register, Cause::LeaderSilent);
    let gone = |id: &ReplicaId| campaign.lost.contains(id) && view.is_given_up(*id);
    let mut heard = register
        .voters
        .iter()
        .filter(|id| view.find(**id).is_some());
    register.leader.is_some_and(|id| gone(&id))
        && heard.all(|id| witnesses.contains(id))
        && campaign.meets(witnesses)
}

/// Voters that have not heard of the leader for a lease's time.
fn witnesses(view: &View, register: &Configuration) -> BTreeSet<ReplicaId> {
    let live = view
        .live()
        .filter(|(_, status)| Some(status.id) != register.leader);
    live.filter(|(pod, status)| doubt::bears_witness(view, register, pod, status))
        .map(|(_, status)| status.id)
        .collect()
}

/// Whether it has looked so for long, and nothing was tried for as long.
fn stuck(view: &View, register: &Configuration, doubt: Doubt) -> bool {
    let patience = doubt::patience(view, register);
    let rested = view.since_campaign.is_none_or(|since| since >= patience);
    rested && view.doubted(doubt).is_some_and(|age| age >= patience)
}

/// Whether so many voters have gone before the leader could establish their set that it never can:
/// it commits nothing any more, and none of them may be removed while earlier sets still count.
/// Only a promotion gives them up.
fn short_of_voters(view: &View, register: &Configuration, leader: &ReplicaStatus) -> bool {
    let gone = |id: &ReplicaId| {
        let unheard = view.doubted(Doubt::Unheard(*id));
        view.lost.contains(id) || unheard.is_some_and(|age| age >= doubt::removal(&view.store))
    };
    let voters = register.voters.iter();
    let left = voters.filter(|id| **id == leader.id || !gone(id)).count();
    leader.established_version < register.version && left < promotion::copies(&register.current())
}

/// Another promotion: of somebody else, or of a leader that cannot establish itself among the
/// voters that it was given and may among those that answer now.
fn retry(view: &View, register: &Configuration, avoid: bool) -> Option<Decision> {
    let leader = register.leader.and_then(|id| view.find(id));
    let established = leader.is_some_and(|(_, it)| it.established_version == register.version);
    if !avoid && (register.previous.is_empty() || established) {
        // A voter in the way is removed instead.
        return None;
    }
    if let Some(waiting) = manual(view, register) {
        return Some(waiting);
    }
    let mut campaign = Campaign::new(view, register, Cause::LeaderStuck);
    if avoid {
        campaign.avoid.extend(register.leader);
    }
    Some(match campaign.hopeless_now(view) {
        Some(waiting) => Decision::Wait(waiting),
        None => Decision::Campaign(Box::new(campaign)),
    })
}

/// With manual failover, what is waited for until the user has named another leader.
fn manual(view: &View, register: &Configuration) -> Option<Decision> {
    if view.store.failover == FailoverMode::Automatic {
        return None;
    }
    let named = view
        .store
        .target
        .and_then(|ordinal| view.pods.get(&ordinal)?.id())
        .is_some_and(|id| Some(id) != register.leader && register.voters.contains(&id));
    if named || yielded(view, register) {
        return None;
    }
    let others: Vec<String> = view
        .live()
        .filter(|(_, status)| {
            register.voters.contains(&status.id) && Some(status.id) != register.leader
        })
        .map(|(pod, _)| pod.name.clone())
        .collect();
    let others = if others.is_empty() {
        "of which none answers now".to_owned()
    } else {
        format!("for example {}", others.join(" or "))
    };
    Some(wait(
        Reason::FailoverManual,
        format!(
            "{} does not lead, and failover.mode is Manual: set leader.target to another replica that votes, {others}",
            leader_name(view, register)
        ),
    ))
}

/// Whether the user has given up what the leader has, and it does not come back: that names no other, and asks for one.
fn yielded(view: &View, register: &Configuration) -> bool {
    let given_up = |id| {
        let silent = view.ordinal_of(id);
        let silent = silent.is_some_and(|it| recovery::is_silent_for_good(view, it));
        view.is_given_up(id) && (silent || view.lost.contains(&id))
    };
    register.leader.is_some_and(given_up)
}

/// What is waited for while a leader is not heard.
fn silent(view: &View, register: &Configuration, witnesses: &BTreeSet<ReplicaId>) -> Decision {
    let leader = leader_name(view, register);
    let hear: Vec<&str> = view
        .live()
        .filter(|(_, status)| status.leader_heard && status.leader == register.leader)
        .map(|(pod, _)| pod.name.as_str())
        .collect();
    if !hear.is_empty() {
        return wait(
            Reason::LeaderUnreachable,
            format!(
                "the operator does not hear {leader}, but {} does: it is let go on",
                hear.join(", ")
            ),
        );
    }
    // They may have to listen for a moment more.
    let live: BTreeSet<ReplicaId> = view.live().map(|(_, status)| status.id).collect();
    if promotion::enough(register, &live) && !promotion::enough(register, witnesses) {
        return wait(
            Reason::LeaderUnreachable,
            format!("{leader} does not answer; asking the others whether they hear it"),
        );
    }
    match promotion::decide(view, register, Cause::LeaderSilent) {
        Decision::Wait(waiting) => Decision::Wait(waiting),
        _ => wait(
            Reason::LeaderUnreachable,
            format!("{leader} does not answer"),
        ),
    }
}

fn leader_name(view: &View, register: &Configuration) -> String {
    register
        .leader
        .map_or_else(|| "the leader".to_owned(), |id| view.name_of(id))
}

/// How long nobody has been known to answer clients.
pub fn outage(view: &View) -> Option<Duration> {
    view.doubted(Doubt::Leaderless)
}
