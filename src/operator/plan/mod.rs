//! PURE: what to do, from what is seen. No client, no clock, no randomness.
//!
//! # Design
//!
//! Two questions, asked in this order at every reconcile:
//!
//! 1. [`decide`]: must the register change? At most one change at a time, and it is made by
//!    compare-and-swap before anything else happens. A promotion first asks for promises
//!    ([`promotion::Campaign`]), and is decided by the answers ([`promotion::Campaign::elect`]).
//! 2. [`follow`]: given the register, which replicas must be told, which Pods labelled, how many
//!    are wanted, and may one be replaced?
//!
//! Nothing is remembered between two reconciles that cannot be seen again: whatever an operator
//! that died had begun is found in the register, in the replicas' promises and on the Pods.

pub mod doubt;
pub mod election;
pub mod failover;
pub mod follow;
mod numbering;
pub mod promotion;
pub mod recovery;
pub mod scale;
pub mod switchover;
pub mod update;
pub mod voters;

use std::cmp::Ordering;

use crate::replication::admin::ReplicaStatus;
use crate::replication::types::Configuration;

use super::view::{self, PodView, View};
use doubt::Doubt;
use promotion::{Campaign, Cause};
use switchover::Switchover;

/// Where the leader that the register names stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Leadership<'a> {
    /// There is no register yet.
    None,
    /// It leads in its epoch.
    Leads(&'a PodView, &'a ReplicaStatus),
    /// It is there and has not begun yet.
    Adopting(&'a PodView),
    /// It is there and can never lead this epoch (again): an epoch belongs to one process.
    Ended(&'a PodView),
    /// It is not heard.
    Unreachable,
    /// Its data directory is gone.
    Lost,
}

/// Where the leader stands.
pub fn leadership(view: &View) -> Leadership<'_> {
    let Some(register) = &view.register else {
        return Leadership::None;
    };
    let Some(leader) = register.leader else {
        return Leadership::None;
    };
    if view.lost.contains(&leader) {
        return Leadership::Lost;
    }
    let Some((pod, status)) = view.find(leader) else {
        return Leadership::Unreachable;
    };
    if view::leads(register, status) {
        Leadership::Leads(pod, status)
    } else if status.begun >= register.epoch || status.promised > register.epoch {
        Leadership::Ended(pod)
    } else {
        Leadership::Adopting(pod)
    }
}

/// The answer to: must the register change?
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// No.
    Keep,
    /// Not yet, or not by us.
    Wait(Waiting),
    /// Yes, to this.
    Swap(Swap),
    /// Yes, to what the promises say.
    Campaign(Box<Campaign>),
    /// Yes, once the leader has made room.
    Switchover(Box<Switchover>),
}

/// A change of the register.
#[derive(Clone, Debug, PartialEq)]
pub struct Swap {
    /// What it should hold.
    pub to: Configuration,
    /// Why, for people.
    pub why: String,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For programs: the reason of a condition.
    pub reason: Reason,
    /// For people: what, and what to do if it does not come.
    pub message: String,
}

/// Why nothing is done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Replicas have not reported for the first time.
    Starting,
    /// The leader has been named and has not begun.
    LeaderStarting,
    /// The leader is not heard.
    LeaderUnreachable,
    /// A promotion lacks promises.
    VotersMissing,
    /// No voter is left that has data.
    NoVoterLeft,
    /// The register is older than what the replicas hold.
    RegisterBehind,
    /// Two replicas are the same one.
    Duplicate,
    /// A volume belongs to another store.
    ForeignVolume,
    /// The leader runs where a replica is to be removed.
    LeaderInTheWay,
    /// A replica that is to be removed still counts.
    VoterInTheWay,
    /// The leader is silent, and the user wants to wait.
    FailoverDelayed,
    /// The leader is silent, and the user wants to choose the next one.
    FailoverManual,
    /// The leader is to make room, and nobody can take its place now.
    SwitchoverWaits,
}

