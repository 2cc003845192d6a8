//! The conditions. Messages hold no number that changes with the load, or every write would be
//! followed by another one.

use k8s_openapi::jiff::Timestamp;

use super::{Findings, REGISTER_UNREADABLE, Unusable, phase};
use crate::api::{
    Condition, ConditionStatus, ConditionType, Member, MemberState, ReplicatedStoreStatus,
};
use crate::operator::plan::{self, Leadership, Reason, update};
use crate::replication::admin::Shortfall;

/// What a condition says, before it is known since when.
struct Saying {
    type_: ConditionType,
    status: ConditionStatus,
    reason: &'static str,
    message: String,
}

fn say(
    type_: ConditionType,
    is_so: bool,
    reason: &'static str,
    message: impl Into<String>,
) -> Saying {
    Saying {
        type_,
        status: is_so.into(),
        reason,
        message: message.into(),
    }
}

/// All conditions of a store with this status.
pub(super) fn conditions(
    findings: &Findings<'_>,
    status: &ReplicatedStoreStatus,
) -> Vec<Condition> {
    let elected = leader_elected(findings);
    let sayings = vec![
        ready(findings, status, &elected),
        synced(status, &elected),
        durability(findings),
        progressing(findings, status),
        degraded(findings, status, &elected),
        accepted(findings),
        elected,
    ];
    stamp(
        sayings,
        findings.old,
        findings.view.store.generation,
        findings.now,
    )
}

/// The conditions of a store that cannot be acted on: what was said, with that said anew.
pub(super) fn refused(
    old: &ReplicatedStoreStatus,
    generation: i64,
    what: Unusable,
    why: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let saying = match what {
        Unusable::Specification => say(ConditionType::SpecValid, false, "Invalid", why),
        Unusable::Register => say(ConditionType::Degraded, true, REGISTER_UNREADABLE, why),
    };
    let others = old.conditions.iter().filter(|it| it.type_ != saying.type_);
    let mut all: Vec<Condition> = others.cloned().collect();
    all.extend(stamp(vec![saying], old, generation, now));
    all.sort_by_key(|condition| condition.type_);
    all
}

/// Adds since when: a condition keeps its time while its status is the same.
fn stamp(
    sayings: Vec<Saying>,
    old: &ReplicatedStoreStatus,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    // The API server keeps whole seconds; anything finer would look like a change.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut conditions: Vec<Condition> = sayings
        .into_iter()
        .map(|saying| {
            let before = old.conditions.iter().find(|it| it.type_ == saying.type_);
            let same = before.filter(|before| before.status == saying.status);
            Condition {
                type_: saying.type_,
                status: saying.status,
                reason: saying.reason.to_owned(),
                message: saying.message,
                observed_generation: generation,
                last_transition_time: same.map_or(now, |before| before.last_transition_time),
            }
        })
        .collect();
    conditions.sort_by_key(|condition| condition.type_);
    conditions
}

/// What is permitted for one case may decide a later one.
fn accepted(findings: &Findings<'_>) -> Saying {
    let view = findings.view;
    let listed = view.store.accept_loss.iter();
    let names: Vec<String> = listed.map(|it| view.pod_name(*it)).collect();
    let message = if names.is_empty() {
        String::new()
    } else {
        format!(
            "bootstrap.acceptLoss permits to lose what only {} has: empty it when that is done",
            names.join(", ")
        )
    };
    say(ConditionType::SpecValid, true, "Accepted", message)
}

fn leader_elected(findings: &Findings<'_>) -> Saying {
    let view = findings.view;
    let (reason, message) = match plan::leadership(view) {
        Leadership::Leads(pod, status) => {
            let message = format!("{} leads epoch {}", pod.name, status.epoch);
            return say(ConditionType::LeaderElected, true, "LeaderLeads", message);
        }
        Leadership::None => ("Starting", "there has been no leader yet".to_owned()),
        Leadership::Adopting(pod) => ("LeaderStarting", format!("{} is about to lead", pod.name)),
        Leadership::Ended(pod) => (
            "LeaderEnded",
            format!("{} has restarted; a leader is being promoted", pod.name),
        ),
        Leadership::Lost => (
            "LeaderLost",
            "the leader's volume is gone; a follower is being promoted".to_owned(),
        ),
        Leadership::Unreachable => ("LeaderUnreachable", "the leader does not answer".to_owned()),
    };
    // What is waited for says more.
    let waiting = findings
        .waiting
        .map(|waiting| (waiting.reason.name(), waiting.message.clone()));
    let (reason, message) = waiting.unwrap_or((reason, message));
    say(ConditionType::LeaderElected, false, reason, message)
}

fn ready(findings: &Findings<'_>, status: &ReplicatedStoreStatus, elected: &Saying) -> Saying {
    let wanted = phase::serving(status, findings.view.store.replicas);
    if elected.status == ConditionStatus::False {
        return say(
            ConditionType::Ready,
            false,
            elected.reason,
            elected.message.clone(),
        );
    }
    if status.ready_replicas < wanted {
        let message = format!("{} replicas are ready: {}", status.ready, absent(status));
        return say(ConditionType::Ready, false, "ReplicasNotReady", message);
    }
    let message = format!(
        "{} replicas are ready, {} leads",
        status.ready, status.leader
    );
    say(ConditionType::Ready, true, "ReplicasReady", message)
}

/// Who is not ready, and why.
fn absent(status: &ReplicatedStoreStatus) -> String {
    let absent = status.members.iter().filter(|member| !member.ready);
    let absent: Vec<String> = absent.map(state).collect();
    absent.join(", ")
}

