//! What is told of a change of leader.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use super::Findings;
use crate::api::{Candidate, Durability, LastFailover, Survives, Verdict};
use crate::operator::plan::election::Elected;
use crate::operator::plan::promotion::{Campaign, copies, leases};
use crate::operator::plan::{self, Leadership};
use crate::operator::supervisor::significance::bytes;
use crate::operator::view::View;
use crate::replication::types::{Configuration, ReplicaId};

/// A change of leader, before it is known how long it takes. `view` is what it was decided by.
pub fn record(view: &View, campaign: &Campaign, elected: &Elected, now: Timestamp) -> LastFailover {
    let leader = campaign.base.as_ref().and_then(|base| base.leader);
    LastFailover {
        // The API server keeps whole seconds; anything finer would look like a change.
        time: Timestamp::from_second(now.as_second()).ok(),
        reason: campaign.cause.name().to_owned(),
        from: leader.map(|id| view.name_of(id)).unwrap_or_default(),
        to: view.name_of(elected.leader),
        epoch: campaign.epoch.0 as i64,
        outage_milliseconds: None,
        lost_bytes: lost(view, campaign, elected, leader) as i64,
        candidates: candidates(view, campaign, elected),
    }
}

/// Bytes that the old leader is known to have had beyond the end of the new one's log. With
/// synchronous replication none of them was acknowledged.
fn lost(view: &View, campaign: &Campaign, elected: &Elected, leader: Option<ReplicaId>) -> u64 {
    if campaign.sync > 0 {
        return 0;
    }
    let heard = view.pods.values().filter_map(|pod| pod.heard.as_ref());
    let said = heard
        .filter(|heard| Some(heard.status.id) == leader)
        .map(|heard| heard.status.last.lsn.0);
    let answers = elected.verdicts.iter();
    let answered = answers
        .filter(|(answer, _)| Some(answer.id) == leader)
        .map(|(answer, _)| answer.last.lsn.0);
    let end = said.chain(answered).max().unwrap_or(0);
    end.saturating_sub(elected.end)
}

fn candidates(view: &View, campaign: &Campaign, elected: &Elected) -> Vec<Candidate> {
    let answered = elected.verdicts.iter().map(|(answer, verdict)| Candidate {
        name: view.name_of(answer.id),
        epoch: answer.last.epoch.0 as i64,
        lsn: answer.last.lsn.0 as i64,
        verdict: *verdict,
    });
    let heard: BTreeSet<ReplicaId> = elected.verdicts.iter().map(|(it, _)| it.id).collect();
    let voters = campaign.base.iter().flat_map(|base| &base.voters);
    let silent = voters.filter(|id| !heard.contains(id)).map(|id| Candidate {
        name: view.name_of(*id),
        verdict: Verdict::Silent,
        ..Candidate::default()
    });
    let mut candidates: Vec<Candidate> = answered.chain(silent).collect();
    candidates.sort_by(|a, b| a.name.cmp(&b.name));
    // The list is keyed by name, and two data directories may have had the same one.
    candidates.dedup_by(|a, b| a.name == b.name);
    candidates
}

/// The last failover of a store: the one that was made here; else what was known, unless the
/// register has moved on without us.
pub(super) fn last(findings: &Findings<'_>) -> Option<LastFailover> {
    let (view, old) = (findings.view, findings.old);
    let register = view.register.as_ref()?;
    let epoch = register.epoch.0 as i64;
    if let Some((made, planned)) = findings.change.filter(|(made, _)| made.epoch == epoch) {
        return if planned {
            old.last_failover.clone()
        } else {
            Some(made.clone())
        };
    }
    let known = old.epoch;
    let noted = old
        .last_failover
        .as_ref()
        .is_some_and(|it| it.epoch == epoch);
    if known == 0 || known >= epoch || noted {
        return old.last_failover.clone();
    }
    Some(LastFailover {
        time: Timestamp::from_second(findings.now.as_second()).ok(),
        reason: "MadeByAnotherOperator".to_owned(),
        from: old.leader.clone(),
        to: register
            .leader
            .map(|id| view.name_of(id))
            .unwrap_or_default(),
        epoch,
        ..LastFailover::default()
    })
}

/// What an acknowledged write survives.
pub(super) fn durability(view: &View) -> Option<Durability> {
    let register = view.register.as_ref()?;
    let set = register.current();
    let losses = match set.sync {
        0 => 0,
        _ => leases(&set).min(copies(&set)) - 1,
    };
    Some(Durability {
        acknowledged_survives: match losses {
            0 => Survives::LeaderOnly,
            1 => Survives::OneReplica,
            2 => Survives::TwoReplicas,
            3 => Survives::ThreeReplicas,
            _ => Survives::FourReplicas,
        },
        failover_would_lose_bytes: would_lose(view, register),
    })
}

/// What the best of the other voters lacks.
fn would_lose(view: &View, register: &Configuration) -> Option<i64> {
    let Leadership::Leads(_, leader) = plan::leadership(view) else {
        return None;
    };
    let followers = leader
        .followers
        .iter()
        .filter(|it| it.connected && register.voters.contains(&it.id));
    let best = followers
        .map(|it| leader.last.lsn.since(it.durable_lsn))
        .min()?;
    Some(if register.sync > 0 { 0 } else { bytes(best) })
}
