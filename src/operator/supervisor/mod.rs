//! Hears every replica: a task a Pod holds the stream of its state, keeps the newest, and wakes the
//! reconcile when something has changed that matters.
//!
//! # Design
//!
//! Detection does not wait for the kubelet, and an idle store costs nothing: replicas repeat
//! themselves every second, and a repetition wakes nobody ([`significance`]). Lag alone wakes a
//! store at most every two seconds ([`wake`]).

pub mod reigns;
pub mod significance;
pub mod wake;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::build::{ADMIN_PORT, PROCESS_PORT};
use super::context::StoreKey;
use super::replica_client::{CallError, ReplicaAdmin};
use super::view::{Heard, Led};
use crate::replication::admin::{ReplicaStatus, Role};
use crate::replication::types::Epoch;
use reigns::Reigns;
use significance::Significance;
use wake::Wake;

/// The first pause before a new attempt to connect; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause: a Pod that comes up is heard this late at most.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// After each question to the parent of a process that was just lost.
const PARENT_PAUSES: [Duration; 4] = [
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(30),
];

/// A Pod to be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The Pod's identity.
    pub uid: String,
    /// Its address.
    pub ip: IpAddr,
}

/// All streams of all stores.
pub struct Supervisor {
    admin: Arc<dyn ReplicaAdmin>,
    port: u16,
    stores: Mutex<HashMap<StoreKey, BTreeMap<u32, Watched>>>,
    /// When leaders were heard: this outlives their Pods.
    reigns: Arc<Mutex<HashMap<StoreKey, Reigns>>>,
    wake: Arc<Wake>,
}

/// One Pod with the task that hears it. The task ends with this.
struct Watched {
    target: Target,
    heard: Arc<Mutex<Option<Hearing>>>,
    task: JoinHandle<()>,
}

/// What was heard, and when.
#[derive(Clone, Debug)]
struct Hearing {
    heard: Heard,
    at: Instant,
}

