//! A register that was restored from an old backup: whoever is heard to be further refuses it, the
//! replicas serve on, and a store whose register is taken away begins anew with all that it has.

use std::time::Duration;

use replicated_store::replication::{Configuration, Lsn};

use super::lin::{self, Verdict};
use super::run::{planned, setup};
use super::world::World;

/// A store after some trouble, with one of its first registers, if there were promotions since.
fn troubled(seed: u64) -> Option<(World, Configuration)> {
    let mut world = World::new(seed, planned(setup(3, 3, 1)));
    let first = |world: &World| world.register.voters.len() == 3;
    world.run_until(Duration::from_secs(8), first);
    let old = world.register.clone();
    world.run_until(Duration::from_secs(8), |_| false);
    settle(&mut world);
    // Promotions since then, as a restart forgets changes of voters.
    let ahead = old.version > 0 && world.register.epoch > old.epoch;
    ahead.then_some((world, old))
}

fn settle(world: &mut World) {
    world.heal();
    let healed = world.now;
    let settled = world.run_until(healed + Duration::from_secs(40), |it| it.is_settled(healed));
    assert!(settled, "does not settle:\n{}", world.describe());
}

#[test]
fn an_old_register_is_refused_until_it_is_taken_away() {
    let mut tried = 0;
    for seed in 1..40 {
        println!("seed {seed}");
        let Some((mut world, old)) = troubled(seed) else {
            continue;
        };
        tried += 1;
        let restored = world.now;
        world.restore(old.clone());
        world.run_until(restored + Duration::from_secs(5), |_| false);
        assert_eq!(world.register, old, "somebody acted on it");
        let last = world.last_answer();
        assert!(last + Duration::from_secs(1) > world.now, "it serves on");
        let status = world.cluster.object.status.clone().unwrap_or_default();
        let said = status
            .conditions
            .iter()
            .any(|it| it.reason == "RegisterBehind");
        assert!(said, "{:?}", status.conditions);
        let most = world.machines.iter().map(|it| it.told).max();
        world.restore(Configuration::default());
        settle(&mut world);
        let leader = world
            .leader()
            .and_then(|slot| world.machines[slot].process.as_ref());
        assert!(leader.map_or(Lsn::ZERO, |it| it.tip.end) >= most.unwrap_or_default());
        assert_ne!(lin::check(&world.history), Verdict::Broken);
    }
    assert!(tried > 5, "only {tried} had promotions");
}
