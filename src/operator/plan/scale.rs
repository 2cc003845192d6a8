//! How many replicas the StatefulSet may have.

use super::{Leadership, Reason, Waiting, leadership, recovery};
use crate::operator::view::{self, View};

/// While nobody knows who has the newest data, all that may have any must run.
fn unsettled(view: &View, wanted: u32) -> (u32, Option<Waiting>) {
    let replicas = recovery::replicas(view);
    let waiting = (replicas > wanted).then(|| Waiting {
        reason: Reason::Starting,
        message: format!(
            "not scaled to {wanted} yet: all {replicas} replicas that have a volume are heard first, so that \
             the one with the newest data leads"
        ),
    });
    (replicas, waiting)
}

/// How many there should be now, and what keeps it from being as many as are wanted.
///
/// A StatefulSet removes the highest ordinals. One that the register still names must stay: it
/// would take a vote, or the lead, with it.
pub fn replicas(view: &View) -> (u32, Option<Waiting>) {
    let wanted = view.store.replicas;
    let existing = view.existing();
    let Some(register) = &view.register else {
        return unsettled(view, wanted);
    };
    if recovery::behind(view, register).is_some() {
        return unsettled(view, wanted);
    }
    if wanted >= existing {
        return (wanted, None);
    }
    if !matches!(leadership(view), Leadership::Leads(..)) {
        // The register may be an old one for all that is known, and those who know better are about to be removed.
        let waiting = Waiting {
            reason: Reason::VoterInTheWay,
            message: format!("not scaled to {wanted} yet: nobody is heard leading"),
        };
        return (existing, Some(waiting));
    }
    let in_the_way: Vec<_> = view::named(register)
        .into_iter()
        .filter(|id| !view.lost.contains(id))
        .filter(|id| view.ordinal_of(*id).is_none_or(|ordinal| ordinal >= wanted))
        .collect();
    let Some(first) = in_the_way.first() else {
        return (wanted, None);
    };
    let leader = in_the_way.iter().find(|id| Some(**id) == register.leader);
    let waiting = match leader {
        Some(leader) => Waiting {
            reason: Reason::LeaderInTheWay,
            message: format!(
                "not scaled to {wanted} yet: {} leads, and goes once it has handed the lead over to a \
                 follower that stays",
                view.name_of(*leader)
            ),
        },
        None => Waiting {
            reason: Reason::VoterInTheWay,
            message: format!(
                "not scaled to {wanted} yet: {} still votes",
                view.name_of(*first)
            ),
        },
    };
    (existing, Some(waiting))
}
