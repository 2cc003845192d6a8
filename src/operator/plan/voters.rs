//! Changes of the voters under a leader that leads.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::replication::admin::{ReplicaState, ReplicaStatus};
use crate::replication::types::{Configuration, ReplicaId};

use super::promotion;
use super::{Decision, Swap};
use crate::operator::view::{PodView, View};

/// Between two attempts to let a leader make room: each is a short pause for writers, and under
/// load it may well fail.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(20);

/// Decides while `leader`, in `pod`, leads.
pub fn decide(
    view: &View,
    register: &Configuration,
    pod: &PodView,
    leader: &ReplicaStatus,
) -> Decision {
    if !register.previous.is_empty() {
        return settle(register, leader);
    }
    let voters = wanted(view, register, leader);
    if voters != register.voters {
        return change(view, register, voters);
    }
    let rested = view
        .since_campaign
        .is_none_or(|since| since >= HAND_OVER_PAUSE);
    if pod.ordinal >= view.store.replicas && rested {
        let campaign = promotion::hand_over(view, register, view.store.replicas);
        return campaign.map_or(Decision::Keep, Decision::Campaign);
    }
    Decision::Keep
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
            format!("{removed} is gone for good, or to go, and does not vote any more")
        }
        _ => format!("{added} has caught up and votes; {removed} does not vote any more"),
    };
    Decision::Swap(Swap {
        to: Configuration {
            version: register.version + 1,
            voters,
            previous: promotion::previous(register),
            ..register.clone()
        },
        why,
    })
}

/// Who should vote: those who do and are not gone or to go, and those who have caught up. The
/// leader always does.
fn wanted(view: &View, register: &Configuration, leader: &ReplicaStatus) -> BTreeSet<ReplicaId> {
    let stays = |id: &ReplicaId| {
        let away = view
            .ordinal_of(*id)
            .is_some_and(|ordinal| ordinal >= view.store.replicas);
        !away && !view.lost.contains(id)
    };
    let mut voters: BTreeSet<ReplicaId> = register
        .voters
        .iter()
        .filter(|id| stays(id))
        .copied()
        .collect();
    let joining = view.live().filter(|(pod, status)| {
        pod.ordinal < view.store.replicas && !pod.terminating && caught_up(register, leader, status)
    });
    voters.extend(joining.map(|(_, status)| status.id));
    voters.insert(leader.id);
    voters
}

/// Whether a learner has announced that it is ready, and its leader agrees that it is there.
fn caught_up(register: &Configuration, leader: &ReplicaStatus, status: &ReplicaStatus) -> bool {
    let connected = leader
        .followers
        .iter()
        .any(|follower| follower.id == status.id && follower.connected);
    status.ready
        && status.state == ReplicaState::Streaming
        && status.leader == register.leader
        && status.epoch == register.epoch
        && connected
}
