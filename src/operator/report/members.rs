//! The replicas in the status.

use k8s_openapi::jiff::Timestamp;

use super::Findings;
use crate::api::{DivergentTail, HeldLog, Member, MemberRole, MemberState, SeedStatus};
use crate::operator::plan::{self, Leadership};
use crate::operator::supervisor::significance::{bytes, disk, percent, seconds};
use crate::operator::view::{PodView, View};
use crate::replication::admin::{ReplicaState, ReplicaStatus, Role, SeedProgress};
use crate::replication::types::ReplicaId;

/// One for each replica that there is or should be.
pub(super) fn members(findings: &Findings<'_>) -> Vec<Member> {
    let view = findings.view;
    let last = view.pods.keys().last().map_or(0, |ordinal| ordinal + 1);
    let ordinals = 0..view.store.replicas.max(last);
    ordinals.map(|ordinal| member(findings, ordinal)).collect()
}

fn member(findings: &Findings<'_>, ordinal: u32) -> Member {
    let view = findings.view;
    let name = view.pod_name(ordinal);
    let old = findings
        .old
        .members
        .iter()
        .find(|member| member.name == name);
    let mut member = Member {
        id: old.map(|old| old.id.clone()).unwrap_or_default(),
        last_seen_time: old.and_then(|old| old.last_seen_time),
        name,
        ..Member::default()
    };
    let Some(pod) = view.pods.get(&ordinal) else {
        "its Pod does not exist".clone_into(&mut member.message);
        return member;
    };
    member.node.clone_from(&pod.node);
    if let Some(heard) = &pod.heard {
        member.last_seen_time = Timestamp::from_second(heard.at).ok();
        let id = std::mem::take(&mut member.id);
        describe(&mut member, &heard.status);
        if pod.copy {
            // Whom it pretends to be, somebody else is.
            member.id = id;
        }
    }
    if let Some(status) = pod.live() {
        member.ready = pod.ready && status.ready && !pod.terminating;
        member.message = message(view, pod, status);
        let fenced = view.is_fenced(ordinal) || status.fenced;
        if fenced && matches!(member.state, MemberState::Streaming | MemberState::Pending) {
            member.state = MemberState::Fenced;
        }
    } else {
        member.state = absent(pod, !member.id.is_empty());
        member.message = silence(pod, member.state);
        member.seed = None;
    }
    let id: Option<ReplicaId> = member.id.parse().ok();
    let held = id.and_then(|id| view.held.get(&id));
    member.held = held.map(|held| HeldLog {
        epoch: held.epoch.0 as i64,
        lsn: held.lsn.0 as i64,
        newest: held.newest.0 as i64,
    });
    let register = view.register.as_ref();
    member.voter = id.is_some_and(|id| register.is_some_and(|it| it.voters.contains(&id)));
    (member.lag_bytes, member.lag_seconds) = lag(view, pod, id, old);
    member
}

/// What it says of itself.
fn describe(member: &mut Member, status: &ReplicaStatus) {
    member.id = status.id.to_string();
    member.role = match status.role {
        Role::Leader => MemberRole::Leader,
        Role::Follower => MemberRole::Follower,
    };
    member.state = match status.state {
        ReplicaState::Pending => MemberState::Pending,
        ReplicaState::Seeding => MemberState::Seeding,
        ReplicaState::CatchingUp => MemberState::CatchingUp,
        ReplicaState::Streaming => MemberState::Streaming,
    };
    member.epoch = status.epoch.0 as i64;
    member.durable_lsn = status.last.lsn.0 as i64;
    member.applied_lsn = status.applied_lsn.0 as i64;
    member.version.clone_from(&status.version);
    member.disk_used_percent = disk(status.disk_used_percent);
    member.seed = status.seed.as_ref().map(seed);
    member.divergent = status.divergent.as_ref().map(|tail| DivergentTail {
        bytes: tail.bytes as i64,
        file: tail.file.clone(),
    });
}

fn seed(seed: &SeedProgress) -> SeedStatus {
    SeedStatus {
        from: seed.from.clone(),
        percent: percent(seed),
        bytes: seed.bytes as i64,
        started_at: Timestamp::from_second(seed.started_at as i64).ok(),
    }
}

/// The state of one that is not heard: not there yet, or not any more.
fn absent(pod: &PodView, known: bool) -> MemberState {
    if pod.failed {
        return MemberState::Failed;
    }
    let was_there = pod.heard.is_some() || (known && pod.ip.is_some() && pod.problem.is_empty());
    if was_there {
        MemberState::Unreachable
    } else {
        MemberState::Pending
    }
}

fn silence(pod: &PodView, state: MemberState) -> String {
    if !pod.problem.is_empty() {
        pod.problem.clone()
    } else if pod.copy {
        "its volume is a copy of another one of this store: it gets an id of its own".to_owned()
    } else if state == MemberState::Unreachable {
        "the operator does not hear it".to_owned()
    } else {
        "it is starting".to_owned()
    }
}

fn message(view: &View, pod: &PodView, status: &ReplicaStatus) -> String {
    if pod.terminating {
        return "its Pod is being deleted".to_owned();
    }
    let refusal = view
        .told
        .get(&pod.ordinal)
        .map_or("", |told| told.refusal.as_str());
    if refusal.is_empty() {
        status.message.clone()
    } else {
        format!("it does not take its configuration: {refusal}")
    }
}

/// Lag as the leader sees it, as only the leader knows its own end. Without one, what was known.
fn lag(view: &View, pod: &PodView, id: Option<ReplicaId>, old: Option<&Member>) -> (i64, i64) {
    let Leadership::Leads(_, leader) = plan::leadership(view) else {
        return old.map_or((0, 0), |old| (old.lag_bytes, old.lag_seconds));
    };
    if Some(leader.id) == id {
        return (0, 0);
    }
    let follower = leader
        .followers
        .iter()
        .find(|follower| Some(follower.id) == id);
    match (follower, &pod.heard) {
        (Some(it), _) => (bytes(it.lag_bytes), seconds(it.lag_seconds)),
        (None, Some(heard)) => (bytes(leader.last.lsn.since(heard.status.applied_lsn)), 0),
        (None, None) => (0, 0),
    }
}
