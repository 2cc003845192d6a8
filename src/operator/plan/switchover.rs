//! When a leader is asked to make room, and for whom: it takes no more writes, waits until its
//! successor has everything, and promises; nothing is lost, and nobody waits for leases.

use std::time::Duration;

use super::promotion::{Campaign, Cause};
use super::{Decision, Reason, update, wait};
use crate::operator::view::{PodView, View};
use crate::replication::admin::{ReplicaState, ReplicaStatus};
use crate::replication::types::{Configuration, ReplicaId};

/// Between two attempts: each is a short pause for writers.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two attempts with a leader that is told to stop: there is not much time.
const LEAVING_PAUSE: Duration = Duration::from_secs(1);
/// What a lease may run longer than the operator counts.
const MARGIN: Duration = Duration::from_millis(100);
/// After so many milliseconds the leader gives up, and leads on.
pub const DEADLINE_MS: u64 = 5000;

/// Why a leader makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its process was told to stop, or its Pod is being deleted.
    Leaving,
    /// It is fenced.
    Fenced,
    /// It is to be removed.
    ScaledDown,
    /// Its state on disk is damaged: a follower fetches it anew, a leader cannot.
    Damaged,
    /// The user wants another one.
    Target,
    /// Its Pod is to be replaced.
    Update,
}

impl Why {
    /// For people, after the leader's name.
    fn words(self) -> &'static str {
        match self {
            Self::Leaving => "is about to stop",
            Self::Fenced => "is fenced",
            Self::ScaledDown => "is to be removed",
            Self::Damaged => "has a damaged state",
            Self::Target => "is not the leader.target",
            Self::Update => "is to be replaced",
        }
    }
}

/// A switchover that is to be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Switchover {
    /// Ordinal of the leader's Pod.
    pub leader: u32,
    /// Who is to lead.
    pub target: ReplicaId,
    /// Why.
    pub why: Why,
    /// What the other voters are asked for once the leader has promised.
    pub campaign: Campaign,
}

/// One that cannot wait for anything else.
pub fn urgent(
    view: &View,
    register: &Configuration,
    pod: &PodView,
    leader: &ReplicaStatus,
) -> Option<Decision> {
    if !leader.leaving && !pod.terminating {
        return None;
    }
    // Without anybody to hand over to it just goes.
    let target = *candidates(view, register, leader).first()?;
    attempt(view, register, pod, target, Why::Leaving)
}

/// One that is to happen when all else is in order.
pub fn decide(
    view: &View,
    register: &Configuration,
    pod: &PodView,
    leader: &ReplicaStatus,
) -> Option<Decision> {
    let target = view.store.target.filter(|target| *target != pod.ordinal);
    let why = if view.is_fenced(pod.ordinal) {
        Why::Fenced
    } else if pod.ordinal >= view.store.replicas {
        Why::ScaledDown
    } else if leader.damaged && possible(view, register, leader) {
        // Before the user's target, which may be this one: it leads again when it is whole.
        Why::Damaged
    } else if target.is_some() {
        Why::Target
    } else if update::next(view).is_some_and(|next| next.ordinal == pod.ordinal) {
        Why::Update
    } else {
        return None;
    };
    let candidates = candidates(view, register, leader);
    let named = target.and_then(|ordinal| {
        let named = |id: &&ReplicaId| view.find(**id).is_some_and(|(it, _)| it.ordinal == ordinal);
        candidates.iter().find(named)
    });
    let chosen = match why {
        Why::Target => named,
        _ => named.or(candidates.first()),
    };
    match chosen {
        Some(id) => attempt(view, register, pod, *id, why),
        None if why == Why::Update => None,
        None => {
            let wanted = target
                .filter(|_| why == Why::Target)
                .map_or_else(|| "no follower".to_owned(), |it| view.pod_name(it));
            Some(wait(
                Reason::SwitchoverWaits,
                format!(
                    "{} {}, but {wanted} cannot take the lead now: it must be a voter that is in \
                     step, and neither fenced, damaged nor stopping",
                    pod.name,
                    why.words()
                ),
            ))
        }
    }
}

/// Whether the leader could hand over to anybody.
pub fn possible(view: &View, register: &Configuration, leader: &ReplicaStatus) -> bool {
    !candidates(view, register, leader).is_empty()
}

fn attempt(
    view: &View,
    register: &Configuration,
    pod: &PodView,
    target: ReplicaId,
    why: Why,
) -> Option<Decision> {
    let pause = if why == Why::Leaving {
        LEAVING_PAUSE
    } else {
        PAUSE
    };
    let leader = register.leader?;
    // Leases of the leader before this one would have to be waited for.
    let settled = view
        .since_campaign
        .is_none_or(|since| since >= settling(view));
    if !settled && why != Why::Leaving {
        return Some(Decision::Keep);
    }
    if view.since_switchover.is_some_and(|since| since < pause) {
        return (why != Why::Leaving).then(|| {
            wait(
                Reason::SwitchoverWaits,
                format!(
                    "{} {}: it could not hand over to {} a moment ago, which is tried again",
                    pod.name,
                    why.words(),
                    view.name_of(target)
                ),
            )
        });
    }
    let mut campaign = Campaign::new(view, register, Cause::Switchover);
    if campaign.hopeless_now(view).is_some() {
        return None;
    }
    // It leads again only if nobody else can, or the two would take turns.
    campaign.unfit.insert(leader);
    campaign.ask.retain(|ordinal| *ordinal != pod.ordinal);
    campaign.preference.retain(|id| *id != target);
    campaign.preference.insert(0, target);
    Some(Decision::Switchover(Box::new(Switchover {
        leader: pod.ordinal,
        target,
        why,
        campaign,
    })))
}

/// After this nobody holds a lease of the leader before the present one.
fn settling(view: &View) -> Duration {
    view.store.lease() + MARGIN
}

/// How long it is until another attempt may be made.
pub(super) fn pauses(view: &View) -> impl Iterator<Item = Duration> {
    let left = |bound: Duration, since: Option<Duration>| bound.checked_sub(since?);
    [
        left(settling(view), view.since_campaign),
        left(LEAVING_PAUSE, view.since_switchover),
        left(PAUSE, view.since_switchover),
    ]
    .into_iter()
    .flatten()
}

/// Followers that can take the lead now, best first.
fn candidates(view: &View, register: &Configuration, leader: &ReplicaStatus) -> Vec<ReplicaId> {
    let outdated = update::outdated(view);
    let mut fit: Vec<(bool, u64, u32, ReplicaId)> = view
        .live()
        .filter(|(pod, status)| {
            status.id != leader.id
                && register.voters.contains(&status.id)
                && status.state == ReplicaState::Streaming
                && status.promised <= register.epoch
                && !status.empty
                && !status.leaving
                && !status.damaged
                && !pod.terminating
                && !view.is_fenced(pod.ordinal)
                && pod.ordinal < view.store.replicas
        })
        .filter_map(|(pod, status)| {
            let mut followers = leader.followers.iter();
            let seen = followers.find(|it| it.id == status.id && it.connected && it.heard)?;
            let old = outdated.iter().any(|it| it.ordinal == pod.ordinal);
            // In step is in step: a few bytes less do not make one better than another.
            let behind = seen.lag_bytes / view.store.settings.max_lag.max(1);
            Some((old, behind, pod.ordinal, status.id))
        })
        .collect();
    fit.sort_unstable();
    fit.into_iter().map(|(.., id)| id).collect()
}
