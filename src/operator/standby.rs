//! What an operator without the lease does: it hears all replicas, and takes the lead from a leader
//! that is gone if the operator with the lease does not. It makes nothing else, and reports nothing.
//!
//! Two at once are safe, as the register is changed by compare-and-swap; the delay only keeps them
//! out of each other's way.

use std::sync::Arc;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::apply;
use super::context::{Context, StoreKey};
use super::error::Error;
use super::lead::{self, Outcome};
use super::observe;
use super::plan::{self, Decision, doubt, failover, follow};
use super::validate::validate;
use super::view::View;
use crate::api::ReplicatedStore;

/// Everything is looked at again after this, should a watch have missed something.
const RESYNC: Duration = Duration::from_mins(5);
/// What is unfinished is looked at again after this.
const UNFINISHED: Duration = Duration::from_secs(1);
/// How much longer than the operator with the lease it waits, at least.
pub const DELAY: Duration = Duration::from_secs(1);

/// Looks after the lead of a store, and after nothing else.
pub async fn reconcile(
    object: Arc<DeserializeGuard<ReplicatedStore>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let key = StoreKey::of(&*object);
    let mut readings = observe::read(&context, &key).await?;
    let object = readings.object.take();
    let Some(object) = object.filter(|it| it.metadata.deletion_timestamp.is_none()) else {
        context.forget(&key);
        return Ok(Action::await_change());
    };
    let Ok(store) = validate(&object) else {
        return Ok(Action::requeue(RESYNC));
    };
    let mut view = Box::pin(observe::view(&context, &key, &object, readings, store)).await?;
    if view.store.paused || view.register.is_none() {
        return Ok(Action::requeue(RESYNC));
    }
    let Some(age) = failover::outage(&view) else {
        return Ok(look_again(&view));
    };
    if let Some(left) = context.standby_delay.checked_sub(age) {
        return Ok(Action::requeue(left.max(Duration::from_millis(1))));
    }
    if let Decision::Campaign(campaign) = plan::decide(&view) {
        let outcome = lead::promote(&context, &key, &object, &mut view, &campaign).await?;
        if let Outcome::Failed(waiting) = outcome {
            tracing::info!(store = %key, message = waiting.message, "cannot promote");
        }
    }
    // The events are for the operator with the lease to tell.
    context.memory.news(&key);
    // Whoever changed the register may have died before it told anybody.
    let follow = follow::follow(&view);
    apply::tell(&context, &key, &view, &follow).await;
    Ok(Action::requeue(UNFINISHED))
}

fn look_again(view: &View) -> Action {
    Action::requeue(doubt::look_again(view).unwrap_or(RESYNC))
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
    tracing::debug!(store = %key, %error, failures, "cannot look after the lead");
    Action::requeue(error.retry_after(failures))
}
