//! One word for the whole.

use super::Findings;
use crate::api::{Member, MemberState, Phase, ReplicatedStoreStatus};
use crate::operator::plan::{self, Leadership, Reason, update};
use crate::operator::view::View;

/// The phase of a store with this status.
pub(super) fn phase(findings: &Findings<'_>, status: &ReplicatedStoreStatus) -> Phase {
    let view = findings.view;
    if view.store.paused {
        return Phase::Paused;
    }
    if findings
        .waiting
        .is_some_and(|waiting| !waiting.reason.passes())
    {
        return Phase::Failed;
    }
    let all_ready = status.ready_replicas >= serving(status, view.store.replicas);
    let leadership = plan::leadership(view);
    if findings.old.phase == Phase::Creating && !(all_ready && leads(&leadership)) {
        return Phase::Creating;
    }
    // One that makes room has asked for nothing else.
    let planned = findings.change.is_some_and(|(made, planned)| {
        let epoch = view
            .register
            .as_ref()
            .map(|register| register.epoch.0 as i64);
        planned && Some(made.epoch) == epoch && made.outage_milliseconds.is_none()
    });
    match leadership {
        Leadership::Adopting(_) if planned => return Phase::SwitchingOver,
        Leadership::Ended(_) | Leadership::Lost => return Phase::FailingOver,
        Leadership::Adopting(_) | Leadership::None => return Phase::FailingOver,
        Leadership::Unreachable if goes_on(view) => return Phase::Degraded,
        Leadership::Unreachable => return Phase::FailingOver,
        Leadership::Leads(..) => {}
    }
    let joining = |member: &Member| member.state == MemberState::Pending && member.id.is_empty();
    if changing(findings) || status.members.iter().any(joining) {
        return Phase::Updating;
    }
    let seeding = |state| matches!(state, MemberState::Seeding | MemberState::CatchingUp);
    if status.members.iter().any(|member| seeding(member.state)) {
        return Phase::Seeding;
    }
    if !all_ready || !findings.problem.is_empty() {
        return Phase::Degraded;
    }
    let waits = findings.waiting.map(|waiting| waiting.reason);
    if waits == Some(Reason::SwitchoverWaits) {
        return Phase::SwitchingOver;
    }
    Phase::Healthy
}

/// Replicas that are to serve clients: all that are wanted and not fenced.
pub(super) fn serving(status: &ReplicatedStoreStatus, replicas: u32) -> i32 {
    let fenced = status
        .members
        .iter()
        .filter(|member| member.state == MemberState::Fenced && !member.ready);
    replicas as i32 - fenced.count() as i32
}

/// Whether a leader that is not heard goes on, as followers hear it.
fn goes_on(view: &View) -> bool {
    view.live().any(|(_, status)| status.leader_heard)
}

fn leads(leadership: &Leadership<'_>) -> bool {
    matches!(leadership, Leadership::Leads(..))
}

/// Whether replicas are being replaced, added or removed.
pub(super) fn changing(findings: &Findings<'_>) -> bool {
    let view = findings.view;
    view.existing() != view.store.replicas || !update::outdated(view).is_empty()
}
