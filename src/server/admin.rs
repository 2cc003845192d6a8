//! The admin interface over HTTP: status, configuration, promises, digest, probes, metrics. It hands
//! on what it is told and decides nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::inner::{Job, Progress};
use super::metrics;
use super::node::Node;
use super::state::{memory_budget, set_budget};
use super::status::{readiness, status};
use crate::command::Stats;
use crate::replication::admin::{
    Assignment, ClaimRequest, Digest, PromiseRequest, ReplicaState, ReplicaStatus, Settings,
    Shortfall, SwitchoverRequest,
};
use crate::replication::{Addressee, Input};
use crate::server::clients::Clients;

/// At most so often does a stream tell a change.
const STREAM_PACE: Duration = Duration::from_millis(200);
/// A stream tells the status at least this often, and three times a lease.
const STREAM_BEAT: Duration = Duration::from_secs(1);
/// However short the lease, it is told no more often without a reason.
const DENSEST_BEAT: Duration = Duration::from_millis(50);

/// How often a stream tells the status at least.
pub(super) fn stream_beat(lease: Duration) -> Duration {
    (lease / 3).clamp(DENSEST_BEAT, STREAM_BEAT)
}
/// A promise waits for the log to be quiet and for one small write.
const PROMISE_DEADLINE: Duration = Duration::from_secs(10);
/// A digest reads the whole state.
const DIGEST_DEADLINE: Duration = Duration::from_mins(5);

/// A UID is 36 characters long.
const MAX_CLAIM: usize = 128;

/// What the handlers work with.
pub(super) struct Admin {
    pub(super) node: Arc<Node>,
    pub(super) name: String,
    pub(super) incarnation: u64,
    /// 0 for none.
    pub(super) leader_port: u16,
    pub(super) stats: Arc<Stats>,
    pub(super) clients: Arc<Clients>,
    pub(super) snapshots: Arc<super::snapshots::Snapshots>,
    /// It leads by itself: no operator has anything to say.
    pub(super) standalone: bool,
    /// Ends the streams, so that a stop does not wait for whoever listens to them.
    pub(super) stop: CancellationToken,
}

type Shared = State<Arc<Admin>>;

/// Serves until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    admin: Arc<Admin>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route(
            "/status",
            get(async |State(admin): Shared| Json(admin.status())),
        )
        .route("/status/stream", get(stream))
        .route("/configuration", get(configuration).put(configure))
        .route("/promise", post(promise))
        .route("/claim", post(claim))
        .route("/switchover", post(switchover))
        .route("/digest", get(digest))
        .route(
            "/metrics",
            get(async |State(admin): Shared| metrics::render(&admin)),
        )
        .with_state(admin);
    let ended = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    ended.await
}

impl Admin {
    pub(super) fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            leader_port: self.leader_port,
            ..status(&self.node, &self.name, self.incarnation)
        }
    }

    /// What an operator is told by a replica that takes orders from nobody.
    fn independent(&self) -> Option<Response> {
        let reason =
            "this replica was started with --standalone: it leads by itself and takes no orders\n";
        self.standalone
            .then(|| (StatusCode::CONFLICT, reason).into_response())
    }
}

async fn ready(State(admin): Shared) -> Response {
    let ready = admin.node.with(|inner| {
        let view = inner.core.view();
        readiness(inner, &view)
    });
    match ready {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// The status as lines of JSON: at once, on changes, and now and then. Every state that is entered
/// is told, however short.
async fn stream(State(admin): Shared) -> Response {
    let watching = Watching {
        changes: admin.node.changes.subscribe(),
        urgent: admin.node.urgent.subscribe(),
        progress: admin.node.progress.subscribe(),
        states: admin.node.states.subscribe(),
        first: true,
        admin,
    };
    let lines = futures::stream::unfold(watching, async |mut watching| {
        let stop = watching.admin.stop.clone();
        let status = stop.run_until_cancelled(watching.next()).await?;
        let mut line = serde_json::to_vec(&status).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), watching))
    });
    let body = Body::from_stream(lines);
    ([("content-type", "application/x-ndjson")], body).into_response()
}