impl Hearing {
    /// As of now.
    fn now(&self) -> Heard {
        Heard {
            silence: self.at.elapsed(),
            ..self.heard.clone()
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("stores", &self.stores.lock().len())
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// One that hears nobody yet.
    pub fn new(admin: Arc<dyn ReplicaAdmin>, wake: Arc<Wake>) -> Self {
        Self::with_port(admin, wake, ADMIN_PORT)
    }

    /// For tests, in which replicas share one address.
    fn with_port(admin: Arc<dyn ReplicaAdmin>, wake: Arc<Wake>, port: u16) -> Self {
        Self {
            admin,
            port,
            stores: Mutex::default(),
            reigns: Arc::default(),
            wake,
        }
    }

    /// Hears exactly these Pods of a store from now on. Must be called within a runtime.
    pub fn attend(&self, store: &StoreKey, targets: BTreeMap<u32, Target>) {
        let mut stores = self.stores.lock();
        let watched = stores.entry(store.clone()).or_default();
        watched.retain(|ordinal, watched| targets.get(ordinal) == Some(&watched.target));
        for (ordinal, target) in targets {
            watched
                .entry(ordinal)
                .or_insert_with(|| self.start(store, target));
        }
    }

    /// Hears nobody of a store any more.
    pub fn forget(&self, store: &StoreKey) {
        self.stores.lock().remove(store);
        self.reigns.lock().remove(store);
        self.wake.forget(store);
    }

    /// For how long nobody was heard to answer clients before the leader of this epoch; `None` if that was
    /// not heard.
    pub fn outage(&self, store: &StoreKey, epoch: Epoch) -> Option<Duration> {
        self.reigns.lock().get(store)?.outage(epoch)
    }

    /// What was heard last, by ordinal.
    pub fn heard(&self, store: &StoreKey) -> BTreeMap<u32, Heard> {
        let stores = self.stores.lock();
        let watched = stores.get(store).into_iter().flatten();
        watched
            .filter_map(|(ordinal, watched)| {
                let heard = watched.heard.lock().as_ref()?.now();
                Some((*ordinal, heard))
            })
            .collect()
    }

    /// Everything that was heard last, for metrics.
    pub fn all(&self) -> Vec<(StoreKey, BTreeMap<u32, Heard>)> {
        let stores: Vec<StoreKey> = self.stores.lock().keys().cloned().collect();
        stores
            .into_iter()
            .map(|store| (store.clone(), self.heard(&store)))
            .collect()
    }

    fn start(&self, store: &StoreKey, target: Target) -> Watched {
        let heard = Arc::new(Mutex::new(None));
        let listener = Listener {
            admin: Arc::clone(&self.admin),
            address: SocketAddr::new(target.ip, self.port),
            parent: SocketAddr::new(target.ip, PROCESS_PORT),
            heard: Arc::clone(&heard),
            reigns: Arc::clone(&self.reigns),
            wake: Arc::clone(&self.wake),
            store: store.clone(),
        };
        Watched {
            target,
            heard,
            task: tokio::spawn(listener.run()),
        }
    }
}

/// Hears one Pod, for ever.
struct Listener {
    admin: Arc<dyn ReplicaAdmin>,
    address: SocketAddr,
    parent: SocketAddr,
    heard: Arc<Mutex<Option<Hearing>>>,
    reigns: Arc<Mutex<HashMap<StoreKey, Reigns>>>,
    wake: Arc<Wake>,
    store: StoreKey,
}

impl Listener {
    async fn run(self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let error = self.listen(&mut backoff).await;
            if self.lost(&error) {
                tracing::info!(store = %self.store, at = %self.address, %error, "lost a replica");
                for pause in PARENT_PAUSES {
                    if self.ask_parent().await {
                        break;
                    }
                    tokio::time::sleep(pause).await;
                }
            } else {
                tracing::debug!(store = %self.store, at = %self.address, %error, "no replica there");
                self.ask_parent().await;
                tokio::time::sleep(backoff).await;
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Asks the parent of a leader's process that was lost whether it has ended, which it may learn
    /// a moment later than we do; says whether there is nothing more to ask.
    async fn ask_parent(&self) -> bool {
        let led = self.heard.lock().as_ref().and_then(|it| {
            let led = it.heard.led?.incarnation;
            (!it.heard.connected && !it.heard.ended.contains(&led)).then_some(led)
        });
        let Some(led) = led else {
            return true;
        };
        let Ok(status) = self.admin.process(self.parent).await else {
            return true;
        };
        if !status.ended.contains(&led) {
            return false;
        }
        if let Some(hearing) = self.heard.lock().as_mut() {
            hearing.heard.ended = status.ended;
        }
        tracing::info!(store = %self.store, at = %self.address, "the leader's process has ended");
        self.wake.now(&self.store);
        true
    }

    /// Hears until the stream breaks.
    async fn listen(&self, backoff: &mut Duration) -> CallError {
        let mut stream = match self.admin.watch(self.address).await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        loop {
            match stream.next().await {
                Some(Ok(status)) => {
                    *backoff = BACKOFF_MIN;
                    self.note(status);
                }
                Some(Err(error)) => return error,
                None => return CallError::Ended,
            }
        }
    }

    fn note(&self, status: ReplicaStatus) {
        let mut hearing = self.heard.lock();
        let before = hearing.as_ref().map(|it| &it.heard);
        let significance = match before.filter(|heard| heard.connected) {
            Some(before) => significance::compare(&before.status, &status),
            None => Significance::Hard,
        };
        self.note_reign(&status);
        let heard = heard(before, status);
        *hearing = Some(Hearing {
            heard,
            at: Instant::now(),
        });
        drop(hearing);
        match significance {
            Significance::None => {}
            Significance::Slow => self.wake.later(&self.store),
            Significance::Soft => self.wake.soon(&self.store),
            Significance::Hard => self.wake.now(&self.store),
        }
    }

    /// Notes when a leader answers.
    fn note_reign(&self, status: &ReplicaStatus) {
        if reigns::answers(status) {
            let mut reigns = self.reigns.lock();
            let reigns = reigns.entry(self.store.clone()).or_default();
            reigns.note(status.epoch, Instant::now());
        }
    }

    /// Notes that it is not heard any more; says whether it was.
    fn lost(&self, error: &CallError) -> bool {
        let mut heard = self.heard.lock();
        let mut was = false;
        if let Some(hearing) = heard.as_mut() {
            was = std::mem::take(&mut hearing.heard.connected);
            // A connection that breaks has been up until then; one that was silent is given up late.
            if was && !matches!(error, CallError::Timeout) {
                self.note_reign(&hearing.heard.status);
            }
        }
        drop(heard);
        if was {
            self.wake.now(&self.store);
        }
        was
    }
}

/// What is heard now, with what must be known of what was heard before.
pub fn heard(before: Option<&Heard>, status: ReplicaStatus) -> Heard {
    let led = (status.role == Role::Leader).then_some(Led {
        epoch: status.epoch,
        id: status.id,
        incarnation: status.incarnation,
    });
    let hears = status
        .leader_heard
        .then_some((status.incarnation, status.epoch));
    Heard {
        connected: true,
        at: Timestamp::now().as_second(),
        silence: Duration::ZERO,
        led: led.or(before.and_then(|it| it.led)),
        heard_leader: hears.or(before.and_then(|it| it.heard_leader)),
        ended: before.map(|it| it.ended.clone()).unwrap_or_default(),
        status,
    }
}

#[cfg(test)]
mod tests;
