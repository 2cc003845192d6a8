//! Deterministic simulation of the protocol: the real core of several replicas over a simulated
//! disk, network and operator, with faults by seed. The same seed gives the same run.
//!
//! `SIM_SEEDS=<count>` and `SIM_FIRST=<seed>` choose the seeds, e.g. to repeat one that failed.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by a panic

mod network;
mod node;
mod operator;
mod world;

use world::World;

fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(default)
}

fn run(sync: u32) {
    let first = setting("SIM_FIRST", 1);
    let (mut commits, mut promotions, mut crashes) = (0, 0, 0);
    let count = setting("SIM_SEEDS", 300);
    for seed in first..first + count {
        println!("SIM_FIRST={seed} SIM_SEEDS=1 (sync {sync})");
        let mut world = World::new(seed, 3, sync);
        world.run_with_faults(3000);
        world.heal_and_converge();
        commits += world.commits();
        promotions += world.promotions();
        crashes += world.crashes();
    }
    println!("{count} seeds, {commits} commits, {promotions} promotions, {crashes} crashes");
    if count >= 100 {
        assert!(
            commits > 1000 && promotions > 100 && crashes > 100,
            "the runs exercise nothing"
        );
    }
}

/// Quorum mode: what was committed is in the log of every later leader.
#[test]
fn nothing_committed_is_lost_with_one_synchronous_follower() {
    run(1);
}

#[test]
fn nothing_committed_is_lost_with_two_synchronous_followers() {
    run(2);
}

/// Asynchronous mode with an operator that always waits for the old leader's own promise.
#[test]
fn nothing_durable_is_lost_when_the_old_leader_is_waited_for() {
    run(0);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let mut world = World::new(seed, 3, 1);
        world.run_with_faults(2000);
        world.trace().to_owned()
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
