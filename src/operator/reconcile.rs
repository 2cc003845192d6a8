//! The pipeline, a page long: observe, validate, plan, build, apply, report.
//!
//! The register comes first, as the store is without a leader while it is wrong; what is told to
//! replicas next; what only Kubernetes needs to know after that.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use tokio::time::Instant;

use super::apply;
use super::build::Recipe;
use super::context::{Context, StoreKey, reference};
use super::error::Error;
use super::lead;
use super::observe;
use super::plan::follow::{self, Follow};
use super::plan::{Waiting, doubt, failover};
use super::report::{self, Findings, Unusable};
use super::supervisor::significance::Significance;
use super::supervisor::wake::{SLOW_PAUSE, SOFT_PAUSE};
use super::validate::validate;
use super::view::View;
use crate::api::{ReplicatedStore, ReplicatedStoreStatus};

/// Everything is looked at again after this, should a watch have missed something.
const RESYNC: Duration = Duration::from_mins(5);
/// What is unfinished is looked at again after this.
const UNFINISHED: Duration = Duration::from_secs(1);
/// What waits for somebody else is looked at again after this; whoever it is wakes us as a rule.
const WAITING: Duration = Duration::from_secs(5);

/// Reconciles a store, and counts it.
pub async fn reconcile(
    object: Arc<DeserializeGuard<ReplicatedStore>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let key = StoreKey::of(&*object);
    let begun = Instant::now();
    let result = Box::pin(pipeline(&context, &key)).await;
    let label = result.as_ref().err().map(Error::metric_label);
    context.metrics.reconciled(begun.elapsed(), label);
    if result.is_ok() {
        context.memory.succeeded(&key);
    }
    result
}

/// When to try again after a failure.
#[allow(clippy::needless_pass_by_value)] // the controller's signature
pub fn retry(
    object: Arc<DeserializeGuard<ReplicatedStore>>,
    error: &Error,
    context: Arc<Context>,
) -> Action {
    let key = StoreKey::of(&*object);
    let failures = context.memory.failed(&key);
    if matches!(error, Error::Conflict) {
        tracing::debug!(store = %key, "somebody else was quicker");
    } else {
        tracing::warn!(store = %key, %error, failures, "reconcile failed");
    }
    Action::requeue(error.retry_after(failures))
}

async fn pipeline(context: &Context, key: &StoreKey) -> Result<Action, Error> {
    let mut readings = observe::read(context, key).await?;
    let Some(object) = readings.object.take() else {
        context.forget(key);
        return Ok(Action::await_change());
    };
    if object.metadata.deletion_timestamp.is_some() {
        // Its children have it as their owner and go with it.
        context.forget(key);
        return Ok(Action::await_change());
    }
    let store = match validate(&object) {
        Ok(store) => store,
        Err(invalid) => {
            let why = invalid.to_string();
            refuse(context, key, &object, Unusable::Specification, &why).await?;
            return Ok(Action::requeue(RESYNC));
        }
    };
    let view = Box::pin(observe::view(context, key, &object, readings, store)).await;
    if let Err(error @ Error::Register(_)) = &view {
        let why = error.to_string();
        refuse(context, key, &object, Unusable::Register, &why).await?;
    }
    let mut view = view?;
    if view.store.paused {
        let follow = follow::follow(&view);
        return conclude(context, key, &object, &view, &follow, Outcome::default()).await;
    }
    let (waiting, changed) = match lead::decide(context, key, &object, &mut view).await? {
        lead::Outcome::Kept => (None, false),
        lead::Outcome::Waits(waiting) => (Some(waiting), false),
        lead::Outcome::Failed(waiting) => (Some(waiting), true),
        lead::Outcome::Changed => (None, true),
        lead::Outcome::NewReign => {
            // Nobody leads until it is told, and nobody finds the leader by its label until it has one; all
            // the rest can wait for the next time.
            let follow = follow::follow(&view);
            let (_, relabelled) = tokio::join!(
                apply::tell(context, key, &view, &follow),
                apply::relabel(context, key, &view, &follow)
            );
            if let Err(error) = relabelled {
                tracing::warn!(store = %key, %error, "labels are put right the next time");
            }
            return Ok(Action::requeue(Duration::ZERO));
        }
    };
    let follow = follow::follow(&view);
    let (taken, relabelled, ()) = tokio::join!(
        apply::tell(context, key, &view, &follow),
        apply::relabel(context, key, &view, &follow),
        apply::bind(context, key, &view, &follow)
    );
    relabelled?;
    let applied = kubernetes(context, key, &view, &follow).await;
    let outcome = Outcome {
        waiting,
        unfinished: changed || !taken || follow::unfinished(&view),
        error: applied.err(),
    };
    // What replicas have said since is left for the next time, or the report would tell of one
    // moment and what is waited for of another.
    view.told = context.memory.told(key);
    conclude(context, key, &object, &view, &follow, outcome).await
}

/// What came of it all.
#[derive(Default)]
struct Outcome {
    waiting: Option<Waiting>,
    unfinished: bool,
    error: Option<Error>,
}

