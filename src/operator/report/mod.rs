//! PURE: the status, from what is seen and what was done; whether it is worth a write; and the
//! events that tell of the difference.
//!
//! # Design
//!
//! The report has its own field manager and never contains the register, so it cannot overwrite
//! one that somebody else has changed. It may be lost or late: nothing is decided by it, but for
//! the ids that ordinals had, which tell a lost disk from a replica that is away.

pub mod conditions;
pub mod events;
pub mod failover;
mod members;
mod phase;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::plan::follow::Follow;
use super::plan::{self, Leadership, Waiting};
use super::supervisor::significance::Significance;
use super::view::View;
use crate::api::{LastFailover, Member, ReplicatedStoreStatus, labels};

/// What a report is made of.
#[derive(Debug)]
pub struct Findings<'a> {
    /// What was seen last, the register after its change included.
    pub view: &'a View,
    /// What followed from it.
    pub follow: &'a Follow,
    /// The last change of leader that was made here, and whether it was planned.
    pub change: Option<(&'a LastFailover, bool)>,
    /// For how long nobody was heard to answer clients before the leader of the register's epoch, if that
    /// was heard.
    pub outage: Option<Duration>,
    /// What is waited for.
    pub waiting: Option<&'a Waiting>,
    /// What went wrong; empty if nothing did.
    pub problem: &'a str,
    /// The image that replicas are given.
    pub image: &'a str,
    /// The status so far.
    pub old: &'a ReplicatedStoreStatus,
    /// The moment.
    pub now: Timestamp,
}

/// The status that should be, without the register.
pub fn status(findings: &Findings<'_>) -> ReplicatedStoreStatus {
    let view = findings.view;
    let members = members::members(findings);
    let ready = members.iter().filter(|member| member.ready).count();
    let max = |lag: fn(&Member) -> i64| members.iter().map(lag).max().unwrap_or(0);
    let mut status = ReplicatedStoreStatus {
        observed_generation: view.store.generation,
        phase: crate::api::Phase::default(),
        replicas: view.pods.len() as i32,
        ready_replicas: ready as i32,
        ready: format!("{ready}/{}", view.store.replicas),
        selector: labels::selector_text(&view.store.name),
        image: findings.image.to_owned(),
        leader: leader(view),
        epoch: view
            .register
            .as_ref()
            .map_or(0, |register| register.epoch.0 as i64),
        configuration: None,
        max_lag_bytes: max(|member| member.lag_bytes),
        max_lag_seconds: max(|member| member.lag_seconds),
        durability: failover::durability(view),
        last_failover: failover::last(findings),
        members,
        lost_replicas: view.lost.iter().map(ToString::to_string).collect(),
        lost_pods: view
            .formerly
            .iter()
            .map(|(id, ordinal)| (id.to_string(), view.pod_name(*ordinal)))
            .collect(),
        conditions: Vec::new(),
    };
    status.phase = phase::phase(findings, &status);
    status.conditions = conditions::conditions(findings, &status);
    status
}

/// What the operator cannot go by.
#[derive(Clone, Copy, Debug)]
pub enum Unusable {
    /// The specification is not valid.
    Specification,
    /// The register in the status cannot be read.
    Register,
}

/// The reason of a store whose register cannot be read.
const REGISTER_UNREADABLE: &str = "RegisterUnreadable";

/// The status of a store that cannot be acted on: what was, with that said. The replicas go on as they were.
pub fn refused(
    old: &ReplicatedStoreStatus,
    generation: i64,
    what: Unusable,
    why: &str,
    now: Timestamp,
) -> ReplicatedStoreStatus {
    let mut status = old.clone();
    status.configuration = None;
    status.observed_generation = generation;
    status.phase = crate::api::Phase::Failed;
    status.conditions = conditions::refused(old, generation, what, why, now);
    status
}

/// The Pod that leads, as far as anybody knows: one that is not heard may well be at work.
fn leader(view: &View) -> String {
    let named = view.register.as_ref().and_then(|register| register.leader);
    match (plan::leadership(view), named) {
        (Leadership::Leads(pod, _), _) => pod.name.clone(),
        (Leadership::Unreachable, Some(id)) => view
            .ordinal_of(id)
            .map(|ordinal| view.pod_name(ordinal))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// How much a new status differs from the one that is there. Positions and times alone are not
/// worth a write, lag alone can wait, and what disks hold can wait longer.
pub fn difference(old: &ReplicatedStoreStatus, new: &ReplicatedStoreStatus) -> Significance {
    if settled(old) == settled(new) {
        // An operator that starts anew knows by this which disks were put back.
        let held = |status: &ReplicatedStoreStatus| -> Vec<_> {
            status.members.iter().map(|it| it.held.clone()).collect()
        };
        if held(old) == held(new) {
            Significance::None
        } else {
            Significance::Slow
        }
    } else if lasting(old) == lasting(new) {
        Significance::Soft
    } else {
        Significance::Hard
    }
}

/// Without what changes all the time.
fn settled(status: &ReplicatedStoreStatus) -> ReplicatedStoreStatus {
    let mut status = status.clone();
    status.configuration = None;
    for member in &mut status.members {
        member.durable_lsn = 0;
        member.applied_lsn = 0;
        member.last_seen_time = None;
        member.held = None;
        if let Some(seed) = &mut member.seed {
            seed.bytes = 0;
        }
    }
    status
}

/// Without what changes with the load, too.
fn lasting(status: &ReplicatedStoreStatus) -> ReplicatedStoreStatus {
    let mut status = settled(status);
    status.max_lag_bytes = 0;
    if let Some(durability) = &mut status.durability {
        durability.failover_would_lose_bytes = None;
    }
    status.max_lag_seconds = 0;
    for member in &mut status.members {
        member.lag_bytes = 0;
        member.lag_seconds = 0;
        member.disk_used_percent = 0;
        member.message.clear();
        if let Some(seed) = &mut member.seed {
            seed.percent = 0;
        }
    }
    status
}

#[cfg(test)]
mod tests;
