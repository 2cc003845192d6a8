//! Starts a replica, and stops it in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::{self, Admin};
use super::background::{self, Background};
use super::clients::Clients;
use super::data_dir::{Access, DataDir};
use super::gather::Patience;
use super::host::Process;
use super::listener::{self, ClientContext};
use super::node::{Node, NodeParts};
use super::options::RunOptions;
use super::peer::{self, PeerContext};
use super::recover::{self, Mode};
use super::room;
use super::scrub::Scrub;
use super::snapshots::Snapshots;
use super::state::memory_budget;
use super::throttle::Throttle;
use super::upkeep::Upkeep;
use super::writer::Writer;
use super::{applier, divergent, expiry, forward, leave, parent, process, upkeep};
use crate::command::Stats;
use crate::env::{Clock, SystemClock};
use crate::log::Log;
use crate::replication::admin::{Assignment, Member, Settings};
use crate::replication::{Addressee, Configuration, Core, Input, ReplicaId};

/// Clients' commands that were begun get this long to end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);
/// A standalone replica that does not lead tries to so often.
const LEAD_AGAIN: Duration = Duration::from_millis(500);
/// How old a durable note of the log's end may be.
const SETTLE: Duration = Duration::from_millis(500);
/// Clients and tasks get this long to end when the replica stops.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Runs a replica until `asked` to stop, or until an error after which it must not go on.
pub async fn run(options: RunOptions, asked: CancellationToken) -> anyhow::Result<()> {
    if options.incarnation.is_some() {
        parent::end_with_parent();
    }
    let stop = CancellationToken::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut settings = read_settings(options.settings.as_deref())?;
    settings.max_memory = options.max_memory.unwrap_or(settings.max_memory);
    let budget = memory_budget(&settings);
    let fresh = || ReplicaId(rand::random());
    let mut dir = DataDir::open(&options.data_dir, Access::Use, fresh)?;
    if options.standalone {
        dir.stands_alone()?;
    }
    dir.settle_promises(options.standalone, fresh)?;
    let dir = Arc::new(dir);
    let mode = if options.standalone || dir.votes_alone()? {
        Mode::Alone
    } else {
        Mode::Replicated
    };
    let opened = recover::open(&dir, &settings, mode)?;
    let core = Core::new(dir.id(), opened.recovered.clone(), clock.monotonic());
    tracing::info!(
        id = %dir.id(),
        end = %opened.recovered.end,
        flushed = %opened.recovered.flushed,
        complete = opened.recovered.complete,
        "opened {}", dir.path().display()
    );
    let parts = NodeParts {
        id: dir.id(),
        chain: opened.chain,
        time_ms: opened.time_ms,
        settings,
        memory_budget: budget,
        divergent: divergent::newest(dir.path())?,
        names: dir.adopted()?.names,
        claim: dir.claim()?,
        damage: opened.damage,
        message: opened.message,
        alone: options.standalone,
        log: opened.reader.clone(),
        clock: Arc::clone(&clock),
    };
    let node = Arc::new(Node::new(core, opened.store, parts));
    room::look(&node, &dir);
    node.with(|inner| admin::apply_settings(&node, inner, inner.settings.clone()));
    let snapshots = Arc::new(Snapshots::open(Arc::clone(&dir)).context("opening snapshots/")?);

    let bind = async |address, what: &str| {
        let listener = TcpListener::bind(address).await;
        listener.with_context(|| format!("listening on {address} for {what}"))
    };
    let clients_listener = bind(options.listen, "clients").await?;
    let leader_listener = match options.leader_listen {
        Some(address) => Some(bind(address, "clients of the leader").await?),
        None => None,
    };
    let leader_port = match &leader_listener {
        Some(listener) => listener.local_addr()?.port(),
        None => 0,
    };
    let peer_listener = bind(options.peer_listen, "other replicas").await?;
    let admin_listener = bind(options.admin_listen, "administration").await?;
    let process = Arc::new(Process {
        run_id: format!("{:040x}", rand::random::<u128>()),
        port: clients_listener.local_addr()?.port(),
        started: clock.monotonic(),
        max_clients: options.max_clients,
        total_memory: process::memory_limit(),
        flushed_at: Arc::default(),
        commands_per_s: Arc::default(),
    });
    tracing::info!(
        clients = %clients_listener.local_addr()?,
        peers = %peer_listener.local_addr()?,
        admin = %admin_listener.local_addr()?,
        "listens"
    );

    let failed = CancellationToken::new();
    let writer = Writer {
        node: Arc::clone(&node),
        log: opened.log,
        reader: opened.reader.clone(),
        dir: Arc::clone(&dir),
        stop: stop.clone(),
        patience: Patience::default(),
        note_failed: false,
    };
    let (for_applier, log, stopped) = (Arc::clone(&node), opened.reader.clone(), stop.clone());
    let (for_compaction, ended) = (Arc::clone(&node), stop.clone());
    let upkeep = Upkeep {
        node: Arc::clone(&node),
        dir: Arc::clone(&dir),
        snapshots: Arc::clone(&snapshots),
        log: opened.reader.clone(),
        flushed_at: Arc::clone(&process.flushed_at),
        stop: stop.clone(),
    };
    let scrub = Scrub {
        node: Arc::clone(&node),
        dir: Arc::clone(&dir),
        log: opened.reader.clone(),
        every: options.scrub_interval,
        rate: options.scrub_rate,
        stop: stop.clone(),
    };
    let for_disk = (Arc::clone(&node), Arc::clone(&dir), stop.clone());
    let noted = (opened.reader.clone(), stop.clone());
    let threads = [
        thread("writer", &failed, move || writer.run())?,
        thread("applier", &failed, move || {
            Ok(applier::run(&for_applier, &log, &stopped)?)
        })?,
        thread("disk", &failed, move || {
            room::watch(&for_disk.0, &for_disk.1, &for_disk.2);
            Ok(())
        })?,
        thread("watermark", &failed, move || {
            settle(&noted.0, &noted.1);
            Ok(())
        })?,
        thread("scrub", &failed, move || {
            background::step_back(background::FAR);
            Ok(scrub.run()?)
        })?,
        thread("upkeep", &failed, move || {
            background::step_back(background::NEAR);
            Ok(upkeep.run()?)
        })?,
        thread("compaction", &failed, move || {
            background::step_back(background::NEAR);
            Ok(upkeep::compact(&for_compaction, &ended)?)
        })?,
    ];

    let background = Background::new().context("starting the threads that copy states")?;
    let tasks = TaskTracker::new();
    let clients = Arc::new(Clients::default());
    let drain = CancellationToken::new();
    let stats = Arc::new(Stats::default());
    let context = PeerContext {
        node: Arc::clone(&node),
        log: opened.reader.clone(),
        snapshots: Arc::clone(&snapshots),
        throttle: Arc::new(Throttle::new()),
        clients: Arc::clone(&clients),
        stats: Arc::clone(&stats),
        process: Arc::clone(&process),
        background: background.clone(),
    };
    tasks.spawn(peer::listen(peer_listener, context, stop.clone()));
    let name = options.name.clone();
    tasks.spawn(peer::follower::run(
        Arc::clone(&node),
        opened.reader.clone(),
        name.clone(),
        stop.clone(),
    ));
    tasks.spawn(forward::run(Arc::clone(&node), stop.clone()));
    let target = peer::seed_target::SeedTarget {
        node: Arc::clone(&node),
        dir: Arc::clone(&dir),
        log: opened.reader,
        failed: failed.clone(),
    };
    tasks.spawn_on(target.run(stop.clone()), &background);
    tasks.spawn(expiry::run(Arc::clone(&node), stop.clone()));
    let rate = Arc::clone(&process.commands_per_s);
    tasks.spawn(process::measure_rate(
        Arc::clone(&stats),
        rate,
        stop.clone(),
    ));
    tasks.spawn(peer::tick(Arc::clone(&node), stop.clone()));
    let admin = Arc::new(Admin {
        node: Arc::clone(&node),
        name,
        // Exact in JSON numbers everywhere.
        incarnation: options
            .incarnation
            .unwrap_or_else(|| rand::random::<u64>() >> 12),
        stats: Arc::clone(&stats),
        clients: Arc::clone(&clients),
        snapshots,
        standalone: options.standalone,
        leader_port,
        stop: stop.clone(),
    });
    tasks.spawn(admin::serve(admin_listener, admin, stop.clone()));
    if options.standalone {
        lead_alone(&node, &options);
        let (node, options, stop) = (Arc::clone(&node), options.clone(), stop.clone());
        tasks.spawn(async move { lead_again(&node, &options, &stop).await });
    }
    let served = Arc::clone(&clients);
    let clients_context = ClientContext {
        node: Arc::clone(&node),
        clients,
        stats,
        process,
        drain: drain.clone(),
        tasks: tasks.clone(),
        strict: false,
    };
    if let Some(listener) = leader_listener {
        let strict = true;
        let context = ClientContext {
            strict,
            ..clients_context.clone()
        };
        tasks.spawn(listener::listen(listener, context));
    }
    tasks.spawn(listener::listen(clients_listener, clients_context));

    let patience = Duration::from_secs(options.leave_timeout);
    let in_order = async {
        leave::after(&asked, &node, patience).await;
        drain.cancel();
        served.drain();
        leave::clients(&served, DRAIN_DEADLINE).await;
    };
    tokio::select! {
        () = in_order => {}
        () = failed.cancelled() => drain.cancel(),
    }
    stop.cancel();
    served.kill_all();
    node.with(|inner| inner.store.as_ref().map(|store| store.engine().interrupt()));
    tracing::info!("stopping");
    tasks.close();
    if tokio::time::timeout(STOP_DEADLINE, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time");
    }
    for waiting in [&node.work, &node.apply, &node.upkeep] {
        waiting.notify_all();
    }
    let joined = tokio::task::spawn_blocking(move || threads.map(std::thread::JoinHandle::join));
    for ended in joined.await? {
        ended.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(())
}

/// Makes the notes of the log's end durable, until `stop`: of a machine that ends, a piece of the log
/// that goes missing with it is noticed, but for what was written since.
fn settle(log: &Log, stop: &CancellationToken) {
    let mut failed = false;
    while !stop.is_cancelled() {
        // In slices, as whoever stops the replica waits for it.
        for _ in 0..10 {
            if !stop.is_cancelled() {
                std::thread::sleep(SETTLE / 10);
            }
        }
        if let Err(error) = log.settle()
            && !std::mem::replace(&mut failed, true)
        {
            tracing::warn!(%error, "noting how far the log is durable");
        }
    }
}

type Thread = std::thread::JoinHandle<anyhow::Result<()>>;

/// Runs `body` on a thread of its own; whatever ends it before the stop ends the replica.
fn thread(
    name: &'static str,
    failed: &CancellationToken,
    body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<Thread> {
    let guard = failed.clone().drop_guard();
    let spawned = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _guard = guard;
            let ended = body();
            if let Err(error) = &ended {
                tracing::error!(thread = name, "this replica cannot go on: {error:#}");
            }
            ended
        });
    spawned.with_context(|| format!("starting the {name} thread"))
}

