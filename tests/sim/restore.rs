//! A register that is older than what the disks remember, or gone: nobody acts by it, the replicas serve
//! on, and once every volume is heard a promotion from what they remember follows. Nothing is lost.

use std::time::Duration;

use replicated_store::api::ReplicatedStoreStatus;
use replicated_store::replication::{Configuration, Lsn};

use super::event::Event;
use super::lin::{self, Verdict};
use super::run::{planned, setup};
use super::world::World;

const SECOND: Duration = Duration::from_secs(1);
/// Stores that are tried.
const TRIED: usize = 8;

/// A store after some trouble, with one of its first registers, and what it held when all was well.
struct Troubled {
    world: World,
    old: Configuration,
    last: Configuration,
    most: Lsn,
}

/// Some that have had promotions since their first register.
fn troubled() -> impl Iterator<Item = Troubled> {
    let all = (1..60).filter_map(|seed| {
        println!("seed {seed}");
        let mut world = World::new(seed, planned(setup(3, 3, 1)));
        let first = |world: &World| world.register.voters.len() == 3;
        world.run_until(SECOND * 8, first);
        let old = world.register.clone();
        world.run_until(SECOND * 8, |_| false);
        settle(&mut world);
        let last = world.register.clone();
        let ahead = old.version > 0 && last.epoch > old.epoch;
        let most = world.machines.iter().map(|it| it.told).max()?;
        ahead.then_some(Troubled {
            world,
            old,
            last,
            most,
        })
    });
    all.take(TRIED)
}

fn settle(world: &mut World) {
    world.heal();
    let healed = world.now;
    let settled = world.run_until(healed + SECOND * 40, |it| it.is_settled(healed));
    assert!(settled, "does not settle:\n{}", world.describe());
}

impl Troubled {
    /// Nobody acts by the register for so long.
    fn left_alone(&mut self, register: &Configuration, time: Duration) {
        let until = self.world.now + time;
        self.world.run_until(until, |_| false);
        assert_eq!(self.world.register, *register, "somebody acted by it");
    }

    /// What conditions say for this reason.
    fn said(&self, reason: &str) -> Option<String> {
        let status = self.world.cluster.object.status.as_ref()?;
        let mut found = status.conditions.iter().filter(|it| it.reason == reason);
        found.next().map(|it| it.message.clone())
    }

    fn restart_all(&mut self) {
        for slot in 0..self.world.machines.len() {
            self.world.stop(slot, true);
        }
    }

    /// The Pod of this one is away, with its volume, and comes back.
    fn leaves(&mut self, slot: usize) {
        self.world.stop(slot, false);
        self.world.machines[slot].pod.exists = false;
    }

    fn returns(&mut self, slot: usize) {
        self.world.machines[slot].pod.exists = true;
        self.world.at(1_000, Event::Start(slot));
    }

    /// A promotion from what the disks remember, with all that they have.
    fn recovers(mut self) {
        settle(&mut self.world);
        let (world, register) = (&self.world, &self.world.register);
        assert!(register.epoch > self.last.epoch && register.version > self.last.version);
        assert_eq!(register.store, self.last.store);
        let leader = world.leader();
        let leader = leader.and_then(|slot| world.machines[slot].process.as_ref());
        assert!(leader.map_or(Lsn::ZERO, |it| it.tip.end) >= self.most);
        assert_ne!(lin::check(&world.history), Verdict::Broken);
    }
}

#[test]
fn an_old_register_is_told_of_and_then_recovered() {
    for mut store in troubled() {
        let old = store.old.clone();
        store.world.restore(old.clone());
        store.left_alone(&old, SECOND * 19 / 10);
        let last = store.world.last_answer();
        assert!(last + SECOND > store.world.now, "it serves on");
        assert!(store.said("RegisterBehind").is_some());
        store.recovers();
    }
}

#[test]
fn an_old_register_is_not_believed_after_a_restart_of_all() {
    for mut store in troubled() {
        store.world.restore(store.old.clone());
        store.restart_all();
        store.recovers();
    }
}

#[test]
fn a_register_that_is_gone_is_recovered() {
    for (number, mut store) in troubled().enumerate() {
        store.world.restore(Configuration::default());
        if number % 2 == 0 {
            // The object was deleted, and made again.
            store.world.report(ReplicatedStoreStatus::default());
        }
        if number % 4 < 2 {
            store.restart_all();
        }
        store.recovers();
    }
}

#[test]
fn a_volume_that_is_away_is_waited_for() {
    for (number, mut store) in troubled().enumerate() {
        let away = number % 3;
        let register = [store.old.clone(), Configuration::default()][number % 2].clone();
        store.leaves(away);
        store.world.restore(register.clone());
        store.left_alone(&register, SECOND * 6);
        let reason = ["RegisterBehind", "Starting"][number % 2];
        let said = store.said(reason).unwrap_or_default();
        assert!(said.contains(&format!("orders-{away}")), "{said}");
        store.returns(away);
        store.recovers();
    }
}

#[test]
fn a_volume_that_is_given_up_is_not_waited_for() {
    for (number, mut store) in troubled().enumerate() {
        let away = number % 3;
        store.leaves(away);
        let gone = Configuration::default();
        store.world.restore(gone.clone());
        store.left_alone(&gone, SECOND * 4);
        let given_up = format!("orders-{away}");
        store
            .world
            .cluster
            .specify(|spec| spec.bootstrap.accept_loss = vec![given_up]);
        let now = store.world.now;
        let leads = |world: &World| world.leader().is_some();
        assert!(store.world.run_until(now + SECOND * 60, leads));
        store.returns(away);
        store.recovers();
    }
}
