//! The events that tell of a change of the status: on transitions only.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};

use crate::api::{
    Condition, ConditionStatus, ConditionType, LastFailover, Member, MemberState,
    ReplicatedStoreStatus,
};

/// What happened between two reports.
pub fn events(
    namespace: &str,
    old: &ReplicatedStoreStatus,
    new: &ReplicatedStoreStatus,
) -> Vec<Event> {
    let mut events = Vec::new();
    leader(namespace, old, new, &mut events);
    for member in &new.members {
        let before = old.members.iter().find(|before| before.name == member.name);
        let before = before.cloned().unwrap_or_default();
        replica(namespace, &before, member, &mut events);
    }
    for id in new
        .lost_replicas
        .iter()
        .filter(|id| !old.lost_replicas.contains(id))
    {
        let known = old.members.iter().find(|it| it.id == **id);
        let name = known.map_or_else(String::new, |it| format!(" of {}", it.name));
        let note = format!(
            "the volume{name} (replica {id}) is gone; it is missed among the voters until a leader has removed it"
        );
        events.push(event(
            EventType::Warning,
            "VolumeLost",
            "Supervise",
            &note,
            None,
        ));
    }
    events.extend(loss_known(old, new));
    shortfall(old, new, &mut events);
    refused(
        ConditionType::SpecValid,
        "SpecInvalid",
        old,
        new,
        &mut events,
    );
    refused(
        ConditionType::LeaderElected,
        "NoLeader",
        old,
        new,
        &mut events,
    );
    events.extend(unsettled(old, new));
    events
}

/// Something is wrong that does not pass by itself, and a leader leads, or nobody can say whether one does.
fn unsettled(old: &ReplicatedStoreStatus, new: &ReplicatedStoreStatus) -> Option<Event> {
    let bad = |status| {
        let degraded = find(status, ConditionType::Degraded)?;
        if degraded.reason == super::REGISTER_UNREADABLE {
            return Some(degraded);
        }
        let led = find(status, ConditionType::LeaderElected);
        led.filter(|it| it.status == ConditionStatus::True)?;
        let reasons = [
            "RegisterBehind",
            "DuplicateReplica",
            "ForeignVolume",
            "NoVoterLeft",
        ];
        reasons
            .contains(&degraded.reason.as_str())
            .then_some(degraded)
    };
    let now = bad(new)?;
    let same = bad(old).is_some_and(|before| before.reason == now.reason);
    (!same).then(|| {
        event(
            EventType::Warning,
            "Unsettled",
            &now.reason,
            &now.message,
            None,
        )
    })
}

fn leader(
    namespace: &str,
    old: &ReplicatedStoreStatus,
    new: &ReplicatedStoreStatus,
    events: &mut Vec<Event>,
) {
    let changed = (&old.leader, old.epoch) != (&new.leader, new.epoch);
    if !changed || !is_true(new, ConditionType::LeaderElected) {
        return;
    }
    let note = format!("{} leads epoch {}", new.leader, new.epoch);
    // The recorder counts equal events up instead of repeating them; each epoch is its own.
    let action = format!("PromoteEpoch{}", new.epoch);
    let pod = pod(namespace, &new.leader);
    events.push(event(
        EventType::Normal,
        "LeaderElected",
        &action,
        &note,
        Some(pod),
    ));
}

fn replica(namespace: &str, old: &Member, new: &Member, events: &mut Vec<Event>) {
    let mut tell = |type_, reason, note: String| {
        let pod = pod(namespace, &new.name);
        events.push(event(type_, reason, "Supervise", &note, Some(pod)));
    };
    let name = &new.name;
    if old.state != new.state {
        if new.state == MemberState::Seeding {
            let from = new
                .seed
                .as_ref()
                .map_or("the leader", |seed| seed.from.as_str());
            tell(
                EventType::Normal,
                "SeedStarted",
                format!("{name} copies the data of {from}"),
            );
        }
        if old.state == MemberState::Seeding
            && matches!(new.state, MemberState::CatchingUp | MemberState::Streaming)
        {
            tell(
                EventType::Normal,
                "SeedFinished",
                format!("{name} has the data"),
            );
        }
        if new.state == MemberState::Unreachable {
            tell(
                EventType::Warning,
                "ReplicaUnreachable",
                format!("{name} does not answer"),
            );
        }
        if new.state == MemberState::Failed {
            let note = format!("{name} cannot go on: {}", new.message);
            tell(EventType::Warning, "ReplicaFailed", note);
        }
    }
    if let Some(tail) = new
        .divergent
        .as_ref()
        .filter(|_| new.divergent != old.divergent)
    {
        let kept = match tail.file.as_str() {
            "" => "they could not be kept, as its disk has no room for them".to_owned(),
            file => format!("they are kept in {file} on its volume"),
        };
        let note = format!(
            "{name} had to give up {} bytes of records that no later leader had; {kept}",
            tail.bytes
        );
        tell(EventType::Warning, "DivergentTail", note);
    }
    if new.ready && !old.ready {
        tell(
            EventType::Normal,
            "ReplicaReady",
            format!("{name} serves clients"),
        );
    }
}