/// What a stream of statuses looks at.
struct Watching {
    admin: Arc<Admin>,
    changes: watch::Receiver<u64>,
    urgent: watch::Receiver<u64>,
    progress: watch::Receiver<Progress>,
    states: broadcast::Receiver<ReplicaState>,
    first: bool,
}

impl Watching {
    /// The next status that is worth telling.
    async fn next(&mut self) -> ReplicaStatus {
        if std::mem::take(&mut self.first) {
            return self.admin.status();
        }
        let lease = self.admin.node.with(|inner| inner.core.lease());
        let beat = Instant::now() + stream_beat(lease);
        let pace = STREAM_PACE.min(stream_beat(lease));
        let paced = self.states.is_empty();
        let urgent = paced
            && tokio::time::timeout(pace, self.urgent.changed())
                .await
                .is_ok();
        let entered = if urgent {
            None
        } else {
            tokio::select! {
                biased;
                state = self.states.recv() => state.ok(),
                _ = self.urgent.changed() => None,
                _ = self.changes.changed() => None,
                _ = self.progress.changed() => None,
                () = tokio::time::sleep_until(beat) => None,
            }
        };
        let mut status = self.admin.status();
        match entered {
            Some(state) => {
                // By now it may be in another one: that is told next.
                status.ready &= state == status.state;
                status.state = state;
            }
            None => {
                self.changes.mark_unchanged();
                self.progress.mark_unchanged();
            }
        }
        status
    }
}

/// What the operator handed over last.
async fn configuration(State(admin): Shared) -> Json<Assignment> {
    Json(admin.node.with(|inner| Assignment {
        configuration: inner.core.configuration().clone(),
        members: inner.members.values().cloned().collect(),
        settings: inner.settings.clone(),
        stamp: inner.stamp,
    }))
}

async fn configure(State(admin): Shared, Json(assignment): Json<Assignment>) -> Response {
    if let Some(refusal) = admin.independent() {
        return refusal;
    }
    let known = assignment
        .members
        .iter()
        .any(|member| member.id == admin.node.id);
    if !known {
        let reason = format!(
            "{} is not among the members of this assignment\n",
            admin.node.id
        );
        return (StatusCode::CONFLICT, reason).into_response();
    }
    let configuration = &assignment.configuration;
    let refusal = admin.node.with(|inner| inner.core.refuses(configuration));
    if let Some(reason) = refusal {
        return (StatusCode::CONFLICT, format!("{reason}\n")).into_response();
    }
    apply_assignment(&admin.node, assignment);
    StatusCode::OK.into_response()
}

/// Takes over an assignment: members and settings at once, the configuration as the core decides.
pub(super) fn apply_assignment(node: &Node, assignment: Assignment) {
    let Assignment {
        configuration,
        members,
        settings,
        stamp,
    } = assignment;
    node.with(|inner| {
        inner.stamp = stamp;
        inner.members = members
            .into_iter()
            .map(|member| (member.id, member))
            .collect();
        let present: Vec<_> = inner.members.keys().copied().collect();
        inner.durable_of.retain(|id, _| present.contains(id));
        inner.applied_of.retain(|id, _| present.contains(id));
        apply_settings(node, inner, settings);
        // One that cannot open its state would lead without ever answering.
        let stateless = inner.store.is_none() && inner.damage.is_some();
        if stateless && configuration.leader == Some(node.id) {
            tracing::error!("named as leader, without a state to lead with");
            return;
        }
        node.drive(inner, Input::Configure(configuration));
    });
    node.changed();
}

/// Takes over the user's settings.
pub(super) fn apply_settings(node: &Node, inner: &mut super::inner::Inner, settings: Settings) {
    let lease = Duration::from_millis(settings.lease_ms);
    node.drive(inner, Input::SetLease(lease));
    let held = match settings.on_shortfall {
        Shortfall::Block => settings.sync_replicas,
        Shortfall::Degrade => 0,
    };
    node.drive(inner, Input::SetReplySync(held));
    inner.memory_budget = memory_budget(&settings);
    if let Some(store) = &mut inner.store {
        set_budget(store, inner.memory_budget, inner.disk.flush_bytes);
    }
    inner.settings = settings;
}

