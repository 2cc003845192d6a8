//! Which Pod is replaced next, when the template has changed: one at a time, the leader last, and
//! only once it has handed the lead over, if anybody can take it.
//!
//! The StatefulSet's strategy is `OnDelete`. Its own rolling update goes by ordinal whoever leads,
//! and never replaces a Pod of a broken revision (kubernetes#67250).

use crate::replication::admin::ReplicaState;
use crate::replication::types::Configuration;

use super::switchover;
use crate::operator::view::{self, PodView, View};

/// The Pods that are not of the newest template.
pub fn outdated(view: &View) -> Vec<&PodView> {
    let revision = view
        .workload
        .as_ref()
        .and_then(|workload| workload.revision.as_ref());
    let outdated = |pod: &&PodView| revision.is_some_and(|revision| pod.revision != *revision);
    view.pods.values().filter(outdated).collect()
}

/// The Pod that may be deleted now, so that its successor is made from the newest template.
pub fn next(view: &View) -> Option<&PodView> {
    let outdated = outdated(view);
    let all_there = (0..view.existing()).all(|ordinal| view.pods.contains_key(&ordinal));
    if !all_there || view.pods.values().any(|pod| pod.terminating) {
        return None;
    }
    // What neither Kubernetes nor we hear serves nobody: a template that was wrong is put right
    // by replacing it.
    let broken = outdated
        .iter()
        .rev()
        .find(|pod| !pod.ready && pod.live().is_none());
    if let Some(pod) = broken {
        return Some(pod);
    }
    let register = view.register.as_ref()?;
    if !view.pods.values().all(|pod| serves(view, register, pod)) {
        return None;
    }
    let follower = outdated
        .iter()
        .rev()
        .find(|pod| pod.id() != register.leader);
    follower.or(outdated.first()).copied()
}

/// Whether a Pod that is to be replaced leads, and can hand the lead over before that.
pub fn hands_over(view: &View, pod: &PodView) -> bool {
    let (Some(register), Some(status)) = (&view.register, pod.live()) else {
        return false;
    };
    view::leads(register, status) && switchover::possible(view, register, status)
}

/// Whether this Pod is as it is to be, and only cannot follow a leader of another release: it waits for that
/// to be replaced as well. Its disk has what it had.
fn waits_for_release(view: &View, register: &Configuration, pod: &PodView) -> bool {
    let revision = view.workload.as_ref().and_then(|it| it.revision.as_ref());
    let leader = register.leader.and_then(|id| view.find(id));
    let (Some(status), Some((_, leader))) = (pod.live(), leader) else {
        return false;
    };
    let whole = !status.empty && !status.damaged && status.state != ReplicaState::Seeding;
    revision == Some(&pod.revision)
        && status.protocol != leader.protocol
        && whole
        && status.id != leader.id
}

/// Whether this Pod does its part, so that another one may be spared for a moment.
fn serves(view: &View, register: &Configuration, pod: &PodView) -> bool {
    if waits_for_release(view, register, pod) {
        return true;
    }
    // One that is fenced serves nobody on purpose.
    let fenced = view.is_fenced(pod.ordinal);
    let part = pod.live().is_some_and(|status| {
        (status.ready || fenced)
            && status.state == ReplicaState::Streaming
            && (Some(status.id) != register.leader || view::leads(register, status))
    });
    (pod.ready || fenced) && part
}
