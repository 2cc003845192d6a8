//! Changes of the voters, and of the durability rule, under a leader that leads.

use std::collections::BTreeSet;

use crate::replication::admin::{ReplicaState, ReplicaStatus};
use crate::replication::types::{Configuration, ReplicaId};

use super::doubt::{self, Doubt};
use super::{Decision, Swap, election, switchover};
use crate::operator::view::{PodView, View};

/// Decides while `leader`, in `pod`, leads.
pub fn decide(
    view: &View,
    register: &Configuration,
    pod: &PodView,
    leader: &ReplicaStatus,
) -> Decision {
    if let Some(decision) = switchover::urgent(view, register, pod, leader) {
        return decision;
    }
    if !register.previous.is_empty() {
        return settle(register, leader);
    }
    let voters = wanted(view, register, pod, leader);
    if voters != register.voters {
        return change(view, register, voters);
    }
    let sync = view.store.settings.sync_replicas;
    if sync != register.sync {
        return Decision::Swap(Swap {
            to: Configuration {
                version: register.version + 1,
                sync,
                previous: election::previous(register),
                ..register.clone()
            },
            why: format!("writes wait for {sync} followers, not {}", register.sync),
        });
    }
    if register.store.is_none() {
        // It was made by a release that drew none.
        return Decision::Swap(Swap {
            to: Configuration {
                version: register.version + 1,
                store: Some(view.drawn),
                previous: election::previous(register),
                ..register.clone()
            },
            why: format!("this store is {} from now on", view.drawn),
        });
    }
    switchover::decide(view, register, pod, leader).unwrap_or(Decision::Keep)
}

/// The sets that were replaced stop counting once the leader has committed a barrier under
/// exactly this version.
fn settle(register: &Configuration, leader: &ReplicaStatus) -> Decision {
    if leader.established_version != register.version {
        return Decision::Keep;
    }
    Decision::Swap(Swap {
        to: Configuration {
            version: register.version + 1,
            previous: Vec::new(),
            ..register.clone()
        },
        why: format!("version {} is established", register.version),
    })
}

fn change(view: &View, register: &Configuration, voters: BTreeSet<ReplicaId>) -> Decision {
    let names = |ids: &mut dyn Iterator<Item = &ReplicaId>| -> String {
        let names: Vec<String> = ids.map(|id| view.name_of(*id)).collect();
        names.join(", ")
    };
    let added = names(&mut voters.difference(&register.voters));
    let removed = names(&mut register.voters.difference(&voters));
    let why = match (added.is_empty(), removed.is_empty()) {
        (false, true) => format!("{added} has caught up and votes"),
        (true, false) => {
            format!("{removed} is gone, or to go, or does not keep up, and does not vote any more")
        }
        _ => format!("{added} has caught up and votes; {removed} does not vote any more"),
    };
    Decision::Swap(Swap {
        to: Configuration {
            version: register.version + 1,
            voters,
            previous: election::previous(register),
            ..register.clone()
        },
        why,
    })
}

/// Who should vote: those who do and are not gone or to go, and those who have caught up. The
/// leader always does.
fn wanted(
    view: &View,
    register: &Configuration,
    pod: &PodView,
    leader: &ReplicaStatus,
) -> BTreeSet<ReplicaId> {
    let unheard = |id: &ReplicaId| !pod.stale() && unheard(view, register, leader, *id);
    let stays = |id: &ReplicaId| {
        let away = view
            .ordinal_of(*id)
            .is_some_and(|ordinal| ordinal >= view.store.replicas);
        !away && !view.lost.contains(id) && !unheard(id)
    };
    let mut voters: BTreeSet<ReplicaId> = register
        .voters
        .iter()
        .filter(|id| stays(id))
        .copied()
        .collect();
    voters.insert(leader.id);
    drop_slow(view, register, leader, &mut voters);
    let joining = view.live().filter(|(pod, status)| {
        pod.ordinal < view.store.replicas
            && !pod.terminating
            && !status.leaving
            && caught_up(register, leader, status)
            && view.doubted(Doubt::Behind(status.id)).is_none()
    });
    voters.extend(joining.map(|(_, status)| status.id));
    voters
}

/// Whether the leader has not heard a voter for so long that it had better go on without it: at
/// once with two, where it has no other to get leases from; a little later where others may lead.
fn unheard(view: &View, register: &Configuration, leader: &ReplicaStatus, id: ReplicaId) -> bool {
    let Some(age) = view.doubted(Doubt::Unheard(id)) else {
        return false;
    };
    if age >= doubt::removal(&view.store) {
        return true;
    }
    let heard = leader.followers.iter().filter(|follower| {
        follower.connected && follower.heard && register.voters.contains(&follower.id)
    });
    let without_leases = !leader.answers && heard.count() < register.voters.len() / 2;
    let others_may_lead = register.voters.len() > 2;
    let mute = view.doubted(Doubt::Mute(register.epoch));
    without_leases && (!others_may_lead || mute.is_some_and(|age| age >= view.store.lease()))
}

/// Takes out voters that have been too far behind for long, as long as enough are left for the
/// durability that is asked for.
fn drop_slow(
    view: &View,
    register: &Configuration,
    leader: &ReplicaStatus,
    voters: &mut BTreeSet<ReplicaId>,
) {
    let slow: Vec<ReplicaId> = voters
        .iter()
        .filter(|id| **id != leader.id)
        .filter(|id| {
            let behind = view.doubted(Doubt::Behind(**id));
            behind.is_some_and(|age| age >= doubt::BEHIND)
        })
        .copied()
        .collect();
    for id in slow {
        if voters.len() > register.sync as usize + 1 {
            voters.remove(&id);
        }
    }
}

/// Whether a learner has announced that it is ready, and its leader agrees that it is there. One
/// that is fenced is never ready for clients, and votes all the same.
fn caught_up(register: &Configuration, leader: &ReplicaStatus, status: &ReplicaStatus) -> bool {
    let mut followers = leader.followers.iter();
    let heard = followers.any(|it| it.id == status.id && it.connected && it.heard);
    (status.ready || status.fenced)
        && status.state == ReplicaState::Streaming
        && status.leader == register.leader
        && status.epoch == register.epoch
        && heard
}