/// Makes the objects what they should be, and replaces a Pod if one is due.
async fn kubernetes(
    context: &Context,
    key: &StoreKey,
    view: &View,
    follow: &Follow,
) -> Result<(), Error> {
    let image = image(context, view);
    let recipe = Recipe {
        image: &image,
        leader_port: leader_port(view, &image),
    };
    apply::children(context, key, &view.store, recipe, follow).await?;
    match follow.replace {
        Some(ordinal) => apply::replace(context, key, view, ordinal).await,
        None => Ok(()),
    }
}

/// The user's image; else the one that the store was created with, so that a new operator
/// restarts nothing; else the operator's own.
fn image(context: &Context, view: &View) -> String {
    let pinned = view
        .workload
        .as_ref()
        .map(|workload| workload.image.clone());
    let pinned = pinned.filter(|image| !image.is_empty());
    let chosen = view.store.image.clone().or(pinned);
    chosen.unwrap_or_else(|| context.default_image.clone())
}

/// Whether Pods are made with the leader's port. A store of an older release gets it together with its
/// next image: its Pods are replaced then in any case.
fn leader_port(view: &View, image: &str) -> bool {
    let workload = view.workload.as_ref();
    workload.is_none_or(|it| it.leader_port || it.image != image)
}

/// Reports, and says when to look again.
async fn conclude(
    context: &Context,
    key: &StoreKey,
    object: &ReplicatedStore,
    view: &View,
    follow: &Follow,
    outcome: Outcome,
) -> Result<Action, Error> {
    let old = object.status.clone().unwrap_or_default();
    let problem = outcome
        .error
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    finish(context, key, view);
    let change = context.memory.change(key);
    let new = report::status(&Findings {
        change: change.as_ref().map(|it| (&it.record, it.planned)),
        outage: view
            .register
            .as_ref()
            .and_then(|register| context.supervisor.outage(key, register.epoch)),
        view,
        follow,
        waiting: outcome.waiting.as_ref(),
        problem: &problem,
        image: &image(context, view),
        old: &old,
        now: Timestamp::now(),
    });
    let later = write(context, key, object, &old, &new).await?;
    let about = reference(object);
    for event in context.memory.news(key) {
        tracing::info!(store = %key, reason = event.reason, note = event.note, "event");
        context.publish(&event, &about).await;
    }
    if let Some(error) = outcome.error {
        return Err(error);
    }
    let waits = outcome.waiting.is_some() || follow.scale_waits.is_some();
    let due = [
        outcome.unfinished.then_some(UNFINISHED),
        waits.then_some(WAITING),
        doubt::look_again(view),
        later,
        Some(RESYNC),
    ];
    Ok(Action::requeue(
        due.into_iter().flatten().min().unwrap_or(RESYNC),
    ))
}

/// Notes how long a change of leader took, once the new one answers, and tells of it.
fn finish(context: &Context, key: &StoreKey, view: &View) {
    let (Some(mut change), Some(register)) = (context.memory.change(key), &view.register) else {
        return;
    };
    let epoch = register.epoch.0 as i64;
    let answers = failover::outage(view).is_none();
    if std::mem::replace(&mut change.told, true) || change.record.epoch != epoch || !answers {
        return;
    }
    // What is planned is heard from beginning to end; the rest may have begun before this operator did.
    let heard = context.supervisor.outage(key, register.epoch);
    let outage = heard.or_else(|| change.planned.then(|| change.noticed.elapsed()));
    change.record.outage_milliseconds = outage.and_then(|it| i64::try_from(it.as_millis()).ok());
    let event = report::events::leader_changed(&key.namespace, &change.record, change.planned);
    context.memory.tell_later(key, event);
    context.memory.changed(key, change);
}

/// Writes a status that is worth it, with its events; answers when to come back if it can wait.
async fn write(
    context: &Context,
    key: &StoreKey,
    object: &ReplicatedStore,
    old: &ReplicatedStoreStatus,
    new: &ReplicatedStoreStatus,
) -> Result<Option<Duration>, Error> {
    let pause = match report::difference(old, new) {
        Significance::None => return Ok(None),
        Significance::Slow => SLOW_PAUSE,
        Significance::Soft => SOFT_PAUSE,
        Significance::Hard => Duration::ZERO,
    };
    let since = context.memory.since_report(key);
    let left = since.and_then(|since| pause.checked_sub(since));
    if let Some(left) = left.filter(|left| !left.is_zero()) {
        return Ok(Some(left));
    }
    apply::report(context, key, new).await?;
    context.memory.reported(key);
    let about = reference(object);
    for event in report::events::events(&key.namespace, old, new) {
        tracing::info!(store = %key, reason = event.reason, note = event.note, "event");
        context.publish(&event, &about).await;
    }
    Ok(None)
}

/// Reports what cannot be acted on. The replicas go on as they were.
async fn refuse(
    context: &Context,
    key: &StoreKey,
    object: &ReplicatedStore,
    what: Unusable,
    why: &str,
) -> Result<(), Error> {
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let new = report::refused(&old, generation, what, why, Timestamp::now());
    write(context, key, object, &old, &new).await?;
    Ok(())
}
