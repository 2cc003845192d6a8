//! What follows from a register: who is told, how Pods are labelled, how many there are.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::api::labels;
use crate::replication::admin::{Assignment, Member, ReplicaStatus, Role};
use crate::replication::types::Configuration;

use super::{Waiting, scale, update};
use crate::operator::build;
use crate::operator::view::{PodView, View};

/// A replica that was told and does not show it is told again after this.
const REPEAT: Duration = Duration::from_secs(1);

/// What to do besides the register.
#[derive(Clone, Debug, PartialEq)]
pub struct Follow {
    /// Replicas of the StatefulSet.
    pub replicas: u32,
    /// Why there are more than are wanted.
    pub scale_waits: Option<Waiting>,
    /// What replicas are to know; `None` while there is no register.
    pub assignment: Option<Arc<Assignment>>,
    /// Ordinals that must be told so.
    pub tell: Vec<u32>,
    /// Ordinals whose replicas must be told which claim they belong to.
    pub bind: Vec<u32>,
    /// Role labels to be taken away or set to follower: before [`Self::elevate`].
    pub demote: Vec<Label>,
    /// The role label of a new leader.
    pub elevate: Option<Label>,
    /// Ordinal of the Pod that is to be replaced.
    pub replace: Option<u32>,
    /// Whether every Pod answers at the leader's port.
    pub leader_port: bool,
}

/// A change of a role label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Of which Pod.
    pub ordinal: u32,
    /// To what; `None` takes it away.
    pub to: Option<&'static str>,
}

/// What follows from the register.
pub fn follow(view: &View) -> Follow {
    let (replicas, scale_waits) = scale::replicas(view);
    let assignment = view
        .register
        .as_ref()
        .map(|register| Arc::new(assignment(view, register)));
    let tell = assignment
        .as_ref()
        .map(|it| tell(view, it))
        .unwrap_or_default();
    let (demote, elevate) = relabel(view);
    // Removed Pods need no newest template.
    let settled = replicas == view.existing();
    Follow {
        replicas,
        scale_waits,
        assignment,
        tell,
        bind: bind(view),
        demote,
        elevate,
        replace: update::next(view)
            .filter(|pod| settled && !update::hands_over(view, pod))
            .map(|pod| pod.ordinal),
        leader_port: leader_port(view),
    }
}

/// Whether every Pod answers at the leader's port. A Service that leads there would not lead to the
/// others, and a store made by an older release has some until all of them are replaced.
fn leader_port(view: &View) -> bool {
    let made = view.workload.as_ref().is_none_or(|it| it.leader_port);
    made && view.pods.values().all(PodView::has_leader_port)
}

/// Whoever does not know its claim: it is new, or of an earlier release, its volume was moved, or is a copy.
fn bind(view: &View) -> Vec<u32> {
    let unbound = view.pods.values().filter(|pod| {
        let told = pod.speaks().map(|status| &status.claim);
        // A new id is for good: whose the claims are must have been looked up.
        let known = !pod.copy || !view.claims.is_empty();
        known && pod.claim.is_some() && told.is_some_and(|told| *told != pod.claim)
    });
    unbound.map(|pod| pod.ordinal).collect()
}