fn state(member: &Member) -> String {
    let (name, message) = (&member.name, &member.message);
    let word = match member.state {
        MemberState::Pending => "is pending",
        MemberState::Seeding => "is being seeded",
        MemberState::CatchingUp => "is catching up",
        MemberState::Streaming if message.is_empty() => "is about to be ready",
        MemberState::Streaming => return format!("{name}: {message}"),
        MemberState::Unreachable => "does not answer",
        MemberState::Fenced => "is fenced",
        MemberState::Failed => "has failed",
    };
    if message.is_empty() {
        return format!("{name} {word}");
    }
    format!("{name} {word}: {message}")
}

fn synced(status: &ReplicatedStoreStatus, elected: &Saying) -> Saying {
    let type_ = ConditionType::ReplicasSynced;
    if elected.status == ConditionStatus::False {
        return say(
            type_,
            false,
            "NoLeader",
            "nobody leads, so nobody can be in step",
        );
    }
    let behind = status
        .members
        .iter()
        .filter(|it| !matches!(it.state, MemberState::Streaming | MemberState::Fenced));
    let behind: Vec<String> = behind.map(state).collect();
    if behind.is_empty() {
        return say(type_, true, "AllStreaming", "every follower is in step");
    }
    say(type_, false, "FollowersBehind", behind.join(", "))
}

/// Whether as many followers are in step as an acknowledged write is to be on.
fn durability(findings: &Findings<'_>) -> Saying {
    let type_ = ConditionType::DurabilityMet;
    let view = findings.view;
    let settings = &view.store.settings;
    let wanted = settings.sync_replicas as usize;
    if wanted == 0 {
        let message = "replication is asynchronous: a write is acknowledged once the leader has it";
        return say(type_, true, "Asynchronous", message);
    }
    let (Leadership::Leads(_, leader), Some(register)) = (plan::leadership(view), &view.register)
    else {
        return say(
            type_,
            false,
            "NoLeader",
            "nobody leads, so nobody can be in step",
        );
    };
    if register.sync < settings.sync_replicas {
        let message = format!("writes do not wait for {wanted} followers yet");
        return say(type_, false, "Changing", message);
    }
    let in_step = leader.followers.iter().filter(|it| {
        register.voters.contains(&it.id)
            && it.connected
            && it.heard
            && it.lag_bytes <= settings.max_lag
    });
    let in_step = in_step.count();
    let withheld = leader.withheld_bytes;
    if in_step >= wanted && withheld == 0 {
        let message = format!("a write is acknowledged once {wanted} followers have it too");
        return say(type_, true, "Met", message);
    }
    let then = match settings.on_shortfall {
        Shortfall::Block if withheld > 0 => {
            "writes wait or are refused until there are more, and so do reads of those that wait"
        }
        Shortfall::Block => "writes wait or are refused until there are more",
        Shortfall::Degrade => "writes are taken with fewer copies",
    };
    let message = format!("{in_step} of {wanted} followers are in step; {then}");
    say(type_, false, "Shortfall", message)
}

fn progressing(findings: &Findings<'_>, status: &ReplicatedStoreStatus) -> Saying {
    let type_ = ConditionType::Progressing;
    let view = findings.view;
    if view.store.paused {
        return say(
            type_,
            false,
            "Paused",
            "spec.paused is true: nothing is changed",
        );
    }
    if let Some(waiting) = &findings.follow.scale_waits {
        return say(type_, true, waiting.reason.name(), waiting.message.clone());
    }
    let outdated = update::outdated(view);
    if !outdated.is_empty() {
        let names: Vec<&str> = outdated.iter().map(|pod| pod.name.as_str()).collect();
        return say(
            type_,
            true,
            "Updating",
            format!("to be replaced: {}", names.join(", ")),
        );
    }
    if phase::changing(findings) || status.members.len() != view.store.replicas as usize {
        let message = format!(
            "going from {} to {} replicas",
            view.existing(),
            view.store.replicas
        );
        return say(type_, true, "Scaling", message);
    }
    let waits = findings
        .waiting
        .filter(|it| it.reason == Reason::SwitchoverWaits);
    if let Some(waiting) = waits {
        return say(type_, true, "SwitchingOver", waiting.message.clone());
    }
    if status.ready_replicas < phase::serving(status, view.store.replicas) {
        return say(type_, true, "Starting", absent(status));
    }
    say(type_, false, "Done", "")
}

fn degraded(findings: &Findings<'_>, status: &ReplicatedStoreStatus, elected: &Saying) -> Saying {
    let type_ = ConditionType::Degraded;
    if !findings.problem.is_empty() {
        return say(type_, true, "CannotApply", findings.problem);
    }
    if elected.status == ConditionStatus::False && elected.reason != "Starting" {
        return say(type_, true, elected.reason, elected.message.clone());
    }
    let stuck = findings.waiting.filter(|it| !it.reason.passes());
    if let Some(waiting) = stuck {
        let message = format!(
            "{}, and goes on; until this is settled it is not replaced if it fails, and no voter is added or \
             removed: {}",
            elected.message, waiting.message
        );
        return say(type_, true, waiting.reason.name(), message);
    }
    let broken = status
        .members
        .iter()
        .filter(|member| matches!(member.state, MemberState::Unreachable | MemberState::Failed));
    let broken: Vec<String> = broken.map(state).collect();
    if !broken.is_empty() {
        return say(type_, true, "ReplicasBroken", broken.join(", "));
    }
    say(type_, false, "AsExpected", "")
}
