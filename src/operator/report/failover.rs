//! What is told of a change of leader.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use super::Findings;
use crate::api::{Candidate, Durability, LastFailover, Survives, Verdict};
use crate::operator::plan::election::Elected;
use crate::operator::plan::promotion::{Campaign, copies, leases};
use crate::operator::plan::{self, Leadership};
use crate::operator::supervisor::significance::bytes;
use crate::operator::view::{self, View};
use crate::replication::types::{Configuration, ReplicaId};

/// A change of leader, before it is known how long it takes. `view` is what it was decided by.
pub fn record(view: &View, campaign: &Campaign, elected: &Elected, now: Timestamp) -> LastFailover {
    let leader = campaign.base.as_ref().and_then(|base| base.leader);
    let (lost_bytes, lost_bytes_at_least) = match lost(view, campaign, elected, leader) {
        Lost::Bytes(bytes) => (Some(bytes as i64), None),
        Lost::AtLeast(bytes) => (None, Some(bytes as i64)),
    };
    LastFailover {
        // The API server keeps whole seconds; anything finer would look like a change.
        time: Timestamp::from_second(now.as_second()).ok(),
        reason: campaign.cause.name().to_owned(),
        from: leader.map(|id| view.name_of(id)).unwrap_or_default(),
        from_id: leader.map(|id| id.to_string()).unwrap_or_default(),
        to: view.name_of(elected.leader),
        epoch: campaign.epoch.0 as i64,
        outage_milliseconds: None,
        lost_bytes,
        lost_bytes_at_least,
        message: String::new(),
        candidates: candidates(view, campaign, elected),
    }
}

/// What the old leader had beyond the end of the new one's log.
enum Lost {
    Bytes(u64),
    /// It did not say what it had last.
    AtLeast(u64),
}

/// With synchronous replication nothing that was lost was acknowledged. Else only the promise of the old
/// leader itself tells what it had: what was heard of it is from before it fell silent.
fn lost(view: &View, campaign: &Campaign, elected: &Elected, leader: Option<ReplicaId>) -> Lost {
    let beyond = |end: u64| end.saturating_sub(elected.end);
    let given_up = given_up(view, campaign, elected);
    if !given_up.is_empty() {
        let held = given_up.iter().filter_map(|id| view.held.get(id));
        return Lost::AtLeast(beyond(held.map(|held| held.lsn.0).max().unwrap_or(0)));
    }
    if campaign.sync > 0 || leader.is_none() {
        return Lost::Bytes(0);
    }
    let mut answers = elected.verdicts.iter();
    if let Some((own, _)) = answers.find(|(answer, _)| Some(answer.id) == leader) {
        return Lost::Bytes(beyond(own.last.lsn.0));
    }
    let heard = view.pods.values().filter_map(|pod| pod.heard.as_ref());
    let said = heard
        .filter(|heard| Some(heard.status.id) == leader)
        .map(|heard| heard.status.last.lsn.0);
    Lost::AtLeast(beyond(said.max().unwrap_or(0)))
}

/// Voters whose data the user gave up for this.
fn given_up(view: &View, campaign: &Campaign, elected: &Elected) -> BTreeSet<ReplicaId> {
    let base = campaign.base.iter();
    let named = base.flat_map(view::named);
    let gone = named.filter(|id| campaign.lost.contains(id) && view.is_given_up(*id));
    gone.chain(elected.forgiven.iter().copied()).collect()
}

/// Puts in what has come to be known of a failover: how long it took, and what it lost once the old
/// leader has come back; and says what is not known.
fn settle(findings: &Findings<'_>, mut failover: LastFailover) -> LastFailover {
    let old = findings.old.last_failover.as_ref();
    if let Some(known) = old.filter(|old| old.epoch == failover.epoch) {
        failover.outage_milliseconds = failover.outage_milliseconds.or(known.outage_milliseconds);
        failover.lost_bytes = failover.lost_bytes.or(known.lost_bytes);
    }
    let view = findings.view;
    let current = view.register.as_ref().map(|it| it.epoch.0 as i64) == Some(failover.epoch);
    if failover.outage_milliseconds.is_none() && current {
        let outage = findings.outage.map(|outage| outage.as_millis());
        failover.outage_milliseconds = outage.and_then(|outage| i64::try_from(outage).ok());
    }
    failover.lost_bytes = failover.lost_bytes.or_else(|| tail(view, &failover));
    // Not taken away: the one who wrote it with the register owns it, too, so it would stay as it was.
    let known = failover.lost_bytes;
    failover.lost_bytes_at_least = failover
        .lost_bytes_at_least
        .map(|least| known.unwrap_or(least));
    failover.message = unknown(view, &failover, current);
    failover
}

/// What the old leader had to give up, if it has come back to the new one's history.
fn tail(view: &View, failover: &LastFailover) -> Option<i64> {
    let (_, status) = view.find(failover.from_id.parse().ok()?)?;
    if (status.last.epoch.0 as i64) < failover.epoch {
        return None;
    }
    let chosen = |it: &&Candidate| it.verdict == Verdict::Elected;
    let end = failover.candidates.iter().find(chosen)?.lsn;
    let divergent = status.divergent.as_ref();
    let of_this = |epoch: u64, after: u64| {
        (epoch as i64) < failover.epoch && i64::try_from(after).is_ok_and(|after| after >= end)
    };
    let bytes = divergent
        .filter(|it| of_this(it.epoch.0, it.after.0))
        .map_or(0, |it| it.bytes);
    Some(bytes as i64)
}

/// What is not known of a failover, and why.
fn unknown(view: &View, failover: &LastFailover, current: bool) -> String {
    let mut words = Vec::new();
    if failover.outage_milliseconds.is_none() {
        let answers = matches!(plan::leadership(view), Leadership::Leads(_, it) if it.answers);
        words.push(if current && !answers {
            "the new leader does not answer yet".to_owned()
        } else {
            "this operator did not hear the old leader, or not the new one, so nobody knows how long it took"
                .to_owned()
        });
    }
    if failover.lost_bytes.is_none() {
        words.push(if failover.from_id.is_empty() {
            "what the old leader had is not known".to_owned()
        } else {
            format!(
                "{} did not say what it had last, so what was lost is known when it comes back with its disk",
                failover.from
            )
        });
    }
    words.join("; ")
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
    made(findings).map(|failover| settle(findings, failover))
}

fn made(findings: &Findings<'_>) -> Option<LastFailover> {
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
