//! How long a client cannot write when the lead moves, through either Service: the table in the README.
//!
//! `make outages` repeats each often, with leases of 1 s and of 200 ms. The client is a plain one: it has one
//! connection, waits for each answer for a quarter of a second, and after an error connects anew and
//! tries again every 5 ms.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisResult;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::client::connect_within;
use crate::support::fault::{self, Way};
use crate::support::leadership::{Reign, lease, synchronous, times};
use crate::support::record::spread;
use crate::support::wait::{eventually, expect};
use crate::support::{Gate, Store, World, run, secs};

/// Clients of each Service: each is a measurement of its own.
const CLIENTS: usize = 2;
const PATIENCE: Duration = Duration::from_millis(250);
const AGAIN: Duration = Duration::from_millis(5);

/// What is done to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Its process is killed; the container's main process starts it again.
    Process,
    /// The container's main process is killed, and all of it with it, as when memory runs out.
    Container,
    /// Every packet to it and from it is dropped, as when its node is gone.
    Gone,
    /// Another one is named.
    Planned,
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn when_the_process_is_killed() {
    measure(Loss::Process);
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn when_the_container_is_killed() {
    measure(Loss::Container);
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn when_the_node_is_gone() {
    measure(Loss::Gone);
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn when_another_leader_is_named() {
    measure(Loss::Planned);
}

impl Loss {
    fn name(self) -> &'static str {
        match self {
            Self::Process => "process-killed",
            Self::Container => "container-killed",
            Self::Gone => "node-gone",
            Self::Planned => "planned",
        }
    }

    /// What a median is meant to be on a machine that has nothing else to do.
    fn goal(self) -> Duration {
        let short = lease() <= Duration::from_millis(200);
        Duration::from_millis(match self {
            Self::Process => 300,
            Self::Container | Self::Gone if short => 400,
            Self::Container | Self::Gone => 1300,
            Self::Planned => 50,
        })
    }

    async fn happens(self, world: &World, store: &Store<'_>, leader: &str) {
        match self {
            Self::Process => fault::signal(world, leader, "SIGKILL").await,
            Self::Container => fault::kill_parent(world, leader).await,
            Self::Gone => fault::cut(world, leader, &[], Way::Both).await,
            Self::Planned => {
                let target = store.some_follower().await;
                store.change(&json!({"leader": {"target": target}})).await;
            }
        }
    }

    async fn is_over(self, world: &World, store: &Store<'_>, leader: &str) {
        match self {
            Self::Gone => fault::heal(world, leader).await,
            // A container that has ended is started again later each time; in a new Pod it is not.
            Self::Container => drop(store.kubectl(&["delete", "pod", leader]).await),
            Self::Process | Self::Planned => {}
        }
        store.is_whole().await;
    }
}

/// When a client's writes were acknowledged.
type Acknowledged = Arc<Mutex<Vec<Instant>>>;

/// Clients that write, each one key. Dropping it ends them.
struct Plain {
    _tasks: JoinSet<()>,
    clients: Vec<Acknowledged>,
}

impl Plain {
    fn start(host: &str) -> Self {
        let mut tasks = JoinSet::new();
        let clients = (0..CLIENTS).map(|number| {
            let acknowledged = Acknowledged::default();
            let (host, key) = (host.to_owned(), format!("{host}:{number}"));
            tasks.spawn(write(host, key, Arc::clone(&acknowledged)));
            acknowledged
        });
        let clients = clients.collect();
        Self {
            _tasks: tasks,
            clients,
        }
    }

    /// Waits until each client has had so many answers since a moment.
    async fn goes_on(&self, since: Instant, answers: usize) {
        eventually(secs(60), "all clients write", async || {
            let counts = self.clients.iter().map(|acknowledged| {
                let all = acknowledged.lock();
                all.iter().filter(|at| **at > since).count()
            });
            let counts: Vec<usize> = counts.collect();
            expect(counts.iter().all(|count| *count >= answers), || {
                format!("{counts:?}")
            })
        })
        .await;
    }

    /// The longest time without an answer since a moment, of each client.
    fn gaps(&self, since: Instant) -> Vec<Duration> {
        let gap = |acknowledged: &Acknowledged| {
            let all = acknowledged.lock();
            let later = all.iter().copied().filter(|at| *at > since);
            let ends: Vec<Instant> = std::iter::once(since).chain(later).collect();
            let pairs = ends.windows(2).map(|pair| pair[1] - pair[0]);
            pairs.max().unwrap_or_default()
        };
        self.clients.iter().map(gap).collect()
    }
}

async fn write(host: String, key: String, acknowledged: Acknowledged) {
    loop {
        if let Ok(mut connection) = connect_within(&host, PATIENCE).await {
            loop {
                let mut set = redis::cmd("SET");
                let done: RedisResult<()> =
                    set.arg(&key).arg("v").exec_async(&mut connection).await;
                if done.is_err() {
                    break;
                }
                acknowledged.lock().push(Instant::now());
                sleep(AGAIN).await;
            }
        }
        sleep(AGAIN).await;
    }
}

/// Goal: clients write again as soon as somebody leads, whichever Service they use.
/// Method: plain clients of both Services write all the time; the leader is lost again and again, and the
/// longest time without an answer is taken for each client, from the moment before the loss.
fn measure(loss: Loss) {
    run(loss.name(), Gate::Alone, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let any = Plain::start(&store.service("").await);
        let leaders = Plain::start(&store.leader_service().await);
        let (mut any_gaps, mut leader_gaps) = (Vec::new(), Vec::new());
        for _ in 0..times(3, 10) {
            let before: Reign = store.reign().await;
            if loss == Loss::Process {
                store.has_run_for_a_while(&before.leader).await;
            }
            let begun = Instant::now();
            any.goes_on(begun, 20).await;
            leaders.goes_on(begun, 20).await;
            let lost = Instant::now();
            loss.happens(world, &store, &before.leader).await;
            store.reign_after(&before, secs(30)).await;
            let led = Instant::now();
            any.goes_on(led, 20).await;
            leaders.goes_on(led, 20).await;
            any_gaps.extend(any.gaps(lost));
            leader_gaps.extend(leaders.gaps(lost));
            loss.is_over(world, &store, &before.leader).await;
        }
        let (name, goal) = (loss.name(), loss.goal());
        let medians =
            [("NAME", any_gaps), ("NAME-leader", leader_gaps)].map(|(service, mut gaps)| {
                let what = format!(
                    "{name} through {service}, leases of {:?} (goal: {goal:?})",
                    lease()
                );
                spread(&what, &format!("{name}/{service}"), &mut gaps)
            });
        let bound = goal * 2 + Duration::from_millis(300);
        assert!(
            medians.iter().all(|median| *median < bound),
            "{name}: {medians:?}, far from {goal:?}"
        );
    });
}
