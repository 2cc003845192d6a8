//! A store under mixed load for hours, with everything that happens to one: restarts, kills, lost disks,
//! changes of leader. What it takes stays bounded, and what it holds is what clients know it holds.
//!
//! `IT_SOAK=2h` (`make soak FOR=2h`) makes it long.

mod bounds;
mod load;
mod model;
mod samples;
mod steps;
mod walk;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use replicated_store::replication::admin::Settings;

use self::bounds::{BUDGET, DISK, RETENTION, broken, grown, segment};
use self::load::{CLIENTS, Ends, Gauges, Load};
use self::samples::{Process, Sample, Watch};
use self::steps::Steps;
use self::walk::Walker;
use super::support::{Replica, SmallDisk, TestStore, eventually, how_long, link_to, seed};

/// Keys of all clients in a long run: with their values about four times the budget.
const KEYS: usize = 11_000;

/// A run that is as long has had every step, and everything verified.
const WHOLE: Duration = Duration::from_mins(15);

/// How the two kinds of runs differ.
struct Plan {
    length: Duration,
    keys: usize,
    /// Between two steps, two walks, two samples.
    step: Duration,
    walk: Duration,
    sample: Duration,
    scrub: &'static str,
    /// Whether one replica at a time is left alone, so that what grows slowly shows.
    spares: bool,
}

fn plan() -> Plan {
    let short = Duration::from_secs(8);
    let length = how_long("IT_SOAK", short);
    let long = length > short;
    let seconds =
        |in_long, in_short| Duration::from_secs_f64(if long { in_long } else { in_short });
    Plan {
        length,
        keys: if long { KEYS } else { KEYS / 8 },
        step: seconds(40.0, 0.3),
        walk: seconds(10.0, 0.2),
        sample: seconds(3.0, 0.3),
        scrub: if long { "240" } else { "2" },
        spares: long,
    }
}

/// Random choices beside those of the clients.
fn rng(seed: u64, number: usize) -> SmallRng {
    SmallRng::seed_from_u64(seed.wrapping_sub(number as u64))
}

/// Goal: nothing grows that should not, and no mixture of commands and faults loses or spoils anything.
/// Method: clients that know what their keys hold check every answer, while steps are taken one after the
/// other and samples of the processes are held against bounds; at the end everything is compared.
#[test]
fn a_store_stays_within_bounds_and_right() {
    let (plan, seed) = (plan(), seed("a_store_stays_within_bounds_and_right"));
    // Without small file systems of their own they share a large one: then the log takes more.
    let disks: Vec<SmallDisk> = (0..3).map_while(|_| SmallDisk::new(DISK)).collect();
    let settings = Settings {
        sync_replicas: 1,
        log_retention: RETENTION,
        max_memory: BUDGET,
        ..Settings::default()
    };
    let memory = BUDGET.to_string();
    let arguments = ["--max-memory", &memory, "--scrub-interval", plan.scrub];
    let mut store = TestStore::start_as(3, settings, &arguments, |root| {
        link_to(root, disks.iter().map(SmallDisk::path));
    });
    store.vote_all(1);
    store.settle();
    walk::prepare(&mut store.replicas[0].client());
    let gauges = Arc::<Gauges>::default();
    let addresses = store.replicas.iter().map(Replica::client_address);
    let addresses = Arc::new(addresses.collect::<Vec<_>>());
    let _ends = Ends(Arc::clone(&gauges));
    let load = |number| Load::new(number, plan.keys / CLIENTS, &addresses, &gauges, seed);
    let mut clients: Vec<Load> = (0..CLIENTS).map(load).collect();
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| client.fill());
        }
    });
    let begin = Instant::now();
    let watch = Watch::start(begin, plan.sample, &gauges);
    let walker = Walker {
        addresses: Arc::clone(&addresses),
        gauges: Arc::clone(&gauges),
        random: rng(seed, 1),
        pause: plan.walk,
    };
    let walker = std::thread::spawn(move || walker.work());
    let workers = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            client.work();
            client
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut steps = Steps::new(rng(seed, 2));
    under_load(&plan, &mut store, &mut steps, begin, &watch, &gauges);
    gauges.stop.store(true, Ordering::Relaxed);
    let walks = walker.join().expect("the walks missed nothing");
    let clients = workers
        .into_iter()
        .map(|worker| worker.join().expect("what was read is right"));
    let clients: Vec<Load> = clients.collect();
    store.settle();
    let read = |replica: &Replica| {
        let mut client = replica.client();
        clients
            .iter()
            .map(|load| load.agrees(&mut client))
            .sum::<usize>()
    };
    let read: usize = store.replicas.iter().map(read).sum();
    same(&store);
    let samples = watch.samples.lock().clone();
    println!("{steps}; {walks} walks; {read} keys read at the end; seed {seed}");
    summary(&samples);
    let mut wrong = broken(&samples, segment(disks.len() == 3));
    wrong.extend(grown(&samples));
    let first: Vec<&String> = wrong.iter().take(20).collect();
    assert!(
        wrong.is_empty(),
        "{} times out of bounds: {first:#?}",
        wrong.len()
    );
    assert!(walks > 0 && read > 0 && !samples.is_empty());
    if plan.length >= WHOLE {
        let sum = |of: fn(&Sample) -> u64| samples.iter().map(of).sum::<u64>();
        assert!(sum(|sample| sample.scrubs) > 0 && sum(|sample| sample.evicted) > 0);
        assert!(steps.seeds.iter().all(|count| *count > 0), "{steps}");
    }
}

