//! Who leads a store, who votes, and who can be cut off from whom.

use std::time::Duration;

use kube::ResourceExt;
use replicated_store::api::{ConditionStatus, ConditionType};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fault::{self, Way};
use super::store::{Store, merge};
use super::wait::{eventually, expect, secs};
use super::{World, installation};

/// Leases of these stores.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// A store of three that acknowledges a write once a follower has it, with `changes`; ready, all of
/// its replicas voters.
pub(crate) async fn synchronous<'w>(world: &'w World, replicas: u32, changes: &Value) -> Store<'w> {
    let mut spec = json!({
        "replication": {"mode": "Synchronous", "syncReplicas": 1},
        "failover": {"leaseDuration": format!("{}s", LEASE.as_secs())},
    });
    merge(&mut spec, changes);
    let store = Store::ready(world, replicas, &spec).await;
    store.has_voters(replicas as usize, secs(60)).await;
    store
}

/// Who leads, and in which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reign {
    pub(crate) leader: String,
    pub(crate) epoch: i64,
}

impl Store<'_> {
    /// Who leads now, as the status says.
    pub(crate) async fn reign(&self) -> Reign {
        let status = self.status().await;
        assert!(!status.leader.is_empty(), "nobody leads");
        Reign {
            leader: status.leader,
            epoch: status.epoch,
        }
    }

    /// Waits until somebody leads in a later epoch than that.
    pub(crate) async fn reign_after(&self, before: &Reign, within: Duration) -> Reign {
        self.shows(within, "somebody leads in a new epoch", |status| {
            let elected = status.conditions.iter().any(|found| {
                found.type_ == ConditionType::LeaderElected && found.status == ConditionStatus::True
            });
            expect(
                elected && status.epoch > before.epoch && !status.leader.is_empty(),
                || {
                    format!(
                        "{:?} leads in epoch {}, elected: {elected}",
                        status.leader, status.epoch
                    )
                },
            )?;
            Ok(Reign {
                leader: status.leader.clone(),
                epoch: status.epoch,
            })
        })
        .await
    }

    /// Who leads stays so for a time.
    pub(crate) async fn stays(&self, reign: &Reign, time: Duration) {
        let end = Instant::now() + time;
        eventually(time + secs(10), "the time is over", async || {
            let status = self.status().await;
            assert_eq!(
                status.epoch, reign.epoch,
                "{:?} was promoted",
                status.leader
            );
            expect(Instant::now() >= end, String::new)
        })
        .await;
    }

    /// Waits until so many replicas vote, and no earlier set of voters counts any more.
    pub(crate) async fn has_voters(&self, count: usize, within: Duration) {
        self.shows(within, &format!("{count} replicas vote"), |status| {
            let register = status.configuration.as_ref().ok_or("no register")?;
            expect(
                register.voters.len() == count && register.previous.is_empty(),
                || format!("{register:?}"),
            )
        })
        .await;
    }

    /// Waits until everything is there again: all replicas ready, and voters.
    pub(crate) async fn is_whole(&self) {
        let status = self.becomes_ready(secs(120)).await;
        self.has_voters(status.members.len(), secs(60)).await;
    }

    /// A follower, whichever.
    pub(crate) async fn some_follower(&self) -> String {
        self.followers()
            .await
            .into_iter()
            .next()
            .expect("a follower")
    }

    /// Addresses of its Pods, the one named first.
    pub(crate) async fn hosts(&self, first: &str) -> Vec<String> {
        let mut hosts = vec![self.host(first).await];
        for pod in self.pods().await {
            if pod.name_any() != first {
                hosts.push(self.host(&pod.name_any()).await);
            }
        }
        hosts
    }

    /// Cuts a Pod off from its peers and the operator, but not from its clients and its kubelet.
    pub(crate) async fn isolate(&self, world: &World, pod: &str, way: Way) {
        let mut from = self.hosts(pod).await.split_off(1);
        from.extend(installation::hosts(&world.client).await);
        fault::cut(world, pod, &from, way).await;
    }
}

/// Waits until a condition of a store says no, and why: its reason and message.
pub(crate) async fn refusal(store: &Store<'_>, type_: ConditionType, within: Duration) -> String {
    let what = format!("condition {type_:?} says no, and why");
    eventually(within, &what, async || {
        let status = store.status().await;
        let found = status.conditions.iter().find(|found| found.type_ == type_);
        let found = found.ok_or("no such condition")?;
        let told = found.status != ConditionStatus::True
            && !found.reason.is_empty()
            && !found.message.is_empty();
        expect(told, || format!("{found:?}"))?;
        Ok(format!("{}: {}", found.reason, found.message))
    })
    .await
}

/// How often a thing is done: a few times, or often where there is much time (`E2E_LONG=1`).
pub(crate) fn times(few: usize, many: usize) -> usize {
    if is_long() { many } else { few }
}

/// Whether there is much time.
pub(crate) fn is_long() -> bool {
    std::env::var("E2E_LONG").is_ok_and(|value| value == "1")
}
