//! Random faults, random deaths of the operator, then peace.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::world::World;
use super::super::{Decision, Reason, decide};

/// It must come to rest with a leader that has everything that was acknowledged, if replication is
/// synchronous. That two never answer at a time, that epochs and versions rise, that a replaced
/// set counts until it may be forgotten, and that labels are never double is asserted at every
/// step.
#[test]
fn whatever_happens_it_comes_to_rest() {
    for seed in 0..seeds() {
        let mut rng = SmallRng::seed_from_u64(seed);
        let sync = rng.random_range(0..3);
        let mut world = World::synchronous(rng.random_range(2..6), sync);
        for _ in 0..80 {
            fault(&mut world, &mut rng);
            world.tick_workload();
            for _ in 0..rng.random_range(1..8) {
                world.tick_data(rng.random_bool(0.5), rng.random_bool(0.8));
            }
            let steps = if rng.random_bool(0.3) {
                rng.random_range(1..6)
            } else {
                usize::MAX
            };
            world.reconcile(steps);
            if rng.random_bool(0.1) {
                world.forget();
            }
        }
        for replica in world.replicas.values_mut() {
            (replica.up, replica.deaf, replica.cut, replica.frozen) = (true, false, false, false);
            replica.status.leaving = false;
        }
        world.view.store.fenced.clear();
        world.view.store.target = None;
        if std::env::var_os("PLAN_SEEDS").is_some() {
            println!("seed {seed}");
        }
        world.converge();
        world.look();
        if matches!(decide(&world.view), Decision::Wait(it) if it.reason == Reason::NoVoterLeft) {
            // The user gives up what is gone, by its place, and the store goes on with what there is.
            world.view.store.accept_loss = world.view.formerly.values().copied().collect();
            world.converge();
            let goes_on = world.answering().is_some();
            assert!(
                goes_on,
                "seed {seed}: nothing can be given up\n{}",
                world.describe()
            );
            continue;
        }
        let leader = world
            .answering()
            .unwrap_or_else(|| panic!("seed {seed}: nobody leads\n{}", world.describe()));
        let log = world.replicas[&leader].log();
        let lost = world.acknowledged.iter().find(|it| !log.contains(it));
        assert!(
            sync == 0 || lost.is_none(),
            "seed {seed}: {lost:?} was acknowledged and is gone\n{}",
            world.describe()
        );
    }
}

/// `PLAN_SEEDS` runs more.
fn seeds() -> u64 {
    let more = std::env::var("PLAN_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    more.unwrap_or(400)
}

fn fault(world: &mut World, rng: &mut SmallRng) {
    let ordinal = rng.random_range(0..5);
    match rng.random_range(0..14) {
        0 => world.restart(ordinal),
        1 => world.delete_pod(ordinal),
        2 if rng.random_bool(0.2) => world.lose_disk(ordinal),
        3 => world.view.store.replicas = rng.random_range(2..=5),
        4 => world.revision += u32::from(rng.random_bool(0.3)),
        5 => world.view.store.target = Some(rng.random_range(0..world.view.store.replicas)),
        6 => {
            world.view.store.fenced.clear();
            if rng.random_bool(0.5) {
                world.view.store.fenced.insert(ordinal);
            }
        }
        other => {
            if let Some(replica) = world.replicas.get_mut(&ordinal) {
                match other {
                    7 | 8 => replica.up = !replica.up,
                    9 => replica.deaf = !replica.deaf,
                    10 | 11 => replica.cut = !replica.cut,
                    12 => replica.frozen = !replica.frozen,
                    _ => replica.status.leaving = true,
                }
            }
        }
    }
}