/// Steps, one after the other, until the time is over.
fn under_load(
    plan: &Plan,
    store: &mut TestStore,
    steps: &mut Steps,
    begin: Instant,
    watch: &Watch,
    gauges: &Gauges,
) {
    let mut told = Instant::now();
    while begin.elapsed() < plan.length && !gauges.wrong.load(Ordering::Relaxed) {
        *watch.processes.lock() = processes(store);
        // The steps' pace, not a wait for anything.
        std::thread::sleep(plan.step);
        let part = begin.elapsed().as_secs_f64() / plan.length.as_secs_f64();
        let spared = plan.spares.then_some(if part < 0.5 { 1 } else { 2 });
        steps.next(store, spared);
        *watch.processes.lock() = processes(store);
        if told.elapsed() > Duration::from_mins(1) {
            told = Instant::now();
            println!(
                "{:5} s: {} operations, {} in doubt, {} refused, {} MB live; {steps}",
                begin.elapsed().as_secs(),
                gauges.operations.load(Ordering::Relaxed),
                gauges.in_doubt.load(Ordering::Relaxed),
                gauges.refused.load(Ordering::Relaxed),
                gauges.live.load(Ordering::Relaxed) >> 20
            );
            let samples = watch.samples.lock();
            tell(&samples);
            let wrong = broken(&samples, segment(true));
            if let Some(last) = wrong.last() {
                println!(
                    "        {} times out of bounds, the last: {last}",
                    wrong.len()
                );
            }
        }
    }
}

fn processes(store: &TestStore) -> Vec<Process> {
    let all = store.replicas.iter().enumerate();
    let running = all.filter_map(|(replica, process)| {
        Some(Process {
            replica,
            pid: process.pid()?,
            dir: process.dir.clone(),
            admin: process.admin_address(),
        })
    });
    running.collect()
}

/// All hold the same, once what expires has been deleted.
fn same(store: &TestStore) {
    eventually("all replicas hold the same", || {
        store.settle();
        let digests: Vec<_> = store.replicas.iter().map(Replica::digest).collect();
        digests
            .windows(2)
            .all(|pair| pair[0] == pair[1])
            .then_some(())
    });
}

/// The last sample of each replica.
fn tell(samples: &[Sample]) {
    for replica in 0..3 {
        let last = samples
            .iter()
            .rev()
            .find(|sample| sample.replica == replica);
        if let Some(last) = last {
            println!("        {}", line(last));
        }
    }
}

fn line(sample: &Sample) -> String {
    let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    format!(
        "replica-{} ({:6}) rss {:5.1} MB, data {:4.1}, state {:5.1} (in use {:5.1}), log {:5.1}, \
         {:3} files, {:2} threads, {} scrubs, {} evicted",
        sample.replica,
        sample.pid,
        mb(sample.rss),
        mb(sample.memory),
        mb(sample.state),
        mb(sample.tables),
        mb(sample.log),
        sample.files,
        sample.threads,
        sample.scrubs,
        sample.evicted
    )
}

/// The most of everything, in each twelfth of the run.
fn summary(samples: &[Sample]) {
    let end = samples.last().map_or(Duration::ZERO, |sample| sample.at);
    println!("until s  rss MB  state MB  log MB  live MB  files  threads");
    for part in 1..=12_u32 {
        let until = end * part / 12;
        let from = end * (part - 1) / 12;
        let some = samples
            .iter()
            .filter(|sample| sample.at > from && sample.at <= until);
        let some: Vec<&Sample> = some.collect();
        let most = |of: fn(&Sample) -> u64| some.iter().map(|sample| of(sample)).max().unwrap_or(0);
        println!(
            "{:7}  {:6}  {:8}  {:6}  {:7}  {:5}  {:7}",
            until.as_secs(),
            most(|sample| sample.rss) >> 20,
            most(|sample| sample.state) >> 20,
            most(|sample| sample.log) >> 20,
            most(|sample| sample.live) >> 20,
            most(|sample| sample.files),
            most(|sample| sample.threads)
        );
    }
}