fn read_settings(path: Option<&Path>) -> anyhow::Result<Settings> {
    let Some(path) = path else {
        return Ok(Settings::default());
    };
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("settings in {}", path.display()))
}

/// One that had to step down, since its disk had stalled, has no operator that names it anew.
async fn lead_again(node: &Node, options: &RunOptions, stop: &CancellationToken) {
    let mut looks = tokio::time::interval(LEAD_AGAIN);
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        if node.with(|inner| inner.core.leading().is_none()) {
            lead_alone(node, options);
        }
    }
}

/// Leads a store of one replica, in an epoch after every one that this data directory has seen.
fn lead_alone(node: &Node, options: &RunOptions) {
    let (id, settings) = node.with(|inner| (node.id, inner.settings.clone()));
    let (epoch, version) = node.with(|inner| {
        let (view, adopted) = (inner.core.view(), inner.core.adopted_configuration());
        let seen = view.hard.promised.max(view.hard.begun);
        let epoch = seen.max(view.last.epoch).max(adopted.epoch).next();
        (epoch, adopted.version.saturating_add(1))
    });
    let host = options
        .advertise
        .clone()
        .unwrap_or_else(|| options.listen.ip().to_string());
    let member = Member {
        id,
        name: options.name.clone(),
        peer_address: options.peer_listen.to_string(),
        client_address: format!("{host}:{}", options.listen.port()),
        fenced: false,
    };
    let configuration = Configuration {
        version,
        epoch,
        leader: Some(id),
        voters: [id].into(),
        ..Configuration::default()
    };
    // As an operator would: an epoch is begun by whoever has promised it.
    node.with(|inner| {
        let (ticket, to) = (0, Addressee::default());
        node.drive(inner, Input::Promise { epoch, ticket, to });
    });
    admin::apply_assignment(
        node,
        Assignment {
            configuration,
            members: vec![member],
            settings,
            stamp: 0,
        },
    );
    node.with(|inner| node.drive(inner, Input::Tick));
}