async fn promise(State(admin): Shared, Json(request): Json<PromiseRequest>) -> Response {
    if let Some(refusal) = admin.independent() {
        return refusal;
    }
    let (answer, answered) = oneshot::channel();
    let node = &admin.node;
    node.with(|inner| {
        inner.next_ticket += 1;
        let ticket = inner.next_ticket;
        inner.promises.insert(ticket, answer);
        node.drive(
            inner,
            Input::Promise {
                epoch: request.epoch,
                ticket,
                to: request.addressee(),
            },
        );
    });
    match tokio::time::timeout(PROMISE_DEADLINE, answered).await {
        Ok(Ok(Ok(answer))) => Json(answer).into_response(),
        Ok(Ok(Err(reason))) => (StatusCode::CONFLICT, format!("{reason}\n")).into_response(),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the log is not quiet yet\n",
        )
            .into_response(),
    }
}

/// Learns to which claim its disk belongs, or that the disk is a copy of another one.
async fn claim(State(admin): Shared, Json(request): Json<ClaimRequest>) -> Response {
    if let Some(refusal) = admin.independent() {
        return refusal;
    }
    let ClaimRequest { id, claim, copy } = request;
    let node = &admin.node;
    if id != node.id {
        let reason = format!("this is replica {}, not {id}\n", node.id);
        return (StatusCode::CONFLICT, reason).into_response();
    }
    if claim.is_empty() || claim.len() > MAX_CLAIM {
        let reason = format!("the UID of a claim has 1 to {MAX_CLAIM} bytes\n");
        return (StatusCode::BAD_REQUEST, reason).into_response();
    }
    let job = if copy {
        Job::Renew(format!(
            "its disk is a copy of the one of another claim, and now belongs to claim {claim}"
        ))
    } else {
        Job::Bind(claim)
    };
    node.with(|inner| node.enqueue(inner, job));
    StatusCode::ACCEPTED.into_response()
}

/// Holds client commands, and promises once the target has everything.
async fn switchover(State(admin): Shared, Json(request): Json<SwitchoverRequest>) -> Response {
    if let Some(refusal) = admin.independent() {
        return refusal;
    }
    let (answer, answered) = oneshot::channel();
    let node = &admin.node;
    let within = Duration::from_millis(request.deadline_ms);
    node.with(|inner| {
        inner.next_ticket += 1;
        let ticket = inner.next_ticket;
        inner.promises.insert(ticket, answer);
        let (epoch, target) = (request.epoch, request.target);
        let to = Addressee {
            id: request.to,
            store: request.store,
        };
        let input = Input::Switchover {
            epoch,
            target,
            within,
            ticket,
            to,
        };
        node.drive(inner, input);
    });
    match tokio::time::timeout(within + PROMISE_DEADLINE, answered).await {
        Ok(Ok(Ok(answer))) => Json(answer).into_response(),
        Ok(Ok(Err(reason))) => (StatusCode::CONFLICT, format!("{reason}\n")).into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not in time\n").into_response(),
    }
}

async fn digest(State(admin): Shared) -> Response {
    let made = tokio::time::timeout(DIGEST_DEADLINE, digest_of(&admin)).await;
    match made {
        Ok(Ok(digest)) => Json(digest).into_response(),
        Ok(Err(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "too slow\n").into_response(),
    }
}

/// Flushes, and reads what was flushed: so the state itself is compared, not the log.
async fn digest_of(admin: &Admin) -> Result<Digest, String> {
    let (reply, flushed) = oneshot::channel();
    let engine = admin.node.with(|inner| {
        let store = inner.store.as_ref().ok_or("being seeded")?;
        let engine = Arc::clone(store.engine());
        let request = super::snapshots::SnapshotRequest {
            reply,
            by: None,
            at_least: Some(inner.whole()),
        };
        inner.snapshot_requests.push(request);
        Ok::<_, &str>(engine)
    })?;
    admin.node.upkeep.notify_all();
    let manifest = flushed.await.map_err(|_| "stopping")??;
    admin.snapshots.end(manifest.id, true);
    let read = tokio::task::spawn_blocking(move || crate::store::digest(&*engine)).await;
    let (meta, digest) = read
        .map_err(|error| error.to_string())?
        .map_err(|e| e.to_string())?;
    let sum = format!("{:032x}", digest.sum);
    Ok(Digest {
        lsn: meta.flushed,
        keys: digest.keys,
        digest: sum,
    })
}
