//! Who leads a store, who votes, and who can be cut off from whom.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::ResourceExt;
use redis::RedisResult;
use replicated_store::api::{ConditionStatus, ConditionType};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{LEADER_PORT, connect};
use super::fault::{self, Way};
use super::store::{Store, merge};
use super::wait::{eventually, expect, secs};
use super::{World, installation};

/// Leases of these stores.
pub(crate) fn lease() -> Duration {
    let ms = std::env::var("E2E_LEASE_MS").map_or(Ok(1000), |ms| ms.parse());
    Duration::from_millis(ms.expect("E2E_LEASE_MS is a number"))
}

/// A store of three that acknowledges a write once a follower has it, with `changes`; ready, all of
/// its replicas voters.
pub(crate) async fn synchronous<'w>(world: &'w World, replicas: u32, changes: &Value) -> Store<'w> {
    let mut spec = json!({
        "replication": {"mode": "Synchronous", "syncReplicas": 1},
        "failover": {"leaseDuration": format!("{}ms", lease().as_millis())},
    });
    merge(&mut spec, changes);
    let store = Store::ready(world, replicas, &spec).await;
    store.has_voters(replicas as usize, secs(60)).await;
    store.is_behind_its_service(replicas).await;
    store
}

/// Who leads, and in which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reign {
    pub(crate) leader: String,
    pub(crate) epoch: i64,
}

impl Store<'_> {
    /// Waits until connections to the one Service end at each of so many replicas: its rules come
    /// late to the nodes.
    async fn is_behind_its_service(&self, replicas: u32) {
        let service = self.service("").await;
        let mut seen = BTreeSet::new();
        eventually(secs(60), "the Service leads to all replicas", async || {
            for _ in 0..6 {
                let mut connection = connect(&service).await;
                let mut info = redis::cmd("INFO");
                let info: RedisResult<String> =
                    info.arg("server").query_async(&mut connection).await;
                let info = info.map_err(|error| error.to_string())?;
                let name = info.lines().find(|line| line.starts_with("run_id:"));
                seen.extend(name.map(str::to_owned));
            }
            expect(seen.len() >= replicas as usize, || format!("{seen:?}"))
        })
        .await;
    }

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

    /// Waits until the process in that Pod has run for so long that its parent starts it again by
    /// itself: one that ends sooner is left to the kubelet, which takes more time for it each time.
    pub(crate) async fn has_run_for_a_while(&self, pod: &str) {
        let host = self.host(pod).await;
        eventually(secs(30), "the process has run for a while", async || {
            let mut info = redis::cmd("INFO");
            let info = info.arg("server");
            let info: RedisResult<String> = info.query_async(&mut connect(&host).await).await;
            let info = info.map_err(|error| error.to_string())?;
            let mut lines = info.lines();
            let uptime = lines.find_map(|line| line.strip_prefix("uptime_in_seconds:"));
            let uptime: u64 = uptime.and_then(|text| text.parse().ok()).unwrap_or(0);
            expect(uptime > 10, || format!("{uptime} s"))
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

    /// The leader's ports of its Pods, in the order of [`Self::hosts`].
    pub(crate) async fn leader_ports(&self, first: &str) -> Vec<String> {
        let hosts = self.hosts(first).await.into_iter();
        hosts.map(|host| format!("{host}:{LEADER_PORT}")).collect()
    }

    /// Cuts a Pod off from its peers and the operator, but not from its clients and its kubelet.
    pub(crate) async fn isolate(&self, world: &World, pod: &str, way: Way) {
        let mut from = self.hosts(pod).await.split_off(1);
        from.extend(installation::hosts(&world.client).await);
        fault::cut(world, pod, &from, way).await;
    }
}

/// Waits until the status says that nobody leads, for that reason; what it tells people goes to the
/// test's output.
pub(crate) async fn leaderless(store: &Store<'_>, reason: &str, within: Duration) {
    let message = store
        .shows(within, "nobody leads, and the status says why", |status| {
            let elected = status
                .conditions
                .iter()
                .find(|found| found.type_ == ConditionType::LeaderElected);
            let elected = elected.ok_or("no condition LeaderElected")?;
            let told = elected.status == ConditionStatus::False && elected.reason == reason;
            expect(told && !elected.message.is_empty(), || {
                format!("{elected:?}")
            })?;
            Ok(elected.message.clone())
        })
        .await;
    eprintln!("the status says: {reason}: {message}");
}

/// How often a thing is done: a few times, or often where there is much time (`E2E_LONG=1`).
pub(crate) fn times(few: usize, many: usize) -> usize {
    if is_long() { many } else { few }
}

/// Whether there is much time.
pub(crate) fn is_long() -> bool {
    std::env::var("E2E_LONG").is_ok_and(|value| value == "1")
}