/// Tells when there begin to be too few copies, and when there are enough again.
fn shortfall(old: &ReplicatedStoreStatus, new: &ReplicatedStoreStatus, events: &mut Vec<Event>) {
    let of = |status| {
        find(status, ConditionType::DurabilityMet)
            .map(|it| (it.reason == "Shortfall", it.message.clone()))
            .unwrap_or_default()
    };
    let ((was, _), (is, message)) = (of(old), of(new));
    let (type_, reason) = match (was, is) {
        (false, true) => (EventType::Warning, "ShortfallBegan"),
        (true, false) => (EventType::Normal, "ShortfallEnded"),
        _ => return,
    };
    events.push(event(type_, reason, "Supervise", &message, None));
}

/// Tells what a failover has lost, when the old leader has come back with what it had.
fn loss_known(old: &ReplicatedStoreStatus, new: &ReplicatedStoreStatus) -> Option<Event> {
    let (before, now) = (old.last_failover.as_ref()?, new.last_failover.as_ref()?);
    let lost = now.lost_bytes?;
    if before.epoch != now.epoch || before.lost_bytes.is_some() {
        return None;
    }
    let type_ = if lost > 0 {
        EventType::Warning
    } else {
        EventType::Normal
    };
    let note = format!(
        "{} is back: the failover of epoch {} has lost {lost} bytes of what it had",
        now.from, now.epoch
    );
    let action = format!("PromoteEpoch{}", now.epoch);
    Some(event(type_, "FailoverLossKnown", &action, &note, None))
}

/// Tells of a change of leader, once the new one answers.
pub fn leader_changed(namespace: &str, change: &LastFailover, planned: bool) -> Event {
    let LastFailover {
        from,
        to,
        epoch,
        reason,
        ..
    } = change;
    let outage = match change.outage_milliseconds {
        Some(outage) => format!("{outage} ms"),
        None => "an unknown time".to_owned(),
    };
    let lost = match (change.lost_bytes, change.lost_bytes_at_least) {
        (Some(lost), _) => format!("{lost} bytes lost"),
        (None, Some(0)) => format!("how many bytes are lost is known when {from} is back"),
        (None, Some(least)) => {
            format!("at least {least} bytes lost, how many is known when {from} is back")
        }
        (None, None) => "nobody knows what was lost".to_owned(),
    };
    let action = format!("PromoteEpoch{epoch}");
    let about = Some(pod(namespace, to));
    if planned {
        let note = if from == to {
            format!(
                "{to} leads on after {outage} (epoch {epoch}): whom it made room for did not promise in time"
            )
        } else {
            format!("{from} has handed the lead over to {to} in {outage} (epoch {epoch})")
        };
        return event(
            EventType::Normal,
            "SwitchoverFinished",
            &action,
            &note,
            about,
        );
    }
    let candidates = change.candidates.iter();
    let candidates: Vec<String> = candidates
        .map(|it| {
            format!(
                "{} {:?} at {} of epoch {}",
                it.name, it.verdict, it.lsn, it.epoch
            )
        })
        .collect();
    let note = format!(
        "{to} leads epoch {epoch} after {from} ({reason}): {outage} without a leader, \
         {lost}; {}",
        candidates.join(", ")
    );
    let type_ = match change.lost_bytes {
        Some(0) => EventType::Normal,
        _ => EventType::Warning,
    };
    event(type_, "FailoverFinished", &action, &note, about)
}

/// Tells of a condition that has become false, or is so for another reason.
fn refused(
    type_: ConditionType,
    reason: &str,
    old: &ReplicatedStoreStatus,
    new: &ReplicatedStoreStatus,
    events: &mut Vec<Event>,
) {
    let Some(now) = find(new, type_).filter(|it| it.status == ConditionStatus::False) else {
        return;
    };
    let before = find(old, type_);
    let same = before.is_some_and(|it| it.status == now.status && it.reason == now.reason);
    // A store that starts has no leader yet, and nobody is surprised.
    if same || matches!(now.reason.as_str(), "Starting" | "LeaderStarting") {
        return;
    }
    events.push(event(
        EventType::Warning,
        reason,
        &now.reason,
        &now.message,
        None,
    ));
}

fn find(status: &ReplicatedStoreStatus, type_: ConditionType) -> Option<&Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

fn is_true(status: &ReplicatedStoreStatus, type_: ConditionType) -> bool {
    find(status, type_).is_some_and(|it| it.status == ConditionStatus::True)
}

/// A Pod that an event is about.
pub fn pod(namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

/// An event; its note is cut to what the API takes.
pub fn event(
    type_: EventType,
    reason: &str,
    action: &str,
    note: &str,
    about: Option<ObjectReference>,
) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.chars().take(1000).collect()),
        action: action.to_owned(),
        secondary: about,
    }
}
