//! Changes the register if it must be: the step that a store without a leader waits for, so
//! nothing that can wait is done here.

use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use tokio::time::Instant;

use super::apply;
use super::context::{Context, LeaderChange, StoreKey};
use super::error::Error;
use super::observe;
use super::plan::promotion::{Campaign, Cause};
use super::plan::switchover::Switchover;
use super::plan::{self, Decision, Reason, Swap, Waiting, failover};
use super::report::events::{event, pod};
use super::report::failover as record;
use super::view::View;
use crate::api::{LastFailover, ReplicatedStore};
use crate::replication::admin::PromiseAnswer;
use crate::replication::types::Configuration;

/// What became of the register.
#[derive(Debug)]
pub enum Outcome {
    /// It is as it should be.
    Kept,
    /// It is not, and this is waited for.
    Waits(Waiting),
    /// Promises were asked for, and this is missing.
    Failed(Waiting),
    /// It was changed, the leader is the same.
    Changed,
    /// It names a new reign.
    NewReign,
}

/// Changes the register if it must be.
pub async fn decide(
    context: &Context,
    key: &StoreKey,
    object: &ReplicatedStore,
    view: &mut View,
) -> Result<Outcome, Error> {
    match plan::decide(view) {
        Decision::Keep => Ok(Outcome::Kept),
        Decision::Wait(waiting) => Ok(Outcome::Waits(waiting)),
        Decision::Swap(swap) => {
            let epoch = view.register.as_ref().map(|register| register.epoch);
            let reign = epoch != Some(swap.to.epoch);
            change(context, key, object, view, swap, None).await?;
            Ok(if reign {
                Outcome::NewReign
            } else {
                Outcome::Changed
            })
        }
        Decision::Campaign(campaign) => promote(context, key, object, view, &campaign).await,
        Decision::Switchover(switchover) => {
            switch_over(context, key, object, view, &switchover).await
        }
    }
}

/// Asks for promises, and names whom they allow.
pub async fn promote(
    context: &Context,
    key: &StoreKey,
    object: &ReplicatedStore,
    view: &mut View,
    campaign: &Campaign,
) -> Result<Outcome, Error> {
    tracing::info!(store = %key, epoch = %campaign.epoch, cause = campaign.cause.name(), "asking for promises");
    let before = context.memory.since_campaign(key);
    let noticed = Instant::now() - failover::outage(view).unwrap_or_default();
    context.memory.campaign(key);
    let answers = apply::campaign(context, view, campaign, None).await;
    let outcome = conclude(context, key, object, view, campaign, &answers, noticed).await;
    let failed = matches!(outcome, Ok(Outcome::Failed(_)));
    if campaign.cause.is_failover() && !(failed && before.is_some()) {
        let note = format!(
            "{}: asking the voters for epoch {}",
            campaign.cause.name(),
            campaign.epoch
        );
        let action = format!("PromoteEpoch{}", campaign.epoch);
        let started = event(EventType::Warning, "FailoverStarted", &action, &note, None);
        context.memory.tell_later(key, started);
    }
    outcome
}

async fn switch_over(
    context: &Context,
    key: &StoreKey,
    object: &ReplicatedStore,
    view: &mut View,
    switchover: &Switchover,
) -> Result<Outcome, Error> {
    let (from, to) = (
        view.pod_name(switchover.leader),
        view.name_of(switchover.target),
    );
    tracing::info!(store = %key, from, to, why = ?switchover.why, "asking the leader to make room");
    let asked = Instant::now();
    let answer = match apply::switchover(context, view, switchover).await {
        Ok(answer) => answer,
        Err(reason) => {
            context.memory.switchover(key, true);
            let note = format!("{from} does not hand the lead over to {to}: {reason}");
            let about = Some(pod(&key.namespace, &from));
            let refused = event(
                EventType::Warning,
                "SwitchoverRefused",
                "SwitchOver",
                &note,
                about,
            );
            context.memory.tell_later(key, refused);
            return Ok(Outcome::Waits(Waiting {
                reason: Reason::SwitchoverWaits,
                message: format!("{note}; it is tried again"),
            }));
        }
    };
    context.memory.switchover(key, false);
    context.memory.campaign(key);
    let room = Some((answer, switchover.target));
    let answers = apply::campaign(context, view, &switchover.campaign, room).await;
    conclude(
        context,
        key,
        object,
        view,
        &switchover.campaign,
        &answers,
        asked,
    )
    .await
}

/// Names whom the promises allow.
async fn conclude(
    context: &Context,
    key: &StoreKey,
    object: &ReplicatedStore,
    view: &mut View,
    campaign: &Campaign,
    answers: &[PromiseAnswer],
    noticed: Instant,
) -> Result<Outcome, Error> {
    let elected = match campaign.elect(view, answers) {
        Ok(elected) => elected,
        Err(waiting) => return Ok(Outcome::Failed(waiting)),
    };
    let record = record::record(view, campaign, &elected, Timestamp::now());
    let planned = !campaign.cause.is_failover();
    let told = (!planned).then_some(&record);
    change(context, key, object, view, elected.swap, told).await?;
    context.metrics.promoted(campaign.cause.name());
    context.memory.changed(
        key,
        LeaderChange {
            record,
            planned,
            noticed,
            // Where nobody led before, the condition tells that somebody does.
            told: campaign.cause == Cause::Bootstrap,
        },
    );
    Ok(Outcome::NewReign)
}

async fn change(
    context: &Context,
    key: &StoreKey,
    object: &ReplicatedStore,
    view: &mut View,
    swap: Swap,
    failover: Option<&LastFailover>,
) -> Result<(), Error> {
    let Swap { to, why } = swap;
    apply::swap(context, key, object, &to, failover).await?;
    let Configuration { version, epoch, .. } = &to;
    tracing::info!(store = %key, version, %epoch, why, "changed the register");
    view.register = Some(to);
    observe::listen(context, key, object, view);
    Ok(())
}