/// The register with all that is needed to act on it. A member whose Pod is away for a moment
/// stays in the list, so that the others need not be told twice.
fn assignment(view: &View, register: &Configuration) -> Assignment {
    let last = view.pods.keys().last().map_or(0, |ordinal| ordinal + 1);
    let ordinals = 0..view.existing().max(last);
    let members = ordinals.filter_map(|ordinal| {
        let pod = view.pods.get(&ordinal);
        let id = pod.and_then(PodView::id).or_else(|| {
            let known = view.known.get(&ordinal).copied();
            // It may have moved, or be known here by a copy that took another id.
            known.filter(|id| view.find(*id).is_none())
        })?;
        let name = view.pod_name(ordinal);
        let host = build::host(&view.store, &name);
        // By address, as a name may be cached for seconds after a Pod has moved, and whoever
        // learns the register here learns the newest address with it.
        let peer_address = pod.and_then(|pod| pod.ip).map_or_else(
            || format!("{host}:{}", build::PEER_PORT),
            |ip| SocketAddr::new(ip, build::PEER_PORT).to_string(),
        );
        Some(Member {
            id,
            name,
            peer_address,
            client_address: format!("{host}:{}", build::CLIENT_PORT),
            fenced: view.is_fenced(ordinal),
        })
    });
    let mut assignment = Assignment {
        configuration: register.clone(),
        members: members.collect(),
        settings: view.store.settings.clone(),
        stamp: 0,
    };
    assignment.stamp = stamp(&assignment);
    assignment
}

fn stamp(assignment: &Assignment) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(assignment)
        .unwrap_or_default()
        .hash(&mut hasher);
    hasher.finish()
}

/// Whether something else is in force than this: it came late, from us or from another operator.
fn overruled(status: &ReplicaStatus, assignment: &Assignment) -> bool {
    status.stamp.is_some_and(|stamp| stamp != assignment.stamp)
}

fn tell(view: &View, assignment: &Arc<Assignment>) -> Vec<u32> {
    let epoch = assignment.configuration.epoch;
    let untold = view.live().filter(|(pod, status)| {
        if status.promised > epoch {
            // It would refuse; the promotion that it has promised comes first.
            return false;
        }
        let Some(told) = view.told.get(&pod.ordinal) else {
            return true;
        };
        if told.incarnation != status.incarnation || told.assignment != *assignment {
            return true;
        }
        let behind = status.configuration_version < assignment.configuration.version;
        let missing = behind || !told.refusal.is_empty() || overruled(status, assignment);
        missing && told.age >= REPEAT
    });
    untold.map(|(pod, _)| pod.ordinal).collect()
}

/// Whether somebody has not taken what it must know, so that it must be looked at again soon.
pub fn unfinished(view: &View) -> bool {
    let Some(register) = &view.register else {
        return false;
    };
    view.live().any(|(pod, status)| {
        let refused = view
            .told
            .get(&pod.ordinal)
            .is_some_and(|told| !told.refusal.is_empty() || overruled(status, &told.assignment));
        refused || status.configuration_version < register.version
    })
}

/// The changes of role labels. Who the register names is the leader, from the moment on at which it
/// does: clients that come to it earlier than it begins wait there. A Pod that is not heard keeps its
/// label, as nobody knows better, unless another one leads.
fn relabel(view: &View) -> (Vec<Label>, Option<Label>) {
    let wanted = |pod: &PodView, status: &ReplicaStatus| {
        if view.is_fenced(pod.ordinal) {
            return None;
        }
        let register = view.register.as_ref();
        let leads = register.is_some_and(|register| register.leader == Some(status.id));
        match (leads, status.role) {
            (true, _) => Some(labels::LEADER),
            (false, Role::Follower) => Some(labels::FOLLOWER),
            (false, Role::Leader) => None,
        }
    };
    let leader = view
        .live()
        .find(|(pod, status)| wanted(pod, status) == Some(labels::LEADER));
    let leader = leader.map(|(pod, _)| pod.ordinal);
    let mut demote = Vec::new();
    let mut elevate = None;
    for pod in view.pods.values() {
        let now = pod.role.as_deref();
        let to = match pod.live() {
            Some(status) => wanted(pod, status),
            None if view.is_fenced(pod.ordinal) => None,
            None if leader.is_some() && now == Some(labels::LEADER) => None,
            None => continue,
        };
        if now == to {
            continue;
        }
        let label = Label {
            ordinal: pod.ordinal,
            to,
        };
        if to == Some(labels::LEADER) {
            elevate = Some(label);
        } else {
            demote.push(label);
        }
    }
    (demote, elevate)
}