impl Reason {
    /// As conditions spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::LeaderStarting => "LeaderStarting",
            Self::LeaderUnreachable => "LeaderUnreachable",
            Self::VotersMissing => "VotersMissing",
            Self::NoVoterLeft => "NoVoterLeft",
            Self::RegisterBehind => "RegisterBehind",
            Self::Duplicate => "DuplicateReplica",
            Self::ForeignVolume => "ForeignVolume",
            Self::LeaderInTheWay => "LeaderInTheWay",
            Self::VoterInTheWay => "VoterInTheWay",
            Self::FailoverDelayed => "FailoverDelayed",
            Self::FailoverManual => "FailoverManual",
            Self::SwitchoverWaits => "SwitchoverWaits",
        }
    }

    /// Whether it passes without help from people.
    pub fn passes(self) -> bool {
        !matches!(
            self,
            Self::NoVoterLeft
                | Self::RegisterBehind
                | Self::Duplicate
                | Self::ForeignVolume
                | Self::FailoverManual
        )
    }
}

/// Waits with a reason.
fn wait(reason: Reason, message: impl Into<String>) -> Decision {
    Decision::Wait(Waiting {
        reason,
        message: message.into(),
    })
}

/// Must the register change?
pub fn decide(view: &View) -> Decision {
    if let Some(waiting) = duplicate(view) {
        return Decision::Wait(waiting);
    }
    let Some(register) = &view.register else {
        return recovery::decide(view, None);
    };
    if let Some(why) = recovery::behind(view, register) {
        let lasts = view.doubted(Doubt::RegisterBehind);
        return if lasts.is_some_and(|age| age >= doubt::BELIEVED) {
            recovery::decide(view, Some(&why))
        } else {
            wait(
                Reason::RegisterBehind,
                format!(
                    "{why}; it is read again, and put right if it stays so: nothing need be done"
                ),
            )
        };
    }
    // Whoever has promised more than the register's epoch refuses its leader for good, so a
    // promotion that somebody began is carried through.
    let begun = view
        .live()
        .filter(|(_, status)| !recovery::is_foreign(register, status))
        .any(|(_, status)| status.promised > register.epoch);
    match leadership(view) {
        Leadership::Lost => failover::take(view, register, Cause::LeaderLost),
        Leadership::Ended(_) => promotion::decide(view, register, Cause::LeaderEnded),
        Leadership::Adopting(_) | Leadership::Leads(..) if begun => {
            promotion::decide(view, register, Cause::CarriedThrough)
        }
        Leadership::Adopting(pod) => failover::decide(view, register).unwrap_or_else(|| {
            wait(
                Reason::LeaderStarting,
                format!("waiting for {} to begin epoch {}", pod.name, register.epoch),
            )
        }),
        Leadership::Leads(pod, leader) => failover::decide(view, register)
            .unwrap_or_else(|| voters::decide(view, register, pod, leader)),
        Leadership::Unreachable => failover::decide(view, register).unwrap_or(Decision::Keep),
        Leadership::None => {
            let why = "status.configuration names no leader: somebody has edited it";
            recovery::decide(view, Some(why))
        }
    }
}

/// Whether a volume was copied: both replicas would keep the same promises and count as one.
fn duplicate(view: &View) -> Option<Waiting> {
    let (first, status) = view.live().find(|(pod, status)| {
        let first = view.find(status.id);
        first.is_some_and(|(first, _)| first.ordinal != pod.ordinal)
    })?;
    let (second, other) = view.find(status.id)?;
    let which = match other.last.cmp(&status.last) {
        Ordering::Greater => format!("{}, which holds less", first.name),
        Ordering::Less => format!("{}, which holds less", second.name),
        Ordering::Equal => "one of them, as they hold the same".to_owned(),
    };
    Some(Waiting {
        reason: Reason::Duplicate,
        message: format!(
            "{} and {} are the same replica {}: the volume of one is a copy of the other's; delete \
             the PersistentVolumeClaim and the Pod of {which}; it is seeded anew",
            second.name, first.name, status.id
        ),
    })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod world;
