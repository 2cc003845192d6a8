//! One word for the whole.

use super::Findings;
use crate::api::{Member, MemberState, Phase, ReplicatedStoreStatus};
use crate::operator::plan::{self, Leadership, update};

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
    let all_ready = status.ready_replicas >= view.store.replicas as i32;
    let leadership = plan::leadership(view);
    if findings.old.phase == Phase::Creating && !(all_ready && leads(&leadership)) {
        return Phase::Creating;
    }
    match leadership {
        Leadership::Ended(_) | Leadership::Lost => return Phase::FailingOver,
        Leadership::Adopting(_) | Leadership::None => return Phase::FailingOver,
        Leadership::Unreachable => return Phase::Degraded,
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
    Phase::Healthy
}

fn leads(leadership: &Leadership<'_>) -> bool {
    matches!(leadership, Leadership::Leads(..))
}

/// Whether replicas are being replaced, added or removed.
pub(super) fn changing(findings: &Findings<'_>) -> bool {
    let view = findings.view;
    view.existing() != view.store.replicas || !update::outdated(view).is_empty()
}
