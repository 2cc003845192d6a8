//! Which of several operator Pods is at work: a `coordination.k8s.io` Lease.
//!
//! # Design
//!
//! No two clocks are compared: a lease has expired when this process has watched the same record
//! for its whole duration. Whoever cannot renew within two thirds of that stops
//! working; its process ends, as a half-stopped operator is worse than none. Two at work at once
//! would be wasteful and not dangerous: the register is changed by compare-and-swap.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::{causes, status_code};

/// Name of the Lease.
pub const NAME: &str = "replicated-store-operator";
/// A record that has not changed for this long is nobody's.
const DURATION: Duration = Duration::from_secs(15);
/// Who has not renewed for this long stops working.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks.
const PERIOD: Duration = Duration::from_secs(2);
/// One look, or one release: a busy API server takes a while.
const TIMEOUT: Duration = Duration::from_secs(4);

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody holds it: take it.
    Acquire,
    /// It is ours: renew it.
    Renew,
    /// It is somebody else's.
    Yield,
}

/// What is known of the record, and since when it has been so.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    holder: Option<String>,
    /// Changes with every renewal.
    version: Option<String>,
    /// When this process first saw it so.
    since: Instant,
}

impl Observation {
    /// Nothing is there.
    fn nothing(now: Instant) -> Self {
        Self {
            holder: None,
            version: None,
            since: now,
        }
    }

    /// Takes in what was read at `now`.
    #[must_use]
    fn update(self, lease: Option<&Lease>, now: Instant) -> Self {
        let version = lease.and_then(ResourceExt::resource_version);
        if version.is_some() && version == self.version {
            return self;
        }
        let spec = lease.and_then(|lease| lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.clone());
        Self {
            holder: holder.filter(|holder| !holder.is_empty()),
            version,
            since: now,
        }
    }
}

/// Decides about a lease.
fn evaluate(seen: &Observation, identity: &str, now: Instant) -> Step {
    match &seen.holder {
        None => Step::Acquire,
        Some(holder) if holder == identity => Step::Renew,
        Some(_) if now.duration_since(seen.since) >= DURATION => Step::Acquire,
        Some(_) => Step::Yield,
    }
}

/// Why the lease cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It was not renewed in time.
    #[error("the lease was not renewed for {} s", RENEW_DEADLINE.as_secs())]
    Expired,
    /// Somebody else has taken it.
    #[error("{0} has taken the lease")]
    Taken(String),
}

/// One contender for the lease.
pub struct Contender {
    api: Api<Lease>,
    identity: String,
    seen: Observation,
}

impl Contender {
    /// A contender called `identity`, which must be another one in each process. The client should
    /// not retry by itself, as time is short.
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity,
            seen: Observation::nothing(Instant::now()),
        }
    }

    /// Waits until the lease is ours.
    pub async fn acquire(&mut self) {
        loop {
            match self.step().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = causes(&error), "cannot take the lease"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Renews until `stop`, or until it is lost.
    pub async fn hold(&mut self, stop: &CancellationToken) -> Result<(), LeaseError> {
        let mut renewed = Instant::now();
        loop {
            let round = async {
                tokio::time::sleep(PERIOD).await;
                let begun = Instant::now();
                (begun, self.step().await)
            };
            let (begun, ours) = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(renewed + RENEW_DEADLINE) => {
                    return Err(LeaseError::Expired);
                }
                round = round => round,
            };
            match ours {
                Ok(true) => renewed = begun,
                Ok(false) => {
                    let holder = self.seen.holder.clone().unwrap_or_default();
                    return Err(LeaseError::Taken(holder));
                }
                Err(error) => tracing::warn!(error = causes(&error), "cannot renew the lease"),
            }
        }
    }

    /// Gives it back, so that the next one need not wait.
    pub async fn release(&mut self) {
        let released = async {
            let Some(mut lease) = self.api.get_opt(NAME).await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            self.api
                .replace(NAME, &PostParams::default(), &lease)
                .await
                .map(drop)
        };
        match tokio::time::timeout(TIMEOUT, released).await {
            Ok(Ok(())) => tracing::info!("released the lease"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot release the lease"),
            Err(_) => tracing::warn!("cannot release the lease in time"),
        }
    }

    /// Looks, and acts; says whether the lease is ours now.
    async fn step(&mut self) -> Result<bool, kube::Error> {
        let Ok(result) = tokio::time::timeout(TIMEOUT, self.look_and_act()).await else {
            tracing::warn!("the API server does not answer about the lease");
            // Whose it is now is not known; the deadline decides.
            return Err(kube::Error::Service("no answer in time".into()));
        };
        result
    }

    async fn look_and_act(&mut self) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(NAME).await?;
        let now = Instant::now();
        self.seen = self.seen.clone().update(lease.as_ref(), now);
        let step = evaluate(&self.seen, &self.identity, now);
        if step == Step::Yield {
            return Ok(false);
        }
        let wanted = self.record(lease.as_ref(), step);
        let params = PostParams::default();
        // Both are refused if somebody else was quicker.
        let written = match lease {
            None => self.api.create(&params, &wanted).await,
            Some(_) => self.api.replace(NAME, &params, &wanted).await,
        };
        match written {
            Ok(lease) => {
                self.seen = self.seen.clone().update(Some(&lease), Instant::now());
                Ok(true)
            }
            // Whoever wrote in between is seen at the next look.
            Err(error) if status_code(&error) == Some(409) && step == Step::Acquire => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn record(&self, before: Option<&Lease>, step: Step) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = before
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let acquired = step == Step::Acquire;
        Lease {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                resource_version: before.and_then(ResourceExt::resource_version),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(DURATION.as_secs() as i32),
                acquire_time: if acquired {
                    Some(now.clone())
                } else {
                    old.acquire_time
                },
                lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(acquired)),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                ..LeaseSpec::default()
            }),
        }
    }

    fn seen(lease: Option<&Lease>, now: Instant) -> Observation {
        Observation::nothing(now).update(lease, now)
    }

    #[test]
    fn a_lease_that_is_nobodys_is_taken() {
        let now = Instant::now();
        assert_eq!(evaluate(&seen(None, now), "a", now), Step::Acquire);
        let released = lease("", "1");
        assert_eq!(
            evaluate(&seen(Some(&released), now), "a", now),
            Step::Acquire
        );
    }

    #[test]
    fn ones_own_is_renewed_even_if_it_has_run_out() {
        let now = Instant::now();
        let own = seen(Some(&lease("a", "1")), now);
        assert_eq!(evaluate(&own, "a", now + DURATION * 3), Step::Renew);
    }

    #[test]
    fn anothers_is_taken_only_when_it_has_not_changed_for_long() {
        let now = Instant::now();
        let mut other = seen(Some(&lease("b", "1")), now);
        assert_eq!(evaluate(&other, "a", now + DURATION - PERIOD), Step::Yield);
        assert_eq!(evaluate(&other, "a", now + DURATION), Step::Acquire);
        // A renewal, whatever the time in it says, begins a new wait.
        other = other.update(Some(&lease("b", "2")), now + DURATION);
        assert_eq!(evaluate(&other, "a", now + DURATION), Step::Yield);
        other = other.update(Some(&lease("b", "2")), now + DURATION + PERIOD);
        assert_eq!(evaluate(&other, "a", now + DURATION * 2), Step::Acquire);
    }

    #[test]
    fn the_holder_stops_before_another_one_starts() {
        assert!(RENEW_DEADLINE < DURATION);
        assert!(
            PERIOD + TIMEOUT < RENEW_DEADLINE,
            "one failure is not the end"
        );
    }
}
