//! Runs of the simulation over many seeds.

use std::time::Duration;

use super::bug::Bug;
use super::check::Counts;
use super::faults::Menu;
use super::lin::{self, Verdict};
use super::world::{Operators, Setup, World};

/// For so long things go wrong.
const TROUBLE: Duration = Duration::from_secs(8);
/// So long after that everything is as it should be.
const RECOVERY: Duration = Duration::from_secs(12);
/// The real operator is patient: it waits for what may pass by itself.
const PLANNED_RECOVERY: Duration = Duration::from_secs(40);

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(default)
}

/// One run: what went on, or a panic.
pub(crate) fn run(seed: u64, setup: Setup) -> (Counts, String) {
    let mut world = World::new(seed, setup);
    if std::env::var("SIM_DEBUG").is_ok() {
        while world.now < TROUBLE {
            let next = world.now + Duration::from_millis(100);
            world.run_until(next, |_| false);
            eprintln!("{}", std::mem::take(&mut world.trace));
        }
    }
    world.run_until(TROUBLE, |_| false);
    conclude(world)
}

/// Puts everything right, and judges the run: what went on, or a panic.
pub(crate) fn conclude(mut world: World) -> (Counts, String) {
    let setup = world.setup;
    world.heal();
    let healed = world.now;
    let recovery = match setup.operators {
        Operators::Erratic => RECOVERY,
        Operators::Plan | Operators::Mixed => PLANNED_RECOVERY,
    };
    let settled = world.run_until(healed + recovery, |world| world.is_settled(healed));
    assert!(settled, "does not settle:\n{}", world.describe());
    if !world.checker.gave_up {
        let verdict = lin::check(&world.history);
        assert_ne!(verdict, Verdict::Broken, "not linearizable");
        world.checker.counts.undecided += u64::from(verdict == Verdict::Unknown);
    }
    (world.checker.counts, world.trace)
}

pub(crate) fn setup(machines: usize, voters: usize, sync: u32) -> Setup {
    Setup {
        machines,
        voters,
        sync,
        changes_sync: false,
        blocks: false,
        bug: Bug::None,
        menu: Menu::ALL,
        lease: Duration::from_millis(300),
        operators: Operators::Erratic,
    }
}

fn run_all(name: &str, setup: Setup) {
    let usual = match setup.operators {
        Operators::Erratic => 100,
        Operators::Plan | Operators::Mixed => 25,
    };
    let (first, count) = (setting("SIM_FIRST", 1), setting("SIM_SEEDS", usual));
    let mut total = Counts::default();
    for seed in first..first + count {
        println!("SIM_FIRST={seed} SIM_SEEDS=1 cargo test --test sim {name}");
        let (counts, _) = run(seed, setup);
        total.add(&counts);
    }
    println!("{count} seeds: {total:?}");
    if count >= 100 {
        total.assert_busy();
    }
}

#[test]
fn three_with_one_synchronous_follower() {
    run_all("three_with_one", setup(3, 3, 1));
}

#[test]
fn three_with_two_synchronous_followers() {
    run_all("three_with_two", setup(3, 3, 2));
}

#[test]
fn two_with_a_learner() {
    run_all("two_with_a_learner", setup(3, 2, 1));
}

#[test]
fn asynchronous() {
    run_all("asynchronous", setup(3, 3, 0));
}

#[test]
fn durability_that_changes() {
    let setup = Setup {
        changes_sync: true,
        ..setup(3, 3, 1)
    };
    run_all("durability_that_changes", setup);
}

#[test]
fn five_with_two_synchronous_followers() {
    run_all("five", setup(5, 5, 2));
}

/// Many promotions, and a network that is slow for leases that short.
pub(crate) fn restless(machines: usize, sync: u32) -> Setup {
    let menu = Menu {
        pause_us: 700_000,
        stops: 2,
        pauses: 2,
        disks: 1,
        losses: 0,
        rots: 0,
        delay_us: 60_000,
        whims: 40,
        removals: 3,
        ..Menu::ALL
    };
    Setup {
        menu,
        ..setup(machines, machines, sync)
    }
}

#[test]
fn restless_with_three() {
    run_all("restless_with_three", restless(3, 1));
}

#[test]
fn restless_with_two() {
    run_all("restless_with_two", restless(2, 1));
}

/// No reply rests on what fewer followers have than are asked for.
pub(crate) fn blocking(setup: Setup) -> Setup {
    Setup {
        blocks: true,
        ..setup
    }
}

#[test]
fn blocking_with_two() {
    run_all("blocking_with_two", blocking(setup(2, 2, 1)));
}

#[test]
fn blocking_with_two_of_three() {
    run_all("blocking_with_two_of_three", blocking(setup(3, 3, 2)));
}

/// As the shipped operator decides, while the user changes what is wanted.
pub(crate) fn planned(setup: Setup) -> Setup {
    Setup {
        operators: Operators::Plan,
        ..setup
    }
}

/// One operator as it is shipped, and one that does whatever the protocol allows.
pub(crate) fn mixed(setup: Setup) -> Setup {
    Setup {
        operators: Operators::Mixed,
        ..setup
    }
}

#[test]
fn planned_with_one_synchronous_follower() {
    run_all("planned_with_one", planned(setup(3, 3, 1)));
}

#[test]
fn planned_with_two_of_two() {
    run_all("planned_with_two_of_two", planned(setup(2, 2, 1)));
}

#[test]
fn planned_with_five() {
    run_all("planned_with_five", planned(setup(5, 3, 2)));
}

#[test]
fn planned_asynchronous() {
    run_all("planned_asynchronous", planned(setup(3, 3, 0)));
}

#[test]
fn planned_durability_that_changes() {
    let setup = Setup {
        changes_sync: true,
        ..setup(4, 3, 1)
    };
    run_all("planned_durability", planned(setup));
}

#[test]
fn planned_and_restless() {
    run_all("planned_and_restless", planned(restless(3, 1)));
}

/// Registers, objects and volumes that go back, or away.
pub(crate) fn fateful(setup: Setup) -> Setup {
    let menu = Menu {
        fates: 16,
        pause_us: 900_000,
        ..setup.menu
    };
    Setup { menu, ..setup }
}

#[test]
fn planned_with_fates() {
    run_all("planned_with_fates", fateful(planned(setup(3, 3, 1))));
}

#[test]
fn planned_with_fates_of_four() {
    run_all(
        "planned_with_fates_of_four",
        fateful(planned(setup(4, 3, 2))),
    );
}

#[test]
fn planned_beside_an_erratic_one() {
    run_all("planned_beside", mixed(setup(3, 3, 1)));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| run(seed, setup(3, 3, 1)).1;
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
